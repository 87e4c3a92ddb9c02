package blob

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/errs"
)

const (
	// minPart is the smallest part that S3 takes, but for the last one. A part
	// is in memory as a whole, so that it can be signed, and sent again.
	minPart = 5 << 20
	// maxParts is S3's limit; larger blobs than 48 GiB have larger parts.
	maxParts = 10_000
	// s3Uploads bounds how many parts are in memory, whoever is uploading; the
	// others wait before they read anything. Ten at once of 100 MB: measured in
	// TestMemory.
	s3Uploads = 2
	// s3Tries is how often a request is sent; the pauses grow to a second.
	s3Tries = 5
	// s3OpenTime bounds the requests of opening, so that a server without its
	// store says so instead of hanging.
	s3OpenTime = 30 * time.Second
	// s3Abandoned is the age at which an unfinished upload is nobody's: younger
	// ones may be those of another server in the same bucket.
	s3Abandoned = 24 * time.Hour
	// s3Idle is how long the server may be silent after a request.
	s3Idle = time.Minute
)

// S3Options says where a bucket is, and who asks.
type S3Options struct {
	Endpoint  string // https://host:port; "" is Amazon's
	Bucket    string
	Prefix    string // of the keys, without a slash at its end
	Region    string
	PathStyle bool // the bucket in the path instead of the host's name
	CAFile    string

	// Keys. Without them AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
	// AWS_SESSION_TOKEN of the environment are asked.
	AccessKey, SecretKey, SessionToken string

	// Abandoned is the age of unfinished uploads that opening aborts; 0 is a day.
	Abandoned time.Duration
}

// S3 keeps blobs as objects of a bucket.
type S3 struct {
	client    minio.Core
	transport *http.Transport
	bucket    string
	prefix    string
	uploads   chan struct{}
	parts     sync.Pool
}

// OpenS3 looks whether the bucket is there and can be listed, and aborts what
// was left unfinished.
func OpenS3(ctx context.Context, o S3Options) (*S3, error) {
	ctx, cancel := context.WithTimeout(ctx, s3OpenTime)
	defer cancel()
	s, err := newS3(o)
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, o); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if err := s.abort(ctx, cmp.Or(o.Abandoned, s3Abandoned)); err != nil {
		return nil, errors.Join(fmt.Errorf("abort unfinished uploads to bucket %s: %w", o.Bucket, err), s.Close())
	}
	return s, nil
}

func newS3(o S3Options) (*S3, error) {
	endpoint, err := url.Parse(cmp.Or(o.Endpoint, "https://s3.amazonaws.com"))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" || strings.Trim(endpoint.Path, "/") != "" || endpoint.User != nil {
		return nil, errs.Field("endpoint", "is %q; it is https://host or https://host:port", o.Endpoint)
	}
	transport, err := s3Transport(o.CAFile)
	if err != nil {
		return nil, err
	}
	lookup := minio.BucketLookupAuto
	if o.PathStyle {
		lookup = minio.BucketLookupPath
	}
	keys := credentials.NewEnvAWS()
	if o.AccessKey != "" {
		keys = credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken)
	}
	if v, err := keys.GetWithContext(nil); err != nil || v.AccessKeyID == "" || v.SecretAccessKey == "" {
		return nil, errs.New(errs.Invalid, "no keys for bucket %s: set them, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", o.Bucket)
	}
	region := o.Region
	if region == "" && o.Endpoint != "" {
		region = "us-east-1" // what servers that know no regions call theirs; asking needs a right of its own
	}
	client, err := minio.NewCore(endpoint.Host, &minio.Options{
		Creds: keys, Secure: endpoint.Scheme == "https", Transport: transport,
		Region: region, BucketLookup: lookup, MaxRetries: s3Tries,
	})
	if err != nil {
		return nil, fmt.Errorf("s3: %w", err)
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &S3{client: *client, transport: transport, bucket: o.Bucket, prefix: prefix, uploads: make(chan struct{}, s3Uploads)}, nil
}

func s3Transport(caFile string) (*http.Transport, error) {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: s3Idle,
		ExpectContinueTimeout: 10 * time.Second,
		IdleConnTimeout:       time.Minute,
		MaxIdleConnsPerHost:   2 * s3Uploads,
		DisableCompression:    true, // a range of what was unpacked is not a range of the blob
	}
	if caFile == "" {
		return t, nil
	}
	pem, err := os.ReadFile(caFile) //nolint:gosec // named by the administrator
	if err != nil {
		return nil, errs.Field("ca", "%s cannot be read: %v", caFile, err)
	}
	t.TLSClientConfig.RootCAs = x509.NewCertPool()
	if !t.TLSClientConfig.RootCAs.AppendCertsFromPEM(pem) {
		return nil, errs.Field("ca", "%s holds no certificate in PEM", caFile)
	}
	return t, nil
}

