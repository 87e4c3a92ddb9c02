package redact_test

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/hostsql"
	"github.com/musterhq/muster/internal/redact"
)

// seeded is one secret in one row.
type seeded struct{ what, secret, row string }

// maker makes secrets that have the form of real ones and open nothing. They are
// put together here, by lot from a fixed seed, so that no scanner of this
// repository takes them for somebody's.
type maker struct{ r *rand.Rand }

const (
	lowers   = "abcdefghijklmnopqrstuvwxyz"
	uppers   = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits   = "0123456789"
	hexes    = digits + "abcdef"
	alphabet = lowers + uppers + digits
	urlSafe  = alphabet + "-_"
	printing = alphabet + "!#+.:?*~"
)

func (m maker) of(letters string, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[m.r.IntN(len(letters))]
	}
	return string(b)
}

func (m maker) base64(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.r.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

// tokens are secrets that are known by their form, wherever they stand.
func (m maker) tokens() map[string]string {
	jwt := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	pem := func(kind string) string {
		return "-----" + "BEGIN " + kind + "PRIVATE KEY-----\n" + m.base64(96) + "\n" + m.base64(60) + "\n-----" + "END " + kind + "PRIVATE KEY-----"
	}
	return map[string]string{
		"aws id": "AK" + "IA" + m.of(uppers+digits, 16), "aws session": "AS" + "IA" + m.of(uppers+digits, 16),
		"google key": "AI" + "za" + m.of(urlSafe, 35), "google secret": "GOC" + "SPX-" + m.of(urlSafe, 28), "google token": "ya" + "29." + m.of(urlSafe, 60),
		"azure": m.of(alphabet, 3) + "8Q" + "~" + m.of(alphabet, 31), "digitalocean": "dop" + "_v1_" + m.of(hexes, 64), "databricks": "da" + "pi" + m.of(hexes, 32),
		"github": "gh" + "p_" + m.of(alphabet, 36), "github app": "gh" + "s_" + m.of(alphabet, 36), "github fine": "github" + "_pat_" + m.of(alphabet, 22) + "_" + m.of(alphabet, 59),
		"gitlab": "gl" + "pat-" + m.of(urlSafe, 20), "gitlab runner": "gl" + "rt-" + m.of(urlSafe, 20), "npm": "np" + "m_" + m.of(alphabet, 36), "pypi": "pyp" + "i-AgEIcHlwaS5vcmc" + m.of(urlSafe, 70),
		"rubygems": "ruby" + "gems_" + m.of(hexes, 48), "docker": "dckr" + "_pat_" + m.of(urlSafe, 27), "vault": "hv" + "s." + m.of(urlSafe, 90), "vault short": "hv" + "s." + m.of(alphabet, 24), "doppler": "dp" + ".pt." + m.of(alphabet, 43),
		"slack bot": "xo" + "xb-" + m.of(digits, 12) + "-" + m.of(digits, 12) + "-" + m.of(alphabet, 24), "slack app": "xa" + "pp-1-A" + m.of(uppers+digits, 10) + "-" + m.of(digits, 13) + "-" + m.of(hexes, 64),
		"slack hook": "hooks.slack" + ".com/services/T" + m.of(uppers+digits, 8) + "/B" + m.of(uppers+digits, 8) + "/" + m.of(alphabet, 24),
		"sendgrid":   "S" + "G." + m.of(urlSafe, 22) + "." + m.of(urlSafe, 43), "telegram": m.of(digits, 9) + ":A" + "A" + m.of(urlSafe, 33), "stripe": "sk" + "_live_" + m.of(alphabet, 24), "stripe test": "rk" + "_test_" + m.of(alphabet, 99), "shopify": "shp" + "at_" + m.of(hexes, 32),
		"openai": "sk" + "-proj-" + m.of(urlSafe, 74), "anthropic": "sk" + "-ant-api03-" + m.of(urlSafe, 93) + "AA", "huggingface": "h" + "f_" + m.of(lowers+uppers, 30) + "7xK2", "grafana": "gl" + "sa_" + m.of(alphabet, 32) + "_" + m.of(hexes, 8),
		"newrelic": "NR" + "AK-" + m.of(uppers+digits, 27), "postman": "PM" + "AK-" + m.of(hexes, 24) + "-" + m.of(hexes, 34), "linear": "lin" + "_api_" + m.of(alphabet, 40), "age": "AGE-SECRET" + "-KEY-1" + m.of(uppers+digits, 58),
		"jwt":    jwt(`{"alg":"HS256","typ":"JWT"}`) + "." + jwt(`{"sub":"`+m.of(digits, 10)+`","iat":1516239022}`) + "." + m.of(urlSafe, 43),
		"muster": "muster" + "_" + m.of(urlSafe, 43), "pem": pem(""), "pem rsa": pem("RSA "), "pem openssh": pem("OPENSSH "), "pem ec": pem("EC "),
	}
}

// places are rows in which a token may stand.
func places() []string {
	return []string{
		`{"pid":"1","name":"x","cmdline":%q}|/usr/bin/app --flag %s --port 80`,
		`{"pid":"1","key":"SOME_SETTING","value":%q}|%s`,
		`{"uid":"0","time":"1","command":%q}|export X='%s'`,
		`{"path":"/etc/app.conf","line":%q}|key=%s # as it is`,
		`{"severity":"2","filename":"a.cpp","line":"1","message":%q}|request failed: {"token":"%s"}`,
		`{"id":"3f1e0b6d1b8f","env_variables":%q}|["PATH=/bin","A=%s"]`,
		`{"name":"HKCU\\Software","data":%q}|%s`,
	}
}

// named are command lines and settings in which %s is a secret by name or place;
// letters and length are what it is made of.
func named() []struct {
	row, letters string
	n            int
} {
	type t = struct {
		row, letters string
		n            int
	}
	const cmd = `{"pid":"7","cmdline":%q}|`
	const env = `{"pid":"7","key":"%k","value":%q}|%s`
	return []t{
		{cmd + "mysql -uroot -p%s shop", printing, 9},
		{cmd + "mysqldump --user=b --password=%s shop", printing, 12},
		{cmd + "sshpass -p %s ssh a@b", printing, 10},
		{cmd + "curl -u ada:%s https://a.example.com", printing, 11},
		{cmd + "curl --user 'ada:%s' https://a.example.com", printing, 14},
		{cmd + `curl -H "Authorization: Bearer %s" https://a.example.com`, urlSafe, 40},
		{cmd + "curl -H 'X-Api-Key: %s' https://a.example.com", alphabet, 32},
		{cmd + "curl -H 'Authorization: Basic %s' https://a.example.com", alphabet, 24},
		{cmd + "curl -b x -H 'Cookie: session=%s' a", alphabet, 26},
		{cmd + "wget --http-password=%s https://a", alphabet, 9},
		{cmd + "psql postgres://app:%s@db.internal:5432/app", alphabet, 16},
		{cmd + "psql postgresql://app:%s@db/app?sslmode=require", alphabet + "!$", 9},
		{cmd + "worker amqps://w:%s@mq:5671/%2f", alphabet, 20},
		{cmd + "app --redis redis://:%s@cache:6379/0", alphabet, 32},
		{cmd + "git clone https://oauth2:%s@git.example.com/a.git", alphabet, 20},
		{cmd + "env PGPASSWORD=%s psql -h db", printing, 8},
		{cmd + "MYSQL_PWD=%s mysql", printing, 12},
		{cmd + "java -Dspring.datasource.password=%s -jar a.jar", printing, 12},
		{cmd + "java -Djavax.net.ssl.keyStorePassword=%s -jar a.jar", lowers, 8},
		{cmd + "docker login -u ci -p %s registry.example.com", printing, 20},
		{cmd + "docker run -e DB_PASSWORD=%s app", printing, 10},
		{cmd + "docker run --env API_TOKEN=%s app", alphabet, 24},
		{cmd + "redis-cli -h c -a %s ping", printing, 12},
		{cmd + "vault login -method=userpass username=ada password=%s", alphabet, 10},
		{cmd + "kubectl create secret generic db --from-literal=password=%s", printing, 14},
		{cmd + "helm upgrade x y --set auth.adminPassword=%s", alphabet, 14},
		{cmd + "terraform apply -var db_password=%s", alphabet, 16},
		{cmd + "aws configure set aws_secret_access_key %s", alphabet + "/+", 40},
		{cmd + "AWS_SECRET_ACCESS_KEY=%s aws s3 ls", alphabet + "/+", 40},
		{cmd + "app --api-key %s", hexes, 32},
		{cmd + "app --api_key=%s", hexes, 40},
		{cmd + `app --client-secret "%s"`, urlSafe, 40},
		{cmd + "app -token=%s", alphabet, 20},
		{cmd + `["app","--password","%s"]`, alphabet, 9},
		{cmd + "openssl rsa -in k.pem -passin pass:%s", alphabet, 8},
		{cmd + "ldapsearch -x -D cn=admin -w %s -b dc=a", printing, 12},
		{cmd + "smbclient //s/d -U ada%%s", alphabet, 10},
		{cmd + "xfreerdp /v:h /u:ada /p:%s", alphabet, 9},
		{cmd + "sqlcmd -S h -U sa -P %s", printing, 12},
		{cmd + "app 'Server=db;Uid=sa;Pwd=%s;Database=x'", alphabet, 12},
		{cmd + "app DefaultEndpointsProtocol=https;AccountName=a;AccountKey=%s==", alphabet + "/+", 86},
		{cmd + `powershell $p = ConvertTo-SecureString "%s" -AsPlainText -Force`, printing, 12},
		{cmd + "powershell -Password %s", printing, 12},
		{cmd + "unzip -P %s a.zip", alphabet, 8},
		{cmd + "ipmitool -H h -U root -P %s chassis status", alphabet, 9},
		{cmd + `mysql -e "ALTER USER a IDENTIFIED BY '%s'"`, printing, 12},
		{cmd + "az storage blob list --sas-token se=2027&sp=rl&sig=%s%3D", alphabet, 43},
		{cmd + "curl https://a/b?access_token=%s&x=1", alphabet, 24},
		{cmd + "curl https://s3/b?X-Amz-Signature=%s", hexes, 64},
		{cmd + "snmpwalk -v3 -A %s -l authPriv h", alphabet, 12},
		{cmd + "npm config set //npm.example.com/:_authToken=%s", alphabet, 36},
		{cmd + "sonar-scanner -Dsonar.login=%s", hexes, 40},
		{cmd + "app --dsn https://%s@o1.ingest.sentry.io/12", hexes, 32},
		{cmd + "worker --seed %s", alphabet, 40},
		{strings.Replace(env, "%k", "DB_PASSWORD", 1), printing, 9},
		{strings.Replace(env, "%k", "SECRET_KEY_BASE", 1), hexes, 128},
		{strings.Replace(env, "%k", "GITHUB_TOKEN", 1), alphabet, 40},
		{strings.Replace(env, "%k", "STRIPE_API_KEY", 1), alphabet, 32},
		{strings.Replace(env, "%k", "AWS_SECRET_ACCESS_KEY", 1), alphabet + "/+", 40},
		{strings.Replace(env, "%k", "RABBITMQ_DEFAULT_PASS", 1), printing, 10},
		{strings.Replace(env, "%k", "DATABASE_URL", 1) + "postgres://a:%s@b/c", alphabet, 12},
		{strings.Replace(env, "%k", "JWT_SECRET", 1), alphabet, 32},
		{strings.Replace(env, "%k", "SENTRY_DSN", 1) + "https://%s@sentry.io/4", hexes, 32},
		{strings.Replace(env, "%k", "LICENSE", 1), urlSafe, 48},
		// What nothing tells of.
		{cmd + "sqlplus scott/%s@orcl", alphabet, 10},
		{cmd + "sh -c echo ada:%s | chpasswd", printing, 10},
		{cmd + `net user ada %s /add`, printing, 10},
		{strings.Replace(env, "%k", "SALT", 1), hexes, 32},
	}
}

func (m maker) all() []seeded {
	var all []seeded
	fill := func(what, template, secret string) seeded {
		shape, text, _ := strings.Cut(template, "|")
		text = strings.TrimPrefix(text, "%s%s")
		if strings.Count(text, "%s") > 1 { // a place of its own after that of the template
			text = strings.TrimPrefix(text, "%s")
		}
		quoted, _ := json.Marshal(strings.Replace(text, "%s", secret, 1))
		return seeded{what, secret, strings.Replace(shape, "%q", string(quoted), 1)}
	}
	for what, token := range m.tokens() {
		for _, place := range places() {
			all = append(all, fill(what, place, token))
		}
	}
	for _, n := range named() {
		for range 5 {
			_, text, _ := strings.Cut(n.row, "|")
			all = append(all, fill(text, n.row, m.of(n.letters, n.n)))
		}
	}
	return all
}

// The least recall, and the most harmless rows of 1,000 in which something is
// replaced. What a change makes better, write here.
const (
	leastRecall   = 0.955
	mostFalse     = 0.2 // in 1,000
	mostFalseHand = 0   // of the rows in testdata
)

// TestCorpus_recall counts how many of the seeded secrets are gone from their
// rows.
func TestCorpus_recall(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	all := maker{rand.New(rand.NewPCG(1, 2))}.all()
	missed := map[string]int{}
	gone := 0
	for _, s := range all {
		out := r.Row(redact.Source{}, []byte(s.row))
		var columns map[string]string
		if err := json.Unmarshal(out, &columns); err != nil {
			t.Fatalf("%s is no row: %v", out, err)
		}
		whole := fmt.Sprint(columns)
		if strings.Contains(whole, s.secret) || !strings.Contains(whole, "‹redacted:") || left(whole, s.secret) {
			missed[s.what]++
			continue
		}
		gone++
	}
	recall := float64(gone) / float64(len(all))
	t.Logf("recall %.4f: %d of %d secrets; missed: %v", recall, gone, len(all), missed)
	if recall < leastRecall {
		t.Errorf("recall is %.4f, below %v", recall, leastRecall)
	}
}

// left reports whether a good part of a secret is still there. The marks around a
// PEM and the address of a hook are none.
func left(row, secret string) bool {
	const part = 8
	row = placeholders.ReplaceAllString(row, "")
	if len(secret) < part || strings.HasPrefix(secret, "-----") || strings.HasPrefix(secret, "hooks.") {
		return false
	}
	return strings.Contains(row, secret[:part]) || strings.Contains(row, secret[len(secret)-part:])
}

var placeholders = regexp.MustCompile(`‹redacted:[a-z0-9-]+(:[a-z0-9]{12})?›`)

// TestCorpus_false counts harmless rows in which something is replaced: those
// in testdata, and those of this very host.
func TestCorpus_false(t *testing.T) {
	r := newRedactor(t, redact.Rules{})
	count := func(name string, rows []string, most float64) {
		wrong := 0
		for _, row := range rows {
			if out, found := r.Explain(redact.Source{}, []byte(row)); len(found) > 0 {
				wrong++
				t.Logf("%s: %s", name, out)
			}
		}
		per := 1000 * float64(wrong) / float64(max(len(rows), 1))
		t.Logf("%s: %d of %d rows, %.2f in 1,000", name, wrong, len(rows), per)
		if per > most {
			t.Errorf("%s: something is replaced in %d of %d harmless rows", name, wrong, len(rows))
		}
	}
	hand := lines(t, "testdata/harmless.ndjson")
	for _, l := range lines(t, "testdata/harmless.txt") {
		for _, column := range []string{"cmdline", "message"} {
			b, _ := json.Marshal(map[string]string{"pid": "1", column: l})
			hand = append(hand, string(b))
		}
	}
	count("by hand", hand, mostFalseHand)
	count("this host", hostRows(t), mostFalse)
}

func lines(tb testing.TB, path string) []string {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var all []string
	for s := bufio.NewScanner(f); s.Scan(); {
		all = append(all, s.Text())
	}
	return all
}

// hostRows asks our own agent's tables about this host. Its processes and their
// environments are those of the test and its neighbours.
func hostRows(t *testing.T) []string {
	t.Helper()
	db, err := hostsql.Open(hostsql.Options{MaxRows: 20_000})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var all []string
	for _, sql := range []string{
		"SELECT * FROM users", "SELECT * FROM groups", "SELECT * FROM mounts", "SELECT * FROM kernel_info", "SELECT * FROM system_info", "SELECT * FROM os_version",
		"SELECT * FROM deb_packages", "SELECT * FROM listening_ports", "SELECT * FROM interface_addresses",
		"SELECT * FROM file WHERE directory IN ('/etc', '/usr/bin', '/usr/lib', '/etc/ssl/certs')",
		"SELECT path, sha256, md5 FROM hash WHERE directory = '/etc'",
	} {
		rows, _, err := db.Query(t.Context(), sql)
		if err != nil {
			t.Logf("%s: %v", sql, err) // a host without it
			continue
		}
		for _, row := range rows {
			b, err := row.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
	}
	return all
}
