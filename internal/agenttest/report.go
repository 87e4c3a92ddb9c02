package agenttest

import (
	"math"
	"time"
)

// Report is the outcome of a load. Times are in milliseconds.
type Report struct {
	URL         string                     `json:"url"`
	Conn        string                     `json:"conn"`
	Mode        string                     `json:"mode"` // fleet, or "only" and the operation
	Nodes       int                        `json:"nodes"`
	Enrolled    int                        `json:"enrolled"`
	Concurrency int                        `json:"concurrency,omitempty"`
	Seconds     float64                    `json:"duration_s"`
	Count       int64                      `json:"count"`
	Errors      int64                      `json:"errors"`
	Rate        float64                    `json:"rate"` // per second
	Connections int64                      `json:"connections"`
	Handshakes  []Handshake                `json:"handshakes"` // of all connections so far
	Operations  map[string]OperationReport `json:"operations"`
	// ServerCPU is the server's CPU time in the measured window for 1,000
	// requests of whatever kinds were made; null without ServerPID.
	ServerCPU *float64      `json:"server_cpu_ms_per_1000"`
	Server    *ServerReport `json:"server,omitempty"`
	// Baseline is what a bare server did in turns with the one under test, and
	// Ratio the CPU time of that one for a request by the bare one's.
	// RatioMedian is of the rounds, a turn of each: what disturbs some of them
	// does not move it, but neither does what a server does rarely.
	Baseline    *BaselineReport `json:"baseline,omitempty"`
	Ratio       *float64        `json:"ratio,omitempty"`
	RatioMedian *float64        `json:"ratio_median,omitempty"`
	// Live and Carves are there if the load had them.
	Live      *LiveReport  `json:"live,omitempty"`
	Carves    *CarveReport `json:"carves,omitempty"`
	Generator Generator    `json:"generator"`
}

// BaselineReport is what is known of the bare server.
type BaselineReport struct {
	OperationReport

	Key        string      `json:"key"` // of its certificate: ecdsa-p256 or rsa-2048
	Handshakes []Handshake `json:"handshakes"`
}

// Handshake is a kind of TLS handshake that took place, and how often.
type Handshake struct {
	Version     string `json:"version"`      // as "TLS 1.3"
	KeyExchange string `json:"key_exchange"` // the group, as "X25519"; "none" without (RSA)
	Count       int64  `json:"count"`
}

// OperationReport is what is known of one operation. "enroll" is the time
// before the fleet runs, "reenroll" what it did afterwards.
type OperationReport struct {
	Count  int64   `json:"count"`
	Errors int64   `json:"errors"`
	Rate   float64 `json:"rate"` // per second
	P50    float64 `json:"p50_ms"`
	P95    float64 `json:"p95_ms"`
	P99    float64 `json:"p99_ms"`
	Max    float64 `json:"max_ms"`
	// ServerCPU is there only where nothing else was going on.
	ServerCPU  *float64         `json:"server_cpu_ms_per_1000,omitempty"`
	ErrorKinds map[string]int64 `json:"error_kinds,omitempty"`
}

// ServerReport is what the server's process used in the measured window.
type ServerReport struct {
	PID     int     `json:"pid"`
	CPU     float64 `json:"cpu_ms"`
	Cores   float64 `json:"cores"` // CPU time by elapsed time
	RSS     int64   `json:"rss_bytes"`
	PeakRSS int64   `json:"rss_peak_bytes"` // since it started
}

// Generator is what this process used, to see whether it was the limit.
type Generator struct {
	CPUPerRequest float64 `json:"cpu_us_per_request"`
	Cores         float64 `json:"cores"`
	RSS           int64   `json:"rss_bytes"`
	LagP99        float64 `json:"lag_p99_ms"` // how late requests started
}

func firstKind(operations map[string]OperationReport) string {
	for _, o := range operations {
		for kind := range o.ErrorKinds {
			return kind
		}
	}
	return "none was made"
}

// perThousand returns the milliseconds for 1,000 of count requests; nil
// without any.
func perThousand(cpu time.Duration, count int64) *float64 {
	if count == 0 {
		return nil
	}
	return new(round(milliseconds(cpu) * 1000 / float64(count)))
}

// perRequest returns the microseconds for one of count requests; 0 without any.
func perRequest(cpu time.Duration, count int64) float64 {
	if count == 0 {
		return 0
	}
	return round(float64(cpu.Microseconds()) / float64(count))
}

func perSecond(count int64, took time.Duration) float64 {
	return round(float64(count) / took.Seconds())
}

func operation(s Summary, took time.Duration) OperationReport {
	return OperationReport{
		Count: s.Count, Errors: s.Errors, Rate: perSecond(s.Count, took),
		P50: milliseconds(s.P50), P95: milliseconds(s.P95), P99: milliseconds(s.P99), Max: milliseconds(s.Max),
		ErrorKinds: s.Kinds,
	}
}

func milliseconds(d time.Duration) float64 { return round(float64(d) / float64(time.Millisecond)) }

func round(v float64) float64 { return math.Round(v*1000) / 1000 }