// check tells the ordinary reasons apart, so that they can be mended.
func (s *S3) check(ctx context.Context, o S3Options) error {
	where := fmt.Sprintf("bucket %s at %s", o.Bucket, cmp.Or(o.Endpoint, "Amazon S3"))
	_, err := s.client.ListObjectsV2(s.bucket, s.prefix, "", "", "/", 1)
	if ctx.Err() == nil && err == nil {
		return nil
	}
	switch r := s3Response(err); {
	case r.Code == minio.NoSuchBucket:
		return errs.Wrap(errs.Invalid, err, "there is no "+where+"; make it, or name another")
	case r.StatusCode >= 400 && r.StatusCode < 500 && r.StatusCode != http.StatusTooManyRequests:
		return errs.Wrap(errs.Invalid, err, where+" refuses: look at keys and region; they need to list, read, write and delete objects, and abort uploads ("+r.Code+")")
	}
	return errs.Wrap(errs.Busy, cmp.Or(err, ctx.Err()), where+" does not answer")
}

// abort ends the unfinished uploads of that age: parts are paid for, and no
// list of objects shows them.
func (s *S3) abort(ctx context.Context, age time.Duration) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	for u := range s.client.ListIncompleteUploads(ctx, s.bucket, s.prefix, false) {
		if u.Err != nil {
			if s3Response(u.Err).Code == minio.NotImplemented {
				return nil // servers without multipart listing have their own way
			}
			return u.Err
		}
		if checkName(strings.TrimPrefix(u.Key, s.prefix)) != nil || time.Since(u.Initiated) < age {
			continue
		}
		err := s.client.AbortMultipartUpload(ctx, s.bucket, u.Key, u.UploadID)
		if err != nil && s3Response(err).Code != minio.NoSuchUpload {
			return err
		}
	}
	return nil
}

// Put sends one part after the other, each with its SHA-256 in the signature,
// which the server verifies. The object appears when all of them are there.
func (s *S3) Put(ctx context.Context, name string, size int64, r io.Reader) error {
	if err := errors.Join(checkName(name), checkSize(size)); err != nil {
		return err
	}
	select {
	case s.uploads <- struct{}{}:
		defer func() { <-s.uploads }()
	case <-ctx.Done():
		return fmt.Errorf("keep blob %s: %w", name, context.Cause(ctx))
	}
	partSize := partOf(size)
	pooled, _ := s.parts.Get().(*[]byte)
	if pooled == nil || int64(cap(*pooled)) < min(size, partSize) {
		b := make([]byte, min(size, partSize))
		pooled = &b
	}
	defer s.parts.Put(pooled)
	part := (*pooled)[:min(size, partSize)]
	var err error
	r = &exactly{ctx, r, size}
	if size <= partSize {
		err = s.putWhole(ctx, name, part, r)
	} else {
		err = s.putParts(ctx, name, size, part, r)
	}
	if err != nil {
		return fmt.Errorf("keep blob %s: %w", name, err)
	}
	return nil
}

func partOf(size int64) int64 {
	const unit = 1 << 20
	return max(minPart, ((size+maxParts-1)/maxParts+unit-1)/unit*unit)
}

func (s *S3) putWhole(ctx context.Context, name string, part []byte, r io.Reader) error {
	if _, err := io.ReadFull(r, part); err != nil {
		return err
	}
	body := lend(part)
	defer body.stop()
	_, err := s.client.PutObject(ctx, s.bucket, s.prefix+name, body, int64(len(part)), "", sum(part), s3Put())
	return s3Error(err)
}

