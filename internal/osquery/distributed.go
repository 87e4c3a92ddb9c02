package osquery

import "github.com/valyala/fastjson"

// DistributedReadResponse is the answer to distributed/read. Agents run the
// queries in byte order of their ids.
type DistributedReadResponse struct {
	Queries map[string]string `json:"queries"`
	// Discovery, if a query has one, must return a row for it to run; an error
	// in any makes the agent drop the whole answer without a word.
	Discovery map[string]string `json:"discovery,omitempty"`
	// Accelerate makes the agent poll every 5 s for that many seconds. It must
	// be a JSON integer; 0 is left out.
	Accelerate int `json:"accelerate,omitempty"`
}

// Encode returns the body to answer.
func (r DistributedReadResponse) Encode() ([]byte, error) { return encode(r) }

// QueryStats is what a distributed query cost on the node; all zero when the
// agent did not say (before 5.8, or a denylisted query).
type QueryStats struct {
	WallTimeMs int64 `json:"wall_time_ms"`
	UserTime   int64 `json:"user_time"`   // ms
	SystemTime int64 `json:"system_time"` // ms
	Memory     int64 `json:"memory"`      // bytes of resident growth
}

// QueryAnswer is a node's answer to one distributed query.
type QueryAnswer struct {
	ID      string
	Rows    []Row
	Status  int64 // 0 is success; 1 any failure
	Message string
	Stats   QueryStats
}

// Denylisted reports whether the agent refused the text because it killed the
// worker before.
func (a QueryAnswer) Denylisted() bool {
	return a.Status != 0 && a.Message == DenylistedMessage
}

// DenylistedMessage is what osquery 5.5 and later answer for a query whose
// last run killed the worker (osquery/distributed/distributed.cpp).
const DenylistedMessage = "distributed query is denylisted"

// DecodeDistributedWrite reads the answers of a distributed/write body. Rows
// may be "" and numbers may be strings, as agents before 3.0 sent them; the
// result is never nil without an error.
func DecodeDistributedWrite(body []byte) ([]QueryAnswer, error) {
	answers := []QueryAnswer{}
	err := object(body, func(v *fastjson.Value) error {
		queries := v.GetObject("queries")
		if queries == nil {
			return nil
		}
		queries.Visit(func(id []byte, rows *fastjson.Value) {
			key := string(id)
			stats := v.Get("stats", key)
			a := QueryAnswer{
				ID:      Clean(id),
				Rows:    []Row{},
				Status:  integer(v.Get("statuses", key)),
				Message: text(v.Get("messages", key)),
				Stats: QueryStats{
					WallTimeMs: integer(stats.Get("wall_time_ms")),
					UserTime:   integer(stats.Get("user_time")),
					SystemTime: integer(stats.Get("system_time")),
					Memory:     integer(stats.Get("memory")),
				},
			}
			items, _ := rows.Array() // "" and null are no rows
			for _, item := range items {
				a.Rows = append(a.Rows, row(item))
			}
			answers = append(answers, a)
		})
		return nil
	})
	return answers, err
}

// EncodeDistributedWrite returns the body that an agent sends: queries,
// statuses, messages and stats by id, node_key last.
func EncodeDistributedWrite(nodeKey string, answers []QueryAnswer) ([]byte, error) {
	body := struct {
		Queries  map[string][]Row  `json:"queries"`
		Statuses map[string]int64  `json:"statuses"`
		Messages map[string]string `json:"messages"`
		Stats    map[string]any    `json:"stats"`
		NodeKey  string            `json:"node_key"`
	}{map[string][]Row{}, map[string]int64{}, map[string]string{}, map[string]any{}, nodeKey}
	for _, a := range answers {
		body.Queries[a.ID] = append([]Row{}, a.Rows...)
		body.Statuses[a.ID] = a.Status
		body.Messages[a.ID] = a.Message
		body.Stats[a.ID] = a.Stats
		if a.Denylisted() {
			body.Stats[a.ID] = struct{}{}
		}
	}
	return encode(body)
}
