package osquery

import (
	"strings"
	"testing"
)

// BenchmarkDecode reads what a real agent sent. The lines of a log are package
// event's; here only its key is read.
func BenchmarkDecode(b *testing.B) {
	key := func(body []byte) error {
		_, err := DecodeNodeKey(body)
		return err
	}
	enroll := func(body []byte) error {
		_, err := DecodeEnroll(body, EnrollSecretName)
		return err
	}
	write := func(body []byte) error {
		_, err := DecodeDistributedWrite(body)
		return err
	}
	decoders := []struct {
		kind   string // how the kind of a sample begins
		decode func(body []byte) error
	}{{"/config", key}, {"/log:result", key}, {"/enroll", enroll}, {"/write", write}}
	all := samples(b)
	for _, d := range decoders {
		b.Run(d.kind[1:], func(b *testing.B) {
			var body []byte
			for _, s := range all {
				if body == nil && strings.HasPrefix(s.kind, d.kind) {
					body = s.body
				}
			}
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := d.decode(body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
