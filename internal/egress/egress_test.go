package egress_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/egress"
)

func TestGuard_Check(t *testing.T) {
	t.Parallel()
	allow, err := egress.ParseNetworks([]string{"10.1.0.0/16", "fd00::5"})
	if err != nil {
		t.Fatal(err)
	}
	g := &egress.Guard{Allow: allow}
	for address, want := range map[string]bool{
		"8.8.8.8": true, "2606:4700:4700::1111": true, "10.1.2.3": true, "::ffff:10.1.2.3": true, "fd00::5": true,
		"10.2.0.1": false, "127.0.0.1": false, "127.9.9.9": false, "::1": false, "0.0.0.0": false, "::": false,
		"169.254.169.254": false, "::ffff:169.254.169.254": false, "fe80::1": false, "fe80::1%eth0": false, "fd00:ec2::254": false,
		"100.100.100.200": false, "192.0.0.192": false, "192.168.1.1": false, "172.31.0.1": false, "224.0.0.1": false, "ff02::1": false,
		"255.255.255.255": false, "64:ff9b::a9fe:a9fe": false, "2002:a9fe:a9fe::": false, "::7f00:1": false, "2001:db8::1": false,
	} {
		if err := g.Check(netip.MustParseAddr(address)); (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
	}
	for _, text := range []string{"10.0.0.0/33", "here", "10.0.0"} {
		if _, err := egress.ParseNetworks([]string{text}); err == nil {
			t.Errorf("%s is taken", text)
		}
	}
}

// TestGuard_Client: a name that resolves to this host is refused as the address
// is; a redirect is not followed; the environment's proxy is not asked.
func TestGuard_Client(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	reached := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reached++
		http.Redirect(w, r, "/again", http.StatusFound)
	}))
	defer s.Close()
	closed := new(egress.Guard).Client(time.Minute)
	for _, target := range []string{s.URL, strings.Replace(s.URL, "127.0.0.1", "localhost", 1)} {
		answer, err := closed.Get(target)
		if err == nil {
			answer.Body.Close()
		}
		if !egress.IsRefusal(err) || reached != 0 {
			t.Errorf("%s: %v, reached %d times", target, err, reached)
		}
	}
	allow, _ := egress.ParseNetworks([]string{"127.0.0.0/8", "::1"})
	answer, err := (&egress.Guard{Allow: allow}).Client(time.Minute).Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusFound || reached != 1 {
		t.Errorf("%s, reached %d times", answer.Status, reached)
	}
	if egress.IsRefusal(errors.New("other")) {
		t.Error("any error is a refusal")
	}
}
