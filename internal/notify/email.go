package notify

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	"github.com/wneessen/go-mail"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/egress"
	"github.com/musterhq/muster/internal/errs"
	"github.com/musterhq/muster/internal/resource"
)

const (
	// mailTimeout is for one mail, from the connection to its acceptance.
	mailTimeout = 25 * time.Second
	// maxSubject keeps the subject on two lines of a mail.
	maxSubject = 150
	// permanent is the first of the codes by which a server refuses for good.
	permanent = 500
)

//go:embed email.html
var mailHTML string

// mail sends one mail to all receivers.
func (d *delivery) mail(ctx context.Context, e *resource.Email) (string, error) {
	m, err := d.compose(e)
	if err != nil {
		return "", err
	}
	line := &mailLine{guard: d.s.Guard}
	defer line.close() // the library leaves it open when it cannot log in
	c, err := d.mailClient(e, line)
	if err != nil {
		return "", err
	}
	connection, err := c.DialToSMTPClientWithContext(ctx)
	if err != nil {
		return "", err // also of a wrong password, which somebody may mend
	}
	err = c.SendWithSMTPClient(connection, m)
	_ = c.CloseWithSMTPClient(connection) // the mail was taken or not, whatever becomes of the farewell
	if err != nil {
		return "", mailError(err)
	}
	return strings.TrimSpace("the mail server took it: " + alert.Line(m.ServerResponse(), maxShown)), nil
}

// mailError tells what will never be taken from what may be.
func mailError(err error) error {
	e, ok := errors.AsType[*mail.SendError](err)
	if !ok {
		return err
	}
	text := errs.New(errs.Invalid, "the mail server refused it: %s", alert.Line(e.Error(), maxShown))
	return &alert.SendError{Refused: e.ErrorCode() >= permanent && !e.IsTemp(), Err: text}
}

// compose writes the mail: text, and HTML that shows the same.
func (d *delivery) compose(e *resource.Email) (*mail.Msg, error) {
	m := mail.NewMsg(mail.WithNoDefaultUserAgent())
	if err := m.From(e.From); err != nil {
		return nil, errs.New(errs.Invalid, "email.from is no address")
	}
	if err := m.To(e.To...); err != nil {
		return nil, errs.New(errs.Invalid, "email.to has what is no address")
	}
	m.Subject(alert.Line(d.headline(), maxSubject))
	m.SetDateWithValue(d.m.SentAt)
	m.SetMessageIDWithValue(d.m.ID + "@" + domain(e.From)) // the same when it is sent again
	m.SetGenHeader("Auto-Submitted", "auto-generated")     // RFC 3834: nobody is to answer by itself
	m.SetGenHeader("X-Muster-Notifier", alert.Line(d.m.Notifier, maxSubject))
	view := d.view()
	m.SetBodyString(mail.TypeTextPlain, view.text())
	html, err := template.New("mail").Parse(mailHTML)
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	if err := html.Execute(&b, view); err != nil {
		return nil, err
	}
	m.AddAlternativeString(mail.TypeTextHTML, b.String())
	return m, nil
}

// domain of an address that was checked.
func domain(address string) string {
	a, err := netmail.ParseAddress(address)
	if err != nil {
		return "muster.invalid"
	}
	_, host, _ := strings.Cut(a.Address, "@")
	return host
}

// mailView is what a mail shows.
type mailView struct {
	Headline string
	Test     bool
	More     int
	Alerts   []mailAlert
}

type mailAlert struct {
	Title, Verb, Text, URL, Color string
	Facts, Columns                [][2]string
}

func (d *delivery) view() mailView {
	v := mailView{Headline: d.headline(), Test: d.m.Test, More: d.m.More}
	for i := range d.m.Items {
		item := &d.m.Items[i]
		t := d.telling(item)
		a := mailAlert{Title: t.Title, Verb: verb(item), Text: t.Text, URL: t.URL, Color: color(item), Facts: facts(&t)}
		for _, k := range sortedKeys(t.Columns) {
			a.Columns = append(a.Columns, [2]string{k, t.Columns[k]})
		}
		v.Alerts = append(v.Alerts, a)
	}
	return v
}

func (v mailView) text() string {
	var b strings.Builder
	for _, a := range v.Alerts {
		mark := ""
		if a.Verb != "" {
			mark = "[" + a.Verb + "] "
		}
		fmt.Fprintf(&b, "%s%s\n", mark, a.Title)
		if a.URL != "" {
			fmt.Fprintf(&b, "%s\n", a.URL)
		}
		b.WriteString("\n")
		if a.Text != "" {
			fmt.Fprintf(&b, "%s\n\n", a.Text)
		}
		for _, f := range a.Facts {
			fmt.Fprintf(&b, "  %s: %s\n", f[0], f[1])
		}
		for _, f := range a.Columns {
			fmt.Fprintf(&b, "    %s = %s\n", f[0], f[1])
		}
		b.WriteString("\n-- \n\n")
	}
	if v.More > 0 {
		fmt.Fprintf(&b, "%d more follow in another mail.\n", v.More)
	}
	return strings.TrimSuffix(b.String(), "-- \n\n")
}

// mailClient returns a client of the mail server. TLS is not a matter of what the
// server offers.
func (d *delivery) mailClient(e *resource.Email, line *mailLine) (*mail.Client, error) {
	host, port, err := net.SplitHostPort(e.Server)
	if err != nil {
		return nil, errs.New(errs.Invalid, "email.server is no host:port")
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, errs.New(errs.Invalid, "email.server has no number for a port")
	}
	ca, err := d.secret(e.CA)
	if err != nil {
		return nil, err
	}
	config, err := trust(ca)
	if err != nil {
		return nil, err
	}
	config.ServerName = host
	options := []mail.Option{
		mail.WithPort(number), mail.WithTimeout(mailTimeout), mail.WithTLSConfig(config), mail.WithTLSPolicy(mail.TLSMandatory),
		mail.WithDialContextFunc(line.dial),
	}
	switch e.TLS {
	case "tls":
		line.tls = config
		options = append(options, mail.WithSSL())
	case "none":
		options = append(options, mail.WithTLSPolicy(mail.NoTLS))
	}
	if e.Password != nil {
		password, err := d.secret(e.Password)
		if err != nil {
			return nil, err
		}
		options = append(options, mail.WithUsername(e.Username), mail.WithPassword(password),
			mail.WithOpportunisticSMTPAuth(mail.SMTPAuthSCRAMSHA256, mail.SMTPAuthSCRAMSHA1, mail.SMTPAuthPlain, mail.SMTPAuthLogin))
	}
	return mail.NewClient(host, options...)
}

// mailLine is the connection of one mail.
type mailLine struct {
	guard *egress.Guard
	tls   *tls.Config // to speak TLS at once: the library does not, where it does not dial itself
	conn  net.Conn
}

func (l *mailLine) dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := l.guard.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	l.conn = c
	if l.tls == nil {
		return c, nil
	}
	t := tls.Client(c, l.tls)
	return t, t.HandshakeContext(ctx)
}

func (l *mailLine) close() {
	if l.conn != nil {
		_ = l.conn.Close() // it may be closed
	}
}
