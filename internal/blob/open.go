package blob

import (
	"context"
	"net/url"
	"slices"
	"strings"

	"github.com/musterhq/muster/internal/errs"
)

// Options say where blobs are kept.
type Options struct {
	// URL is one of
	//
	//	dir:/var/lib/muster/carves
	//	s3://bucket/prefix?endpoint=https://host:port&region=eu-1&path_style=true&ca=/etc/ca.pem
	//	mongodb://user:password@host:port/database
	//
	// and mongodb+srv:// likewise. Without an endpoint S3 is Amazon's. The keys
	// of S3 are never in it.
	URL string
	// Keys of S3; see S3Options.
	AccessKey, SecretKey, SessionToken string
}

// Open opens the store of that URL. An error of kind Invalid is about what the
// administrator wrote, one of kind Busy about a server that does not answer.
func Open(ctx context.Context, o Options) (Store, error) {
	scheme, rest, _ := strings.Cut(o.URL, ":")
	switch {
	case scheme == "dir" && rest != "":
		return store(OpenDir(rest))
	case scheme == "s3":
		s3, err := s3Of(o)
		if err != nil {
			return nil, err
		}
		return store(OpenS3(ctx, s3))
	case scheme == "mongodb" || scheme == "mongodb+srv":
		return store(OpenGridFS(ctx, o.URL))
	}
	// The address may hold a password, so it is not shown.
	return nil, errs.Field("carve_store", "is neither dir:PATH, s3://BUCKET nor mongodb://HOST")
}

// store keeps a nil of a concrete type out of an interface.
func store[S Store](s S, err error) (Store, error) {
	if err != nil {
		return nil, err
	}
	return s, nil
}

func s3Of(o Options) (S3Options, error) {
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Fragment != "" {
		return S3Options{}, errs.Field("carve_store", "is not s3://BUCKET/PREFIX?endpoint=…")
	}
	if u.User != nil {
		return S3Options{}, errs.Field("carve_store", "holds keys, which would be shown with it; set them apart")
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return S3Options{}, errs.Field("carve_store", "has parameters that cannot be read")
	}
	for name, values := range q {
		if !slices.Contains([]string{"endpoint", "region", "path_style", "ca"}, name) || len(values) != 1 {
			return S3Options{}, errs.Field("carve_store", "%s is not a parameter, or there twice; there are endpoint, region, path_style and ca", name)
		}
	}
	if style := q.Get("path_style"); style != "" && style != "true" && style != "false" {
		return S3Options{}, errs.Field("carve_store", "path_style is true or false")
	}
	return S3Options{
		Endpoint: q.Get("endpoint"), Bucket: u.Host, Prefix: u.Path, Region: q.Get("region"), CAFile: q.Get("ca"),
		PathStyle: q.Get("path_style") == "true",
		AccessKey: o.AccessKey, SecretKey: o.SecretKey, SessionToken: o.SessionToken,
	}, nil
}
