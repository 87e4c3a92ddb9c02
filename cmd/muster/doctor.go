package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/doctor"
)

const doctorLong = `Look how a server fares, and say what to do. It asks the server that you are logged in
to, connects to the agents' listener as an agent would, and compares versions and
clocks. With --data-dir or --config it also looks at the data directory on this
machine, which works when the server is down. It changes nothing.

Exit codes: 0 all is well, 1 something is doubtful, 2 something is wrong.`

// doctorTimeout bounds each thing that is asked.
const doctorTimeout = 10 * time.Second

// visit is what muster doctor looks at.
type visit struct {
	target

	file, dir           string
	agents, agentsCA    string
	now                 func() time.Time
	adminURL, agentsURL string
}

// diagnosis is what muster doctor prints.
type diagnosis struct {
	Status doctor.Status  `json:"status"`
	Checks []doctor.Check `json:"checks"`
}

func newDoctorCommand() *cobra.Command {
	v := visit{now: time.Now}
	var o output
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look how a server fares, and say what to do", Args: noArgs, Long: doctorLong,
		Example: `  muster doctor
  muster doctor --data-dir /var/lib/muster      # the server is down
  muster doctor --config /etc/muster/muster.yaml -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			checks, err := v.look(cmd.Context())
			if err != nil {
				return err
			}
			if err := printDiagnosis(cmd, &o, diagnosis{doctor.Worst(checks), checks}); err != nil {
				return err
			}
			return verdict(checks)
		},
	}
	v.flags(cmd)
	o.flag(cmd, "table", "json", "yaml", "csv")
	f := cmd.Flags()
	f.StringVar(&v.dir, "data-dir", "", "data directory of the server, on this machine")
	f.StringVar(&v.file, "config", os.Getenv("MUSTER_CONFIG"), "file of settings of the server, on this machine (MUSTER_CONFIG)")
	f.StringVar(&v.agents, "agents", "", "host:port under which agents reach the server, if not as the server says")
	f.StringVar(&v.agentsCA, "agents-ca", "", "PEM file that agents pin, if it is not the server's own CA")
	return cmd
}

// printDiagnosis prints what is worst first; to people with what to do below.
func printDiagnosis(cmd *cobra.Command, o *output, d diagnosis) error {
	order := []doctor.Status{doctor.Fail, doctor.Warn, doctor.OK}
	slices.SortStableFunc(d.Checks, func(a, b doctor.Check) int {
		return cmp.Compare(slices.Index(order, a.Status), slices.Index(order, b.Status))
	})
	if o.form == "csv" {
		rows := [][]string{}
		for _, c := range d.Checks {
			rows = append(rows, []string{string(c.Status), c.Name, c.Saw, c.Do})
		}
		return printCSV(cmd.OutOrStdout(), []string{"STATUS", "CHECK", "SAW", "DO"}, rows)
	}
	return o.document(cmd, d, func() error {
		for _, c := range d.Checks {
			text := fmt.Sprintf("%-5s %s: %s\n", strings.ToUpper(string(c.Status)), printable(c.Name), printable(c.Saw))
			if c.Do != "" {
				text += "      " + printable(c.Do) + "\n"
			}
			if _, err := io.WriteString(cmd.OutOrStdout(), text); err != nil {
				return err
			}
		}
		return nil
	})
}

// Exit codes of muster doctor, as monitoring has them.
const (
	exitDoubtful = 1
	exitWrong    = 2
)

// verdict is the exit code.
func verdict(checks []doctor.Check) error {
	worst := doctor.Worst(checks)
	code, word := exitDoubtful, "doubtful"
	switch worst {
	case doctor.OK:
		return nil
	case doctor.Fail:
		code, word = exitWrong, "wrong"
	case doctor.Warn:
	}
	n := 0
	for _, c := range checks {
		if c.Status == worst {
			n++
		}
	}
	return &exit{code, fmt.Errorf("%d of %d things are %s", n, len(checks), word)}
}

// look makes all checks that can be made from here.
func (v *visit) look(ctx context.Context) ([]doctor.Check, error) {
	var here, there []doctor.Check
	if v.dir != "" || v.file != "" {
		here = v.local(ctx)
	}
	s, err := v.session()
	if err != nil {
		return nil, err
	}
	if s.URL == "" {
		s.URL = v.adminURL
	}
	if s.URL == "" && here == nil {
		return nil, usagef("no server to look at: log in, or give --url, or --data-dir for one on this machine")
	}
	if s.URL != "" {
		there = v.remote(ctx, s)
	}
	if v.agents != "" {
		v.agentsURL = v.agents
	}
	if v.agentsURL != "" {
		there = append(there, v.asAgent(ctx, s))
	}
	for _, c := range here { // what the server says of itself goes before
		if !slices.ContainsFunc(there, func(t doctor.Check) bool { return t.Name == c.Name }) {
			there = append(there, c)
		}
	}
	return there, nil
}

// local looks at the data directory.
func (v *visit) local(ctx context.Context) []doctor.Check {
	flags := map[string]string{}
	if v.dir != "" {
		flags["data-dir"] = v.dir
	}
	cfg, err := config.Load(v.file, os.LookupEnv, flags)
	if err != nil {
		return []doctor.Check{doctor.Bad("settings", "muster config check FILE; muster config explain KEY.", "the server does not start with them: %v", err)}
	}
	scheme := "http"
	if cfg.AdminCert != "" {
		scheme = "https"
	}
	if host, port, err := net.SplitHostPort(cfg.AdminListen); err == nil && port != "0" {
		if host == "" || net.ParseIP(host).IsUnspecified() {
			host = "localhost"
		}
		v.adminURL = scheme + "://" + net.JoinHostPort(host, port)
	}
	if v.agentsCA == "" && cfg.AgentCert == "" {
		v.agentsCA = cfg.Path("ca.pem")
	}
	if _, port, err := net.SplitHostPort(cfg.AgentListen); err == nil && port != "0" {
		name := "localhost"
		if len(cfg.AgentHostname) > 0 {
			name = cfg.AgentHostname[0]
		}
		v.agentsURL = net.JoinHostPort(name, port)
	}
	return app.DiagnoseDir(ctx, cfg, version, v.now())
}

// remote asks the server.
func (v *visit) remote(ctx context.Context, s session) []doctor.Check {
	const name = "server"
	h, err := httpClient(s.CA)
	if err != nil {
		return []doctor.Check{doctor.Bad(name, "Give the right file with --ca.", "%v", err)}
	}
	h.Timeout = doctorTimeout
	ready, err := get(ctx, h, s.URL+"/readyz")
	if err != nil {
		return []doctor.Check{doctor.Bad(name, "On its machine: systemctl status muster, journalctl -u muster, muster doctor --data-dir DIR.", "it cannot be reached: %v", err)}
	}
	checks := []doctor.Check{doctor.Well(name, "%s answers and is ready", s.URL)}
	if ready.status != http.StatusOK {
		checks[0] = doctor.Bad(name, "After a start it reads what the stream holds; if that does not end, see its log.", "%s answers and is not ready: %s", s.URL, strings.TrimSpace(ready.body))
	}
	if s.Token == "" {
		return append(checks, doctor.Check{Name: "login", Status: doctor.Warn, Saw: "not logged in, so the server says no more", Do: "muster login --url " + s.URL})
	}
	var d adminapi.Diagnosis
	asked := v.now()
	if err := adminapi.NewClient(s.URL, s.Token, h).Call(ctx, http.MethodGet, "/doctor", nil, nil, &d); err != nil {
		return append(checks, doctor.Check{Name: "login", Status: doctor.Warn, Saw: "the server does not say more: " + err.Error(), Do: "Log in with a role that has system.read for all nodes."})
	}
	v.agentsURL = d.AgentURL
	middle := asked.Add(v.now().Sub(asked) / 2)
	checks = append(checks, doctor.Version(d.Version, version), doctor.Clock("the server", d.Time, middle))
	return append(checks, d.Checks...)
}

type answer struct {
	status int
	body   string
}

func get(ctx context.Context, h *http.Client, target string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return answer{}, err
	}
	got, err := h.Do(req)
	if err != nil {
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err // the URL is said beside it
		}
		return answer{}, fmt.Errorf("%s: %w", target, err)
	}
	defer got.Body.Close() //nolint:errcheck // only read
	const most = 1 << 10
	b, err := io.ReadAll(io.LimitReader(got.Body, most))
	return answer{got.StatusCode, string(b)}, err
}

// asAgent connects to the agents' listener and checks its certificate as an agent
// does: against what it pins, and for the name in its flagfile.
func (v *visit) asAgent(ctx context.Context, s session) doctor.Check {
	const name = "agents' listener"
	host, _, err := net.SplitHostPort(v.agentsURL)
	if err != nil {
		return doctor.Bad(name, "Give host:port with --agents.", "%q is none", v.agentsURL)
	}
	roots, err := v.pinned(ctx, s)
	if err != nil {
		return doctor.Bad(name, "Give the file that agents pin with --agents-ca.", "what agents pin cannot be read: %v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, doctorTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS12}}
	conn, err := dialer.DialContext(ctx, "tcp", v.agentsURL)
	if err != nil {
		return doctor.Bad(name, handshakeAdvice(err), "%s: %v", v.agentsURL, err)
	}
	defer conn.Close()             //nolint:errcheck // nothing was sent
	spoken, ok := conn.(*tls.Conn) // what a tls.Dialer makes
	if !ok {
		return doctor.Bad(name, handshakeAdvice(err), "%s speaks no TLS", v.agentsURL)
	}
	c := doctor.Certificate(name, spoken.ConnectionState().PeerCertificates[0], []string{host}, v.now())
	if c.Status == doctor.OK {
		c.Saw = v.agentsURL + " takes agents; its certificate is " + c.Saw
	}
	return c
}

// handshakeAdvice says what to do when an agent would not connect.
func handshakeAdvice(err error) string {
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &unknown):
		return "Agents that pin this CA refuse the server. Serve a certificate of the CA that they pin, or give theirs with --agents-ca."
	case errors.As(err, &hostname):
		return "Add the name to agent_hostname, so that the certificate is for it."
	}
	return "Is the server up, and does a firewall, proxy or DNS let agents through? muster doctor --agents HOST:PORT tries another address."
}

// pinned returns what agents check the server against.
func (v *visit) pinned(ctx context.Context, s session) (*x509.CertPool, error) {
	var pem []byte
	var err error
	if v.agentsCA != "" {
		pem, err = os.ReadFile(v.agentsCA)
	} else {
		var h *http.Client
		if h, err = httpClient(s.CA); err != nil {
			return nil, err
		}
		pem, err = adminapi.NewClient(s.URL, s.Token, h).CA(ctx)
	}
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("it holds no certificate")
	}
	return pool, nil
}
