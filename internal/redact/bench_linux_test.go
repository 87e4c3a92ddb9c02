package redact_test

import (
	"encoding/json"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/musterhq/muster/internal/redact"
)

// benchRows are rows as agents send most, without secrets but for the last.
func benchRows(tb testing.TB) map[string][]byte {
	tb.Helper()
	browser := struct {
		PID     string `json:"pid"`
		Cmdline string `json:"cmdline"`
	}{"4242", lines(tb, "testdata/harmless.txt")[0]}
	long, err := json.Marshal(browser)
	if err != nil {
		tb.Fatal(err)
	}
	return map[string][]byte{
		"process":  []byte(`{"pid":"1234","name":"nginx","path":"/usr/sbin/nginx","cmdline":"nginx: master process /usr/sbin/nginx -g daemon on; master_process on;","state":"S","cwd":"/","root":"/","uid":"0","gid":"0","euid":"0","egid":"0","suid":"0","sgid":"0","on_disk":"1","wired_size":"0","resident_size":"1720320","total_size":"56619008","user_time":"0","system_time":"10","disk_bytes_read":"0","disk_bytes_written":"0","start_time":"1700000000","parent":"1","pgroup":"1234","threads":"1","nice":"0"}`),
		"port":     []byte(`{"pid":"811","port":"443","protocol":"6","family":"2","address":"0.0.0.0","fd":"6","socket":"23423","path":"","net_namespace":"4026531840","name":"nginx"}`),
		"package":  []byte(`{"name":"libsecret-1-0","version":"0.21.4-1","source":"libsecret","size":"356","arch":"amd64","revision":"1","status":"install ok installed","maintainer":"Debian GNOME Maintainers","section":"libs","priority":"optional"}`),
		"windows":  []byte(`{"pid":"77","path":"C:\\Windows\\System32\\svchost.exe","cmdline":"C:\\Windows\\System32\\svchost.exe -k netsvcs -p -s Schedule","parent":"1","username":"SYSTEM"}`),
		"hash":     []byte(`{"md5":"d41d8cd98f00b204e9800998ecf8427e","sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","path":"/usr/bin/true","directory":"/usr/bin"}`),
		"browser":  long,
		"a secret": []byte(`{"pid":"1234","cmdline":"mysql -uroot -pS3cret-1 shop","uid":"0"}`),
	}
}

// BenchmarkRow is what a row costs. cpu-ns/op is the thread's own time, which
// neighbours on the machine change less.
func BenchmarkRow(b *testing.B) {
	for name, row := range benchRows(b) {
		b.Run(name, func(b *testing.B) {
			r := newRedactor(b, redact.Rules{})
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			b.ReportAllocs()
			b.SetBytes(int64(len(row)))
			from := threadTime(b)
			for b.Loop() {
				r.Row(redact.Source{Query: "pack_base_processes"}, row)
			}
			b.ReportMetric(float64(threadTime(b)-from)/float64(b.N), "cpu-ns/op")
		})
	}
}

func threadTime(b *testing.B) int64 {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
