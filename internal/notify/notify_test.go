package notify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/http"
	"net/mail"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/notify"
)

// TestEmail: a real SMTP server takes what is sent, over TLS, with a password.
func TestEmail(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"starttls", "tls"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			s := newMailServer(t, mode)
			w := newWorld(t, `
email:
  server: `+s.address+`
  tls: `+mode+`
  ca: {file: ca.pem}
  username: muster
  password: {file: password}
  from: Muster <muster@example.com>
  to: [ops@example.com, Ann <ann@example.org>]`)
			w.secret("ca.pem", s.ca)
			w.secret("password", "pass-word\n")
			answer, err := w.send(message(item(alert.Opened), item(alert.Ended)))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(answer, "took it") || s.from != "muster@example.com" || !slices.Equal(s.to, []string{"ops@example.com", "ann@example.org"}) || s.user != "muster" || !s.secure {
				t.Errorf("%s; from %s to %v as %q, TLS %v", answer, s.from, s.to, s.user, s.secure)
			}
			checkMail(t, s.mails)

			w.secret("password", "wrong-word")
			w.wantError(false, "535")
			w.secret("password", "pass-word")
			s.mu.Lock()
			s.refuse = &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such\x1b user"}
			s.mu.Unlock()
			w.wantError(true, "no such")
			s.mu.Lock()
			s.refuse = &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
			s.mu.Unlock()
			w.wantError(false, "greylisted")
			w.secret("ca.pem", otherCA(t))
			w.wantError(false, "certificate")
			if len(s.mails) != 1 {
				t.Errorf("%d mails", len(s.mails))
			}
		})
	}
}

// otherCA is one that signed nothing here.
func otherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// checkMail: nothing that a node said became a header or markup.
func checkMail(t *testing.T, mails []string) {
	t.Helper()
	if len(mails) != 1 {
		t.Fatalf("%d mails", len(mails))
	}
	m, err := mail.ReadMessage(strings.NewReader(mails[0]))
	if err != nil {
		t.Fatal(err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
	if err != nil || !strings.HasPrefix(subject, `[HIGH] <script>alert(1)</script> @channel\u000d\u000aBcc: evil@example.com on web-1 (and 1 more)`) {
		t.Errorf("subject %q, %v", subject, err)
	}
	if m.Header.Get("Bcc") != "" || m.Header.Get("Auto-Submitted") != "auto-generated" || m.Header.Get("Message-Id") != "<0123456789abcdef@example.com>" {
		t.Errorf("%v", m.Header)
	}
	_, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err != nil {
			break
		}
		b, err := io.ReadAll(quotedprintable.NewReader(p))
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := strings.Cut(p.Header.Get("Content-Type"), ";")
		parts[kind] = strings.ReplaceAll(string(b), "\r\n", "\n")
	}
	if html := parts["text/html"]; strings.Contains(html, "<script") || strings.Contains(html, "<b>*") || !strings.Contains(html, "&lt;script&gt;") ||
		!strings.Contains(html, `href="https://muster.example.com/alerts/a1"`) {
		t.Errorf("HTML: %s", html)
	}
	for _, want := range []string{"https://muster.example.com/alerts/a1", "Host: web-1", "Label team: web", `path = /tmp/\u202ex`, "[resolved]", "Fired: 3 times"} {
		if !strings.Contains(parts["text/plain"], want) {
			t.Errorf("text has no %q:\n%s", want, parts["text/plain"])
		}
	}
}

// TestEmail_plain: a server without TLS is told nothing unless that was asked for.
func TestEmail_plain(t *testing.T) {
	t.Parallel()
	s := newMailServer(t, "none")
	const spec = "email: {server: SERVER, from: a@example.com, to: [b@example.com]TLS}"
	spec2 := strings.Replace(spec, "SERVER", s.address, 1)
	w := newWorld(t, strings.Replace(spec2, "TLS}", "}", 1))
	w.wantError(false, "STARTTLS")
	w = newWorld(t, strings.Replace(spec2, "TLS}", ", tls: none}", 1))
	if _, err := w.send(message(item(alert.Opened))); err != nil || len(s.mails) != 1 || s.secure {
		t.Errorf("%v, %d mails", err, len(s.mails))
	}
	newWorldOpen(t, strings.Replace(spec2, "TLS}", ", tls: none}", 1)).wantError(false, "no public address")
}

// TestPagerDuty goes to a stand-in: PagerDuty itself cannot be had here.
func TestPagerDuty(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, false)
	r.status, r.answer = http.StatusAccepted, `{"status":"success","message":"Event processed"}`
	w := newWorld(t, "pagerduty: {routing_key: {file: key}, url: '"+r.URL+"'}")
	w.secret("key", "R0UTINGKEY")
	acked := item(alert.Acked)
	if answer, err := w.send(message(item(alert.Opened), acked, item(alert.Ended))); err != nil || !strings.Contains(answer, "202") {
		t.Fatal(answer, err)
	}
	type event struct {
		RoutingKey string `json:"routing_key"`
		Action     string `json:"event_action"`
		DedupKey   string `json:"dedup_key"`
		ClientURL  string `json:"client_url"`
		Payload    *struct {
			Summary, Source, Severity, Timestamp, Group string
			Details                                     map[string]string `json:"custom_details"`
		}
	}
	var events []event
	for _, b := range r.bodies {
		var e event
		if err := json.Unmarshal([]byte(b), &e); err != nil {
			t.Fatal(err)
		}
		if e.RoutingKey != "R0UTINGKEY" || e.DedupKey != "muster-a1" {
			t.Errorf("%+v", e)
		}
		events = append(events, e)
	}
	if len(events) != 3 || events[0].Action != "trigger" || events[1].Action != "acknowledge" || events[2].Action != "resolve" || events[1].Payload != nil {
		t.Fatalf("%+v", events)
	}
	if p := events[0].Payload; !strings.HasSuffix(p.Summary, " on web-1") || p.Source != "web-1" || p.Severity != "error" || p.Timestamp != "2026-03-29T01:30:00Z" ||
		p.Details["column path"] != `/tmp/\u202ex` || p.Details["column pid"] != "12" || p.Details["label team"] != "web" || events[0].ClientURL == "" {
		t.Errorf("%+v", p)
	}

	test := message(item(alert.Opened))
	test.Test = true
	r.bodies = nil
	if _, err := w.send(test); err != nil || len(r.bodies) != 2 || !strings.Contains(r.bodies[0], "TEST: ") || !strings.Contains(r.bodies[1], `"resolve"`) || strings.Contains(r.bodies[0], "muster-a1") {
		t.Errorf("%v: %q", err, r.bodies)
	}
	r.status, r.answer = http.StatusBadRequest, `{"message":"key R0UTINGKEY is wrong"}`
	w.wantError(true, "key ‹secret› is wrong")
	r.status, r.head = http.StatusTooManyRequests, http.Header{"Retry-After": {"7"}}
	_, err := w.send(test)
	if e, ok := err.(*alert.SendError); !ok || e.Refused || e.After != 7*time.Second { //nolint:errorlint // it is what Send promises
		t.Errorf("%+v", err)
	}
	w.secret("key", " ")
	w.wantError(false, "file key in secrets_dir holds no secret")
}

