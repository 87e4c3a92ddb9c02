package osquery

import (
	"strings"

	"github.com/valyala/fastjson"

	"github.com/musterhq/muster/internal/errs"
)

// EnrollRequest is what an agent sends to POST enroll.
type EnrollRequest struct {
	EnrollSecret   string `json:"enroll_secret"`
	HostIdentifier string `json:"host_identifier"`
	// PlatformType is a decimal bit mask: 1 posix, 2 windows, 4 bsd, 8 linux,
	// 16 macOS, 32 freebsd (osquery/utils/info/platform_type.h).
	PlatformType string `json:"platform_type"`
	// HostDetails holds the first row of os_version, osquery_info,
	// platform_info and system_info, by table. A table that answered nothing
	// is absent; agents before 2.8 send none at all.
	HostDetails map[string]map[string]string `json:"host_details"`
}

// EnrollResponse is the answer to enroll. The agent looks at NodeKey alone.
type EnrollResponse struct {
	NodeKey     string `json:"node_key"`
	NodeInvalid bool   `json:"node_invalid"`
}

// EnrollSecretName is the member of an enroll request that holds the secret.
const EnrollSecretName = "enroll_secret"

// Limits of the enroll message, far above what agents send, so that one
// enrolment cannot fill the state database.
const (
	maxDetailTables  = 16
	maxDetailColumns = 64
	maxDetailValue   = 1024
	maxIdentifier    = 255
)

// DecodeEnroll reads an enroll request, whose secret is the member called
// secretName: "enroll_secret" unless --tls_enroll_override says otherwise. NULs are dropped (osquery 5.23 pads
// system_info.cpu_brand with them, and PostgreSQL takes none); values are cut
// at 1 KiB. A missing host_identifier is an error, a missing secret is not.
func DecodeEnroll(body []byte, secretName string) (EnrollRequest, error) {
	var req EnrollRequest
	err := object(body, func(v *fastjson.Value) error {
		req.EnrollSecret = strings.TrimSpace(text(v.Get(secretName)))
		req.HostIdentifier = detail(v.Get("host_identifier"))
		req.PlatformType = detail(v.Get("platform_type"))
		req.HostDetails = details(v.GetObject("host_details"))
		if req.HostIdentifier == "" {
			return errs.Field("host_identifier", "is missing")
		}
		if len(req.HostIdentifier) > maxIdentifier {
			return errs.Field("host_identifier", "is longer than %d bytes", maxIdentifier)
		}
		return nil
	})
	return req, err
}

func details(tables *fastjson.Object) map[string]map[string]string {
	m := map[string]map[string]string{}
	if tables == nil {
		return m
	}
	tables.Visit(func(table []byte, v *fastjson.Value) {
		columns, err := v.Object()
		if err != nil || len(m) == maxDetailTables {
			return
		}
		row := map[string]string{}
		columns.Visit(func(name []byte, v *fastjson.Value) {
			if len(row) < maxDetailColumns {
				row[cut(Clean(name))] = detail(v)
			}
		})
		m[cut(Clean(table))] = row
	})
	return m
}

func detail(v *fastjson.Value) string {
	return cut(strings.TrimSpace(strings.ReplaceAll(text(v), "\x00", "")))
}

func cut(s string) string {
	if len(s) > maxDetailValue {
		s = strings.ToValidUTF8(s[:maxDetailValue], "")
	}
	return strings.ReplaceAll(s, "\x00", "")
}

// Encode returns the body that osquery sends.
func (r EnrollRequest) Encode() ([]byte, error) { return encode(r) }
