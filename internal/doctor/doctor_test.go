package doctor_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/internal/doctor"
)

var now = time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)

const (
	day = 24 * time.Hour
	gib = 1 << 30
)

// well is a fleet in which nothing is wrong.
func well() doctor.Fleet {
	return doctor.Fleet{
		Nodes: 100, Online: 99, Secrets: 1, Notifiers: 1, StreamBytes: 1, StreamMax: gib, Approvals: true,
		Sinks: []doctor.Sink{{Name: "siem", State: "running"}},
	}
}

func with(change func(*doctor.Fleet)) []doctor.Check {
	f := well()
	change(&f)
	return f.Check()
}

// TestCheck: each thing that is wrong is found, said, and has a next step.
func TestCheck(t *testing.T) {
	t.Parallel()
	one := func(c doctor.Check) []doctor.Check { return []doctor.Check{c} }
	cert := func(from, until time.Duration) *x509.Certificate {
		return &x509.Certificate{NotBefore: now.Add(from), NotAfter: now.Add(until), DNSNames: []string{"muster.example.com"}}
	}
	good := doctor.Settings{PublicURL: "https://muster.example.com", AgentNames: 1, AdminListen: "127.0.0.1:8080", AdminLocal: true, Witnesses: 1}
	settings := func(change func(*doctor.Settings)) []doctor.Check {
		s := good
		change(&s)
		return s.Check()
	}
	for what, c := range map[string]struct {
		checks []doctor.Check
		want   doctor.Status
		saw    string // of the worst
	}{
		"disk":            {doctor.Disk{Free: 50 * gib, Total: 100 * gib, InodesFree: 50, InodesTotal: 100}.Check(), doctor.OK, "50.0 GiB of 100.0 GiB"},
		"little disk":     {doctor.Disk{Free: 9 * gib, Total: 100 * gib}.Check(), doctor.Warn, "9.0 GiB"},
		"no disk":         {doctor.Disk{Free: 100 << 20, Total: gib}.Check(), doctor.Fail, "100.0 MiB"},
		"no inodes":       {doctor.Disk{Free: 50 * gib, Total: 100 * gib, InodesFree: 1, InodesTotal: 100}.Check(), doctor.Warn, "1%"},
		"new":             {one(doctor.Growth{}.Check(now)), doctor.OK, "too few days"},
		"it fits":         {one(doctor.Growth{Bytes: 10 * gib, Oldest: now.Add(-10 * day), Retention: 30 * day, Free: 25 * gib}.Check(now)), doctor.OK, "1.0 GiB a day"},
		"it does not fit": {one(doctor.Growth{Bytes: 10 * gib, Oldest: now.Add(-10 * day), Retention: 90 * day, Free: 20 * gib}.Check(now)), doctor.Warn, "enough for 20 days"},
		"soon full":       {one(doctor.Growth{Bytes: 10 * gib, Oldest: now.Add(-10 * day), Retention: 90 * day, Free: 3 * gib}.Check(now)), doctor.Fail, "enough for 3 days"},
		"for ever":        {one(doctor.Growth{Bytes: 10 * gib, Oldest: now.Add(-10 * day), Free: 300 * gib}.Check(now)), doctor.Warn, "retention is 0"},
		"bounded":         {one(doctor.Growth{Bytes: 10 * gib, Oldest: now.Add(-10 * day), MaxBytes: 12 * gib, Free: 3 * gib}.Check(now)), doctor.OK, "12.0 GiB"},
		"limits":          {doctor.Limits{Files: 65536, Memory: 4 * gib}.Check(), doctor.OK, ""},
		"no limits":       {doctor.Limits{Files: 1 << 60}.Check(), doctor.OK, "any number"},
		"few files":       {doctor.Limits{Files: 1024}.Check(), doctor.Warn, "1024"},
		"little memory":   {doctor.Limits{Files: 65536, Memory: 256 << 20}.Check(), doctor.Warn, "256.0 MiB"},
		"no memory":       {doctor.Limits{Files: 65536, Memory: 64 << 20}.Check(), doctor.Fail, "64.0 MiB"},
		"certificate":     {one(doctor.Certificate("c", cert(-day, 90*day), []string{"muster.example.com"}, now)), doctor.OK, "until 2027-03-01"},
		"it ends":         {one(doctor.Certificate("c", cert(-day, 20*day), nil, now)), doctor.Warn, "20 days"},
		"it ends soon":    {one(doctor.Certificate("c", cert(-day, 2*day), nil, now)), doctor.Fail, "2 days"},
		"it ended":        {one(doctor.Certificate("c", cert(-9*day, -3*day), nil, now)), doctor.Fail, "3 days ago"},
		"not yet":         {one(doctor.Certificate("c", cert(day, 9*day), nil, now)), doctor.Fail, "from"},
		"other name":      {one(doctor.Certificate("c", cert(-day, 90*day), []string{"other.example.com"}, now)), doctor.Fail, "not for other.example.com"},
		"clock":           {one(doctor.Clock("the server", now.Add(time.Second), now)), doctor.OK, "1s"},
		"clock ahead":     {one(doctor.Clock("the server", now.Add(time.Minute), now)), doctor.Warn, "1m0s"},
		"clock far back":  {one(doctor.Clock("the server", now.Add(-time.Hour), now)), doctor.Fail, "1h0m0s"},
		"version":         {one(doctor.Version("1.0", "1.0")), doctor.OK, "1.0"},
		"other version":   {one(doctor.Version("1.0", "1.1")), doctor.Warn, "1.1"},
		"backup":          {one(doctor.Backup(now.Add(-time.Hour), now)), doctor.OK, "1h"},
		"no backup":       {one(doctor.Backup(time.Time{}, now)), doctor.Warn, "none"},
		"old backup":      {one(doctor.Backup(now.Add(-5*day), now)), doctor.Warn, "5 days"},
		"very old backup": {one(doctor.Backup(now.Add(-50*day), now)), doctor.Fail, "50 days"},

		"settings":       {good.Check(), doctor.OK, ""},
		"no public_url":  {settings(func(s *doctor.Settings) { s.PublicURL = "" }), doctor.Warn, "no links"},
		"loopback":       {settings(func(s *doctor.Settings) { s.PublicURL = "http://localhost:8080" }), doctor.Warn, "their own machine"},
		"no agents":      {settings(func(s *doctor.Settings) { s.AgentNames = 0 }), doctor.Warn, "agents elsewhere refuse it"},
		"own agent cert": {settings(func(s *doctor.Settings) { s.AgentNames, s.AgentCert = 0, true }), doctor.OK, ""},
		"open to all":    {settings(func(s *doctor.Settings) { s.AdminLocal = false }), doctor.Fail, "without TLS"},
		"with TLS":       {settings(func(s *doctor.Settings) { s.AdminLocal, s.AdminTLS = false, true }), doctor.OK, ""},
		"no witness":     {settings(func(s *doctor.Settings) { s.Witnesses = 0 }), doctor.Warn, "nobody outside"},

		"fleet":           {well().Check(), doctor.OK, ""},
		"nobody":          {with(func(f *doctor.Fleet) { f.Nodes, f.Online = 0, 0 }), doctor.Warn, "none has enrolled"},
		"some are away":   {with(func(f *doctor.Fleet) { f.Online = 85 }), doctor.Warn, "15 of 100"},
		"most are away":   {with(func(f *doctor.Fleet) { f.Online = 20; f.Findings = map[string]int{"silent": 3} }), doctor.Fail, "3 poll and log nothing"},
		"stream":          {with(func(f *doctor.Fleet) { f.StreamBytes = 600 << 20 }), doctor.Warn, "58%"},
		"stream full":     {with(func(f *doctor.Fleet) { f.StreamBytes = gib }), doctor.Fail, "100%"},
		"audit":           {with(func(f *doctor.Fleet) { f.AuditBroken = "entry 7 is another" }), doctor.Fail, "entry 7"},
		"witness":         {with(func(f *doctor.Fleet) { f.WitnessLag = map[string]int64{"https://w": 9} }), doctor.Warn, "https://w"},
		"open secret":     {with(func(f *doctor.Fleet) { f.OpenSecrets = []string{"servers"} }), doctor.Warn, "servers can be used by anybody"},
		"no approvals":    {with(func(f *doctor.Fleet) { f.Approvals = false }), doctor.Warn, "one person"},
		"no notifier":     {with(func(f *doctor.Fleet) { f.Notifiers = 0 }), doctor.Warn, "reach nobody"},
		"dead letters":    {with(func(f *doctor.Fleet) { f.DeadLetters = map[string]int{"oncall": 2} }), doctor.Fail, "oncall"},
		"late":            {with(func(f *doctor.Fleet) { f.Waiting = time.Hour }), doctor.Warn, "1h"},
		"no sink":         {with(func(f *doctor.Fleet) { f.Sinks = nil }), doctor.Warn, "this server alone"},
		"sink fails":      {with(func(f *doctor.Fleet) { f.Sinks[0].State, f.Sinks[0].Error = "failing", "403" }), doctor.Fail, "403"},
		"sink lost":       {with(func(f *doctor.Fleet) { f.Sinks[0].Lost = 5 }), doctor.Fail, "5 messages"},
		"sink paused":     {with(func(f *doctor.Fleet) { f.Sinks[0].State = "paused" }), doctor.Warn, "paused"},
		"sink refused":    {with(func(f *doctor.Fleet) { f.Sinks[0].Dead = 5 }), doctor.Warn, "5 events"},
		"sink far behind": {with(func(f *doctor.Fleet) { f.Sinks[0].Behind = 2 * time.Hour }), doctor.Warn, "behind"},
		"damaged":         {with(func(f *doctor.Fleet) { f.LostSegments, f.LostEvents = 1, 500 }), doctor.Fail, "500 events"},
		"safe config":     {with(func(f *doctor.Fleet) { f.SafeConfig = true }), doctor.Warn, "run nothing"},
		"freeze":          {with(func(f *doctor.Fleet) { f.Frozen = true }), doctor.Warn, "refused"},
	} {
		if got := doctor.Worst(c.checks); got != c.want {
			t.Errorf("%s: %s, want %s: %+v", what, got, c.want, c.checks)
		}
		said := false
		for _, check := range c.checks {
			said = said || check.Status == c.want && strings.Contains(check.Saw, c.saw)
			if check.Name == "" || check.Saw == "" || (check.Do == "") != (check.Status == doctor.OK) {
				t.Errorf("%s: %+v", what, check)
			}
		}
		if !said {
			t.Errorf("%s: nothing says %q: %+v", what, c.saw, c.checks)
		}
	}
}
