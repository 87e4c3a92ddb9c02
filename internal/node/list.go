package node

import "time"

// Filter says which nodes a list shows, in which order, and where it goes on.
// Zero fields do not restrict.
type Filter struct {
	Search   string // in hostname, host identifier, address or id, whatever the case
	Tag      string
	Platform string
	Version  string   // of osquery
	Nodes    []string // ids of those that are meant; nil for all
	Status   string   // one of the statuses; nodes that are gone are shown with StatusGone alone
	Sort     string   // hostname if empty; see the store for the others
	Desc     bool
	Limit    int
	Cursor   string // Page.Next of the page before
	Now      time.Time
}

// What a filter's Status may be.
const (
	StatusOnline      = "online"
	StatusOffline     = "offline"
	StatusQuarantined = "quarantined" // whether online or not
	StatusGone        = "gone"
)

// Page is one page of a list.
type Page struct {
	Nodes []Node // without Details
	Total int    // on all pages
	Next  string // "" on the last page
}

// Facets counts nodes by what a list can be filtered by.
type Facets struct {
	Total, Online             int
	New24h                    int // enrolled for the first time within a day
	Quarantined               int
	Clashes24h                int // nodes whose last clash was within a day
	Platforms, Tags, Versions []Count
}

// Count is how many nodes have a value.
type Count struct {
	Value string
	Count int
}
