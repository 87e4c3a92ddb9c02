package live

// AnswerFilter says which nodes of a live query a list shows. Zero fields do
// not restrict.
type AnswerFilter struct {
	State        State
	AnsweredOnly bool
	Nodes        []string // ids of nodes that are meant; nil for all
	AfterSeq     int64    // only answers that arrived after this one; implies AnsweredOnly
	Cursor       string
	Limit        int
}

// Filter says which live queries a list shows. Zero fields do not restrict.
type Filter struct {
	Kind      Kind
	CreatedBy string
	Phase     Phase
	Text      string // part of the text or of the reason, in any case
	Cursor    string
	Limit     int
}
