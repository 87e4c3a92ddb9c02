package sink

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/klauspost/compress/gzip"
	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/musterhq/muster/internal/resource"
)

// s3Sender puts a batch as objects, one for each hour in which events of it were
// received. An object's name is its first event's id: an object that is sent again
// with the same events is the same.
type s3Sender struct {
	client    *minio.Client
	transport *http.Transport
	bucket    string
	prefix    string
	parquet   bool
}

func (m *Manager) openS3(s *resource.SinkS3) (Sender, error) {
	endpoint, err := url.Parse(cmp.Or(s.Endpoint, "https://s3.amazonaws.com"))
	if err != nil {
		return nil, err
	}
	p, err := m.poster(&s.SinkTLS) // whose transport goes through the guard
	if err != nil {
		return nil, err
	}
	transport, ok := p.client.Transport.(*http.Transport)
	if !ok {
		return nil, errors.New("egress gives another transport than it did")
	}
	keys := credentials.NewEnvAWS()
	if s.AccessKey != nil {
		access, err := m.secret(s.AccessKey)
		if err != nil {
			return nil, err
		}
		secret, err := m.secret(s.SecretKey)
		if err != nil {
			return nil, err
		}
		keys = credentials.NewStaticV4(access, secret, "")
	}
	lookup := minio.BucketLookupAuto
	if s.PathStyle {
		lookup = minio.BucketLookupPath
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: keys, Secure: endpoint.Scheme == "https", Transport: transport, Region: s.Region, BucketLookup: lookup,
		MaxRetries: 1, // the runner tries again
	})
	if err != nil {
		return nil, err
	}
	return &s3Sender{client: client, transport: transport, bucket: s.Bucket, prefix: s.Prefix, parquet: s.Objects == "parquet"}, nil
}

// Send implements Sender.
func (s *s3Sender) Send(ctx context.Context, items []Item) ([]Refusal, error) {
	var hours []string // in the order of their first events
	byHour := map[string][]Item{}
	for i := range items {
		h := items[i].Record.Received.UTC().Format("2006/01/02/15")
		if byHour[h] == nil {
			hours = append(hours, h)
		}
		byHour[h] = append(byHour[h], items[i])
	}
	for _, h := range hours {
		if err := s.put(ctx, h, byHour[h]); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

func (s *s3Sender) put(ctx context.Context, hour string, items []Item) error {
	body, ext, kind, err := linesOf(items)
	if s.parquet {
		body, ext, kind, err = parquetOf(items)
	}
	if err != nil {
		return err
	}
	key := hour + "/" + items[0].ID + ext
	if s.prefix != "" {
		key = s.prefix + "/" + key
	}
	_, err = s.client.PutObject(ctx, s.bucket, key, bytes.NewReader(body), int64(len(body)), minio.PutObjectOptions{
		ContentType: kind, DisableMultipart: true, SendContentMd5: true,
	})
	if err != nil {
		return fmt.Errorf("bucket %s: %w", s.bucket, err)
	}
	return nil
}

// linesOf returns an object of lines.
func linesOf(items []Item) (body []byte, ext, kind string, err error) {
	var buf bytes.Buffer
	w, _ := gzip.NewWriterLevel(&buf, gzip.DefaultCompression) // the level is one
	for i := range items {
		if _, err = w.Write(items[i].Line); err == nil {
			_, err = w.Write([]byte{'\n'})
		}
		if err != nil {
			return nil, "", "", err
		}
	}
	err = w.Close()
	return buf.Bytes(), ".ndjson.gz", "application/gzip", err
}

// Close implements Sender.
func (s *s3Sender) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}
