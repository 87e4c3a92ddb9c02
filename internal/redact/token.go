package redact

import "bytes"

// token is a secret that has a form of its own: a prefix, and so many characters
// of some classes. The forms are what providers document, or publish for scanners.
type token struct {
	kind   string
	prefix string
	body   uint16
	// min and max bound the body; 0 is no bound. A longer run is something else.
	min, max int
	// random is for prefixes that other texts have, too: the body must look
	// random.
	random bool
}

func tokens() []token {
	return []token{
		// Clouds.
		{kind: "aws", prefix: "AKIA", body: upper | digit, min: 16, max: 16},
		{kind: "aws", prefix: "ASIA", body: upper | digit, min: 16, max: 16},
		{kind: "aws", prefix: "ABIA", body: upper | digit, min: 16, max: 16},
		{kind: "aws", prefix: "ACCA", body: upper | digit, min: 16, max: 16},
		{kind: "gcp", prefix: "AIza", body: base64URL, min: 35, max: 35},
		{kind: "gcp", prefix: "GOCSPX-", body: base64URL, min: 28, max: 28},
		{kind: "gcp", prefix: "ya29.", body: base64URL | dot, min: 20},
		{kind: "alibaba", prefix: "LTAI", body: alnum, min: 16, max: 20, random: true},
		{kind: "digitalocean", prefix: "dop_v1_", body: hexLower, min: 64, max: 64},
		{kind: "digitalocean", prefix: "doo_v1_", body: hexLower, min: 64, max: 64},
		{kind: "digitalocean", prefix: "dor_v1_", body: hexLower, min: 64, max: 64},
		{kind: "databricks", prefix: "dapi", body: hexLower, min: 32, max: 32},
		{kind: "heroku", prefix: "HRKU-", body: base64URL, min: 36},
		// Code, and what builds it.
		{kind: "github", prefix: "ghp_", body: alnum, min: 36},
		{kind: "github", prefix: "gho_", body: alnum, min: 36},
		{kind: "github", prefix: "ghu_", body: alnum, min: 36},
		{kind: "github", prefix: "ghs_", body: alnum, min: 36},
		{kind: "github", prefix: "ghr_", body: alnum, min: 36},
		{kind: "github", prefix: "github_pat_", body: word, min: 36},
		{kind: "gitlab", prefix: "glpat-", body: base64URL | dot, min: 20},
		{kind: "gitlab", prefix: "gldt-", body: base64URL, min: 20},
		{kind: "gitlab", prefix: "glrt-", body: base64URL | dot, min: 20},
		{kind: "gitlab", prefix: "glcbt-", body: base64URL, min: 20},
		{kind: "gitlab", prefix: "glptt-", body: hexLower, min: 40},
		{kind: "gitlab", prefix: "glsoat-", body: base64URL, min: 20},
		{kind: "gitlab", prefix: "glft-", body: base64URL, min: 20},
		{kind: "gitlab", prefix: "glagent-", body: base64URL, min: 50},
		{kind: "bitbucket", prefix: "ATBB", body: base64URL, min: 24, random: true},
		{kind: "atlassian", prefix: "ATATT3", body: base64URL | equals, min: 100},
		{kind: "npm", prefix: "npm_", body: alnum, min: 36, max: 36},
		{kind: "pypi", prefix: "pypi-AgE", body: base64URL, min: 50},
		{kind: "rubygems", prefix: "rubygems_", body: hexLower, min: 48, max: 48},
		{kind: "docker", prefix: "dckr_pat_", body: base64URL, min: 24},
		{kind: "docker", prefix: "dckr_oat_", body: base64URL, min: 24},
		{kind: "jfrog", prefix: "AKCp", body: alnum, min: 60, random: true},
		{kind: "sonarqube", prefix: "sqp_", body: hexLower, min: 40, max: 40},
		{kind: "sonarqube", prefix: "squ_", body: hexLower, min: 40, max: 40},
		// Keepers of secrets.
		{kind: "vault", prefix: "hvs.", body: base64URL, min: 24},
		{kind: "vault", prefix: "hvb.", body: base64URL, min: 24},
		{kind: "vault", prefix: "hvr.", body: base64URL, min: 24},
		{kind: "doppler", prefix: "dp.pt.", body: alnum, min: 40},
		{kind: "doppler", prefix: "dp.st.", body: alnum | dot | dash | underscore, min: 40},
		{kind: "1password", prefix: "ops_eyJ", body: base64Any | dash | underscore, min: 100},
		{kind: "age", prefix: "AGE-SECRET-KEY-1", body: upper | digit, min: 58, max: 58},
		{kind: "terraform", prefix: ".atlasv1.", body: base64URL | equals, min: 60},
		{kind: "muster", prefix: "muster_", body: base64URL, min: 43, max: 43},
		// Talk and mail.
		{kind: "slack", prefix: "xoxb-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxp-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxa-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxr-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxs-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxe-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "xoxe.", body: alnum | dash | dot, min: 20},
		{kind: "slack", prefix: "xapp-", body: alnum | dash, min: 20},
		{kind: "slack", prefix: "hooks.slack.com/services/", body: alnum | slash, min: 30},
		{kind: "slack", prefix: "hooks.slack.com/workflows/", body: alnum | slash, min: 30},
		{kind: "discord", prefix: "discord.com/api/webhooks/", body: base64URL | slash, min: 60},
		{kind: "teams", prefix: "webhook.office.com/webhookb2/", body: alnum | slash | dash | dot, min: 60},
		{kind: "sendgrid", prefix: "SG.", body: base64URL | dot, min: 60, max: 70},
		{kind: "mailgun", prefix: "key-", body: hexLower, min: 32, max: 32},
		{kind: "telegram", prefix: ":AA", body: base64URL, min: 32, max: 33},
		// Money and shops.
		{kind: "stripe", prefix: "sk_live_", body: alnum, min: 16},
		{kind: "stripe", prefix: "sk_test_", body: alnum, min: 16},
		{kind: "stripe", prefix: "rk_live_", body: alnum, min: 16},
		{kind: "stripe", prefix: "rk_test_", body: alnum, min: 16},
		{kind: "stripe", prefix: "whsec_", body: base64Any, min: 24},
		{kind: "square", prefix: "sq0atp-", body: base64URL, min: 22},
		{kind: "square", prefix: "sq0csp-", body: base64URL, min: 43},
		{kind: "shopify", prefix: "shpat_", body: hexLower | upper, min: 32, max: 32},
		{kind: "shopify", prefix: "shpca_", body: hexLower | upper, min: 32, max: 32},
		{kind: "shopify", prefix: "shppa_", body: hexLower | upper, min: 32, max: 32},
		{kind: "shopify", prefix: "shpss_", body: hexLower | upper, min: 32, max: 32},
		// Models.
		{kind: "openai", prefix: "sk-proj-", body: base64URL, min: 40},
		{kind: "openai", prefix: "sk-svcacct-", body: base64URL, min: 40},
		{kind: "openai", prefix: "sk-", body: alnum, min: 48, max: 51, random: true},
		{kind: "anthropic", prefix: "sk-ant-", body: base64URL, min: 40},
		{kind: "huggingface", prefix: "hf_", body: alnum, min: 30, max: 40, random: true},
		{kind: "replicate", prefix: "r8_", body: alnum, min: 37, max: 37, random: true},
		// Watching and the rest.
		{kind: "grafana", prefix: "glsa_", body: word, min: 40},
		{kind: "grafana", prefix: "glc_", body: base64Any, min: 32},
		{kind: "newrelic", prefix: "NRAK-", body: upper | digit, min: 27, max: 27},
		{kind: "sentry", prefix: "sntrys_", body: base64Any | underscore, min: 60},
		{kind: "sentry", prefix: "sntryu_", body: hexLower, min: 64, max: 64},
		{kind: "dynatrace", prefix: "dt0c01.", body: upper | digit | dot, min: 80},
		{kind: "planetscale", prefix: "pscale_tkn_", body: base64URL | dot, min: 32},
		{kind: "planetscale", prefix: "pscale_pw_", body: base64URL | dot, min: 32},
		{kind: "postman", prefix: "PMAK-", body: hexLower | dash, min: 59, max: 59},
		{kind: "linear", prefix: "lin_api_", body: alnum, min: 40},
		{kind: "notion", prefix: "ntn_", body: alnum, min: 43, max: 50},
		{kind: "figma", prefix: "figd_", body: base64URL, min: 38},
		{kind: "supabase", prefix: "sbp_", body: hexLower, min: 40, max: 40},
		{kind: "fly", prefix: "fo1_", body: base64URL, min: 43},
		{kind: "tailscale", prefix: "tskey-", body: alnum | dash, min: 20},
		{kind: "pulumi", prefix: "pul-", body: hexLower, min: 40, max: 40},
	}
}

// keyword returns how a token is found.
func (t token) keyword() keyword {
	k := keyword{text: t.prefix, exact: true, weight: byForm, find: t.find}
	if len(t.prefix) < gram {
		k.after = t.body
	}
	return k
}

func (t token) find(sc *scanner, v []byte, start, end int) {
	if class(at(v, start-1))&word != 0 && class(t.prefix[0])&word != 0 {
		return // in the middle of something
	}
	most := len(v)
	if t.max > 0 {
		most = end + t.max + 1
	}
	n := run(v, end, most, t.body)
	for n > 0 && class(v[end+n-1])&(dot|dash|slash|equals) == dot {
		n-- // of a sentence
	}
	if n < t.min || t.max > 0 && n > t.max || t.random && !looksRandom(v[end:end+n]) {
		return
	}
	switch t.prefix[0] {
	case ':', '.': // what is before belongs to it
		start -= back(v, start, 32, base64URL)
	}
	sc.add(start, end+n, t.kind, byForm)
}

// What has a form, and needs more than a table to find.
func forms() []keyword {
	k := []keyword{
		{text: ".eyJ", exact: true, weight: byForm, find: findJWT},
		{text: "-----begin ", weight: byForm, find: findPEM},
		{text: "private-lines:", weight: byForm, find: findPuTTY},
	}
	for d := byte('0'); d <= '9'; d++ {
		k = append(k, keyword{text: string(d) + "Q~", exact: true, after: alnum | underscore | tilde | dot | dash, weight: byForm, find: findAzure})
	}
	return k
}

// maxHeader bounds the header of a JWT, and maxPEM the head of a PEM.
const (
	maxHeader = 512
	maxPEM    = 64
)

// findJWT finds header.payload.signature, each of base64url; header and payload
// are JSON objects, which begin with eyJ. The signature may be empty.
func findJWT(sc *scanner, v []byte, start, _ int) {
	n := back(v, start, maxHeader, base64URL)
	if n < 10 || !bytes.HasPrefix(v[start-n:], []byte("eyJ")) && !bytes.HasPrefix(v[start-n:], []byte("ewog")) {
		return
	}
	payload := run(v, start+1, len(v), base64URL)
	end := start + 1 + payload
	if payload < 10 || at(v, end) != '.' {
		return
	}
	end++
	sc.add(start-n, end+run(v, end, len(v), base64URL), "jwt", byForm)
}

// findPEM finds a private key, up to its end or that of the value, which may
// have been cut.
func findPEM(sc *scanner, v []byte, start, end int) {
	head := v[end:min(len(v), end+maxPEM)]
	i := bytes.Index(head, []byte("-----"))
	if i < 0 || !bytes.Contains(head[:i], []byte("PRIVATE KEY")) {
		return
	}
	from := end + i + 5
	stop := len(v)
	if n := bytes.Index(v[from:], []byte("-----END ")); n >= 0 {
		stop = from + n + len("-----END ")
		if n := bytes.Index(v[stop:min(len(v), stop+maxPEM)], []byte("-----")); n >= 0 {
			stop += n + 5
		}
	}
	sc.add(start, stop, "private-key", byForm)
}

// findPuTTY finds the private part of a PuTTY key file, after which only its MAC
// comes.
func findPuTTY(sc *scanner, v []byte, _, end int) {
	if end < len(v) {
		sc.add(end, len(v), "private-key", byForm)
	}
}

// findAzure finds a client secret of Entra ID: three characters, a digit, Q~ and
// 31 to 34 more.
func findAzure(sc *scanner, v []byte, start, end int) {
	const of = alnum | underscore | tilde | dot | dash
	before, after := back(v, start, 4, of), run(v, end, end+35, of)
	if before == 3 && after >= 31 && after <= 34 {
		sc.add(start-before, end+after, "azure", byForm)
	}
}
