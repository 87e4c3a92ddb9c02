package credential_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/musterhq/muster/internal/credential"
)

func TestReader(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	dir := filepath.Join(top, "secrets")
	for _, err := range []error{
		os.Mkdir(dir, 0o700),
		os.WriteFile(filepath.Join(top, "outside"), []byte("hunter2"), 0o600),
		os.WriteFile(filepath.Join(dir, "token"), []byte(" s3cret \n"), 0o600),
		os.WriteFile(filepath.Join(dir, "empty"), []byte(" \n"), 0o600),
		os.WriteFile(filepath.Join(dir, "large"), []byte(strings.Repeat("x", 20<<10)), 0o600),
		os.Symlink("token", filepath.Join(dir, "link")),
		os.Symlink("../outside", filepath.Join(dir, "out")),
		os.Mkdir(filepath.Join(dir, "dir"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	r := &credential.Reader{Dir: dir, Getenv: func(name string) (string, bool) {
		v, ok := map[string]string{"MUSTER_SECRET_A": "a", "MUSTER_SECRET_E": "", "HOME": "/root"}[name]
		return v, ok
	}}
	for _, c := range []struct {
		ref         credential.Reference
		want, wrong string
	}{
		{credential.Reference{File: "token"}, "s3cret", ""},
		{credential.Reference{File: "link"}, "s3cret", ""},
		{credential.Reference{Env: "MUSTER_SECRET_A"}, "a", ""},
		{credential.Reference{Env: "MUSTER_SECRET_B"}, "", "not set"},
		{credential.Reference{Env: "MUSTER_SECRET_E"}, "", "not set"},
		{credential.Reference{Env: "HOME"}, "", "MUSTER_SECRET_"},
		{credential.Reference{}, "", "file or env"},
		{credential.Reference{File: "a", Env: "MUSTER_SECRET_A"}, "", "file or env"},
		{credential.Reference{File: "../outside"}, "", "without directories"},
		{credential.Reference{File: "/etc/passwd"}, "", "without directories"},
		{credential.Reference{File: ".."}, "", "without directories"},
		{credential.Reference{File: "out"}, "", "cannot be read"},
		{credential.Reference{File: "dir"}, "", "cannot be read"},
		{credential.Reference{File: "pipe"}, "", "cannot be read"},
		{credential.Reference{File: "none"}, "", "there is no file"},
		{credential.Reference{File: "empty"}, "", "holds no secret"},
		{credential.Reference{File: "large"}, "", "holds no secret"},
	} {
		got, err := r.Read(c.ref)
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%+v: %q, %v", c.ref, got, err)
		}
	}
}