func TestSlack(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, true)
	w := newWorld(t, "slack: {url: {file: url}, ca: {file: ca.pem}, channel: '#ops'}")
	w.secret("url", r.URL+"/services/T000/B000/s3cretpath")
	w.secret("ca.pem", ca(r.Server))
	if answer, err := w.send(message(item(alert.Opened), item(alert.Ended))); err != nil || answer != "it answered 200 OK: ok" {
		t.Fatal(answer, err)
	}
	var m struct {
		Channel, Text string
		Attachments   []struct{ Title, Text, Color string }
	}
	if err := json.Unmarshal([]byte(r.bodies[0]), &m); err != nil {
		t.Fatal(err)
	}
	if m.Channel != "#ops" || len(m.Attachments) != 2 || m.Attachments[0].Color == m.Attachments[1].Color || !strings.HasPrefix(m.Attachments[1].Title, "[resolved] ") {
		t.Errorf("%+v", m)
	}
	if want := "```\n&lt;b&gt;*bold*&lt;/b&gt; &lt;!channel&gt;\nˋˋˋ\n```"; m.Attachments[0].Text != want {
		t.Errorf("got %q", m.Attachments[0].Text)
	}
	if strings.ContainsAny(m.Text, "<>") || strings.Contains(m.Text, "@channel") {
		t.Errorf("got %q", m.Text)
	}
	r.status, r.answer = http.StatusNotFound, "no_service"
	w.wantError(false, "404 Not Found: no_service")
	r.Close()
	_, err := w.send(message(item(alert.Opened)))
	if err == nil || strings.Contains(alert.ErrorText(err), "s3cretpath") {
		t.Errorf("got %v", err)
	}
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, false)
	w := newWorld(t, `
webhook:
  url: `+r.URL+`/in
  secret: {file: hmac}
  headers:
    Authorization: {file: token}`)
	w.secret("hmac", "signing-key")
	w.secret("token", "Bearer t0ken")
	r.answer = "thanks, Bearer t0ken\x1b[2J"
	answer, err := w.send(message(item(alert.Opened), item(alert.Ended)))
	if err != nil || answer != `it answered 200 OK: thanks, ‹secret›\u001b[2J` {
		t.Fatal(answer, err)
	}
	head := r.got[0].Header
	stamp := head.Get("X-Muster-Timestamp")
	if head.Get("X-Muster-Signature") != notify.Sign("signing-key", stamp, []byte(r.bodies[0])) || stamp != "1774747800" || head.Get("X-Muster-Message") != "0123456789abcdef" ||
		head.Get("Authorization") != "Bearer t0ken" || head.Get("User-Agent") != "Muster/test" {
		t.Errorf("%v", head)
	}
	if notify.Sign("signing-key", stamp, []byte(r.bodies[0]+" ")) == head.Get("X-Muster-Signature") {
		t.Error("another body has the same signature")
	}
	var doc struct {
		Version int
		Alerts  []map[string]any
	}
	if err := json.Unmarshal([]byte(r.bodies[0]), &doc); err != nil || doc.Version != 1 || len(doc.Alerts) != 2 || doc.Alerts[1]["resolved_at"] != "2026-03-29T01:31:00Z" ||
		doc.Alerts[0]["url"] != "https://muster.example.com/alerts/a1" {
		t.Errorf("%v: %s", err, r.bodies[0])
	}

	r.status, r.head = http.StatusFound, http.Header{"Location": {r.URL + "/elsewhere"}}
	w.wantError(false, "redirects are not followed")
	if len(r.got) != 2 {
		t.Errorf("%d requests", len(r.got))
	}
	w.secret("token", "a\nX-Evil: b")
	w.wantError(false, "several lines")
	newWorldOpen(t, "webhook: {url: '"+r.URL+"'}").wantError(false, "127.0.0.1 is no public address; egress_allow")
	newWorldOpen(t, "webhook: {url: 'http://[::ffff:169.254.169.254]/latest'}").wantError(false, "169.254.169.254 is no public address")
}

