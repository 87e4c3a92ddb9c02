package blob_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/errs"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	s, err := blob.Open(t.Context(), blob.Options{URL: "dir:" + filepath.Join(t.TempDir(), "carves")})
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.(*blob.Dir); !ok {
		t.Errorf("%T", s)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	endpoint := startS3(t, "", "")
	s, err = blob.Open(t.Context(), blob.Options{URL: "s3://carves/of/muster?region=us-east-1&path_style=true&endpoint=" + endpoint, AccessKey: accessKey, SecretKey: secretKey})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), "a", 1, strings.NewReader("x")); err != nil {
		t.Error(err)
	}
	if got, err := get(t.Context(), openS3(t, bucketAt(endpoint, "of/muster")), "a", 0, -1); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenRefused: what cannot be opened says why, and shows no secret.
func TestOpenRefused(t *testing.T) {
	t.Parallel()
	nobody := freeAddress(t)
	for address, tt := range map[string]struct {
		kind  errs.Kind
		words string
	}{
		"":                                      {errs.Invalid, "neither"},
		"dir:":                                  {errs.Invalid, "neither"},
		"/var/lib/muster":                       {errs.Invalid, "neither"},
		"ftp://me:hidden-word@host/":            {errs.Invalid, "neither"},
		"dir:/dev/null/x":                       {errs.Internal, "directory"},
		"s3://":                                 {errs.Invalid, "BUCKET"},
		"s3:///prefix":                          {errs.Invalid, "BUCKET"},
		"s3://me:hidden-word@bucket/":           {errs.Invalid, "keys"},
		"s3://b?secret=hidden-word":             {errs.Invalid, "secret is not a parameter"},
		"s3://b?region=a&region=b":              {errs.Invalid, "region"},
		"s3://b?path_style=maybe":               {errs.Invalid, "path_style"},
		"s3://b?a;b":                            {errs.Invalid, "parameters"},
		"s3://b?endpoint=ftp://x":               {errs.Invalid, "endpoint"},
		"s3://bucket?endpoint=http://" + nobody: {errs.Busy, "does not answer"},
		"mongodb://":                            {errs.Invalid, "MongoDB"},
		"mongodb://me:hidden-word@:x/":          {errs.Invalid, "MongoDB"},
		"mongodb://me:hidden word%@host/":       {errs.Invalid, "MongoDB"},
		"mongodb://me:hidden-word@" + nobody + "/db?serverSelectionTimeoutMS=50":         {errs.Busy, "does not answer"},
		"mongodb://me:hidden-word@" + nobody + "/db?tlsCAFile=/nonexistent&tls=true":     {errs.Invalid, "MongoDB"},
		"mongodb://me:hidden-word@" + nobody + "/?w=majority&maxPoolSize=not-a-number-x": {errs.Invalid, "MongoDB"},
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			s, err := blob.Open(t.Context(), blob.Options{URL: address, AccessKey: accessKey, SecretKey: "hidden-word"})
			if err == nil {
				t.Fatal("opened", s.Close())
			}
			if s != nil {
				t.Errorf("a store beside an error: %T", s)
			}
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.words) || strings.Contains(err.Error(), "hidden") {
				t.Errorf("%v: %v", errs.KindOf(err), err)
			}
		})
	}
}