// s3Put: the sums are those we give, not the library's own.
func s3Put() minio.PutObjectOptions {
	return minio.PutObjectOptions{DisableContentSha256: true, ContentType: "application/octet-stream"}
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

func (s *S3) putParts(ctx context.Context, name string, size int64, part []byte, r io.Reader) (err error) {
	key := s.prefix + name
	id, err := s.client.NewMultipartUpload(ctx, s.bucket, key, s3Put())
	if err != nil {
		return s3Error(err)
	}
	defer func() {
		if err == nil {
			return
		}
		// Also when the caller has given up.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s3OpenTime)
		defer cancel()
		if e := s.client.AbortMultipartUpload(ctx, s.bucket, key, id); e != nil {
			err = errors.Join(err, fmt.Errorf("abort: %w", e))
		}
	}()
	var done []minio.CompletePart
	for left := size; left > 0; left -= int64(len(part)) {
		part = part[:min(left, int64(len(part)))]
		if _, err := io.ReadFull(r, part); err != nil {
			return err
		}
		n := len(done) + 1
		body := lend(part)
		p, err := s.client.PutObjectPart(ctx, s.bucket, key, id, n, body, int64(len(part)),
			minio.PutObjectPartOptions{Sha256Hex: sum(part), DisableContentSha256: true})
		body.stop()
		if err != nil {
			return s3Error(err)
		}
		done = append(done, minio.CompletePart{PartNumber: n, ETag: p.ETag})
	}
	_, err = s.client.CompleteMultipartUpload(ctx, s.bucket, key, id, done, minio.PutObjectOptions{})
	return s3Error(err)
}

// Open asks for the range. What comes is not the whole object by mistake: that
// is looked at.
func (s *S3) Open(ctx context.Context, name string, offset, n int64) (io.ReadCloser, error) {
	if err := checkRange(name, offset); err != nil {
		return nil, err
	}
	var o minio.GetObjectOptions
	if n == 0 {
		if _, err := s.client.StatObject(ctx, s.bucket, s.prefix+name, o); err != nil {
			return nil, s3OpenError(name, err)
		}
		return http.NoBody, nil
	}
	ranged := offset > 0 || n > 0
	switch {
	case n > 0:
		o.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, offset+n-1))
	case offset > 0:
		o.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	body, info, header, err := s.client.GetObject(ctx, s.bucket, s.prefix+name, o)
	if s3Response(err).Code == minio.InvalidRange {
		return http.NoBody, nil // it begins at or after the end
	}
	if err != nil {
		return nil, s3OpenError(name, err)
	}
	if ranged && info.Size > 0 && !strings.HasPrefix(header.Get("Content-Range"), fmt.Sprintf("bytes %d-", offset)) {
		return nil, errors.Join(fmt.Errorf("open blob %s: the server does not heed ranges", name), body.Close())
	}
	return body, nil
}

func s3OpenError(name string, err error) error {
	if code := s3Response(err).Code; code == minio.NoSuchKey {
		return errNone(name)
	}
	return fmt.Errorf("open blob %s: %w", name, s3Error(err))
}

// Delete removes the object. In a bucket with versions the old ones stay, as
// whoever set that up wants it.
func (s *S3) Delete(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	err := s.client.RemoveObject(ctx, s.bucket, s.prefix+name, minio.RemoveObjectOptions{})
	if err != nil && s3Response(err).Code != minio.NoSuchKey {
		return fmt.Errorf("delete blob %s: %w", name, s3Error(err))
	}
	return nil
}

// List yields the objects right below the prefix whose names are those of blobs.
func (s *S3) List(ctx context.Context, yield func(carve.Info) error) error {
	for o := range s.client.ListObjectsIter(ctx, s.bucket, minio.ListObjectsOptions{Prefix: s.prefix}) {
		if o.Err != nil {
			return fmt.Errorf("list blobs: %w", s3Error(o.Err))
		}
		name := strings.TrimPrefix(o.Key, s.prefix)
		if checkName(name) != nil {
			continue
		}
		if err := yield(carve.Info{Name: name, Size: o.Size, Modified: o.LastModified}); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// Close closes idle connections.
func (s *S3) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// s3Response is what the server said of an error, also of a wrapped one; what
// minio offers for it knows only its own.
func s3Response(err error) minio.ErrorResponse {
	r, _ := errors.AsType[minio.ErrorResponse](err)
	return r
}

// s3Error tells what may pass by waiting from what does not.
func s3Error(err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	r := s3Response(err)
	_, network := errors.AsType[net.Error](err)
	if network || errors.Is(err, io.ErrUnexpectedEOF) || r.StatusCode >= 500 || r.StatusCode == http.StatusTooManyRequests {
		return errs.Wrap(errs.Busy, err, "the store of the carves does not answer; try again later")
	}
	if r.Code != "" {
		return fmt.Errorf("s3: %s: %w", r.Code, err)
	}
	return err
}
