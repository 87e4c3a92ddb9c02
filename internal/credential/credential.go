// Package credential reads secrets that resources name and never hold: from files
// of one directory, and from variables of the server's environment with one
// prefix. So whoever may write resources cannot send just any file of the server
// somewhere.
package credential

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Reference says where a secret is. Exactly one of the two is set.
type Reference struct {
	File string `json:"file,omitempty" yaml:"file,omitempty" doc:"Name of a file in the server's secrets_dir; spaces around what it holds are left out"`
	Env  string `json:"env,omitempty" yaml:"env,omitempty" doc:"Name of a variable of the server's environment, which must begin with MUSTER_SECRET_"`
}

// EnvPrefix begins the variables that may be named.
const EnvPrefix = "MUSTER_SECRET_"

// maxSecret is more than any token or key has.
const maxSecret = 16 << 10

var (
	filePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	envPattern  = regexp.MustCompile(`^` + EnvPrefix + `[A-Z0-9_]{1,100}$`)
)

// String names the secret, and does not tell it.
func (r Reference) String() string {
	if r.Env != "" {
		return "variable " + r.Env
	}
	return "file " + r.File
}

// IsZero reports whether nothing is named.
func (r Reference) IsZero() bool { return r == Reference{} }

// Check says what is wrong with a reference; the field is for the message.
func (r Reference) Check(field string) error {
	switch {
	case r.File != "" && r.Env != "", r.IsZero():
		return errs.Field(field, "must say file or env, one of the two")
	case r.Env != "" && !envPattern.MatchString(r.Env):
		return errs.Field(field+".env", "%q is no name of a variable; it must begin with %s and have capital letters, digits and _", r.Env, EnvPrefix)
	case r.File != "" && !filePattern.MatchString(r.File):
		return errs.Field(field+".file", "%q is no name of a file; put it into secrets_dir, and write its name without directories", r.File)
	}
	return nil
}

// Reader reads secrets. Safe for concurrent use.
type Reader struct {
	Dir    string                           // of the files; it need not be there
	Getenv func(name string) (string, bool) // as os.LookupEnv
}

// Read returns a secret. It is read each time, so that a new one works at once.
// An error names the reference, and nothing of what it holds.
func (r *Reader) Read(ref Reference) (string, error) {
	if err := ref.Check("secret"); err != nil {
		return "", err
	}
	if ref.Env != "" {
		v, ok := r.Getenv(ref.Env)
		if v = strings.TrimSpace(v); !ok || v == "" {
			return "", errs.New(errs.Invalid, "the variable %s is not set; start the server with it", ref.Env)
		}
		return v, nil
	}
	b, err := r.file(ref.File)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errs.New(errs.Invalid, "there is no file %s in secrets_dir; put the secret there", ref.File)
	}
	if err != nil {
		return "", errs.Wrap(errs.Invalid, err, fmt.Sprintf("the file %s in secrets_dir cannot be read", ref.File))
	}
	v := strings.TrimSpace(string(b))
	if v == "" || len(b) > maxSecret {
		return "", errs.New(errs.Invalid, "the file %s in secrets_dir holds no secret, or more than %d bytes", ref.File, maxSecret)
	}
	return v, nil
}

// file reads within the directory: no link leads out of it.
func (r *Reader) file(name string) ([]byte, error) {
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close() //nolint:errcheck // only read
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file") // a pipe would keep the reader
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read
	return io.ReadAll(io.LimitReader(f, maxSecret+1))
}
