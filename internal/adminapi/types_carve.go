package adminapi

import (
	"time"

	"github.com/musterhq/muster/internal/policy"
)

// CarveInput asks a node for files.
type CarveInput struct {
	Node           string   `json:"node" doc:"Id, host identifier or hostname" minLength:"1" maxLength:"256"`
	Paths          []string `json:"paths" doc:"Absolute paths; % stands for any text within a name" minItems:"1" maxItems:"16"`
	Reason         string   `json:"reason,omitempty" doc:"Why; needed for what holds secrets" maxLength:"1000"`
	ExpiresSeconds int      `json:"expires_seconds,omitempty" doc:"How long the node is asked; an hour if left out" minimum:"60" maximum:"604800"`
}

// CarveCheckInput names paths.
type CarveCheckInput struct {
	Paths []string `json:"paths" minItems:"1" maxItems:"16"`
}

// CarveCheck is what the policy says of paths.
type CarveCheck struct {
	Tier     int         `json:"tier"`
	Decision string      `json:"decision" enum:"run,reason,refused"`
	Why      string      `json:"why"`
	Paths    []CarvePath `json:"paths"`
}

// CarvePath is what the policy says of one path.
type CarvePath struct {
	Path     string           `json:"path"`
	Tier     int              `json:"tier"`
	Allowed  bool             `json:"allowed" doc:"False for what no reason makes good"`
	Reasons  []policy.Reason  `json:"reasons"`
	Findings []policy.Finding `json:"findings"`
}

// Carve is one request for files of a node.
type Carve struct {
	ID             string         `json:"id"`
	NodeID         string         `json:"node_id"`
	HostIdentifier string         `json:"host_identifier"`
	Hostname       string         `json:"hostname"`
	Paths          []string       `json:"paths"`
	Tier           int            `json:"tier"`
	State          string         `json:"state" enum:"asked,sent,scheduled,uploading,verifying,done,failed,cancelled,expired"`
	Reason         string         `json:"reason"`
	CreatedBy      string         `json:"created_by"`
	CreatedAt      time.Time      `json:"created_at"`
	ExpiresAt      time.Time      `json:"expires_at" doc:"Until then the node is asked"`
	EndedAt        *time.Time     `json:"ended_at,omitempty"`
	KeptUntil      *time.Time     `json:"kept_until,omitempty"`
	Message        string         `json:"message"`
	Size           int64          `json:"size" doc:"Bytes of all archives, as far as they are known"`
	Received       int64          `json:"received" doc:"Bytes of them that are here"`
	Archives       []CarveArchive `json:"archives"`
}

// CarveArchive is what the node sends for one path.
type CarveArchive struct {
	N              int    `json:"n"`
	Path           string `json:"path"`
	CarveGUID      string `json:"carve_guid"`
	RequestID      string `json:"request_id"`
	State          string `json:"state" enum:"asked,sent,scheduled,uploading,verifying,done,failed,cancelled,expired"`
	Size           int64  `json:"size"`
	BlockSize      int64  `json:"block_size"`
	BlockCount     int64  `json:"block_count"`
	ReceivedBlocks int64  `json:"received_blocks"`
	SHA256         string `json:"sha256"`
	AgentSHA256    string `json:"agent_sha256" doc:"What the node says; empty if it does not know"`
	Verification   string `json:"verification" doc:"How the two compare; empty while that is not known" enum:",matched,unavailable,mismatch"`
	Format         string `json:"format" doc:"tar, tar.zst, or empty for what is neither"`
	Files          int    `json:"files"`
	Truncated      bool   `json:"truncated" doc:"There are more files than are listed"`
	Message        string `json:"message"`
}

// CarvePage is a page of carves.
type CarvePage struct {
	Carves     []Carve    `json:"carves"`
	Usage      CarveUsage `json:"usage"`
	NextCursor string     `json:"next_cursor"`
}

// CarveUsage is what all carves take.
type CarveUsage struct {
	Bytes      int64 `json:"bytes"`
	LimitBytes int64 `json:"limit_bytes"`
}

// CarveFiles is what an archive holds, by the node's word.
type CarveFiles struct {
	Files     []CarveFile `json:"files"`
	Truncated bool        `json:"truncated"`
}

// CarveFile is one member of an archive.
type CarveFile struct {
	Path     string    `json:"path" doc:"As on the node"`
	Size     int64     `json:"size"`
	Mode     string    `json:"mode" doc:"As -rw-r--r--"`
	Modified time.Time `json:"modified,omitzero"`
	Type     string    `json:"type" enum:"file,directory,link,symlink,device,fifo,other"`
	Odd      string    `json:"odd,omitempty" doc:"Why its name is not what it should be"`
	Link     string    `json:"link,omitempty" doc:"What it points to"`
}