func TestWebhook_template(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, false)
	w := newWorld(t, `
webhook:
  url: `+r.URL+`
  body:
    message: "${severity}: ${title} on ${host_identifier} (${column.pid}) $$"
    entity: [1, 2.5, true, "${count}", "${labels}", "${label.none}", "${state}"]`)
	if _, err := w.send(message(item(alert.Opened), item(alert.Ended))); err != nil {
		t.Fatal(err)
	}
	const title = `\u003cscript\u003ealert(1)\u003c/script\u003e @channel\\u000d\\u000aBcc: evil@example.com`
	want := `{"entity":[1,2.5,true,3,{"team":"web"},"","open"],"message":"high: ` + title + ` on web-1 (12) $"}`
	if len(r.bodies) != 2 || r.bodies[0] != want || !strings.Contains(r.bodies[1], `"resolved"`) || r.got[0].Header.Get("X-Muster-Message") == r.got[1].Header.Get("X-Muster-Message") {
		t.Errorf("got  %s\nwant %s", r.bodies, want)
	}
	w = newWorld(t, `webhook: {url: '`+r.URL+`', body: {all: "${alerts}", n: "${notifier}"}}`)
	r.bodies = nil
	if _, err := w.send(message(item(alert.Opened), item(alert.Ended))); err != nil || len(r.bodies) != 1 || !strings.Contains(r.bodies[0], `"n":"n"`) {
		t.Errorf("%v %q", err, r.bodies)
	}
}

// FuzzEscape: whatever comes, a chat finds no mention and no link in it.
func FuzzEscape(f *testing.F) {
	f.Add("<!channel> @here [a](http://x) `")
	f.Fuzz(func(t *testing.T, s string) {
		got := notify.Escape(alert.Line(s, 500))
		rest := got
		for {
			i := strings.IndexByte(rest, '@')
			if i < 0 {
				break
			}
			if rest = rest[i+1:]; !strings.HasPrefix(rest, "\u200b") {
				t.Fatalf("%q: %q", s, got)
			}
		}
		if strings.ContainsAny(got, "<>`*~") || strings.Contains(got, "](") || strings.Contains(got, "://") {
			t.Fatalf("%q: %q", s, got)
		}
	})
}
