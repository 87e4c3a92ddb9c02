package node

// Import is a node of another manager's database, to be known here by the key
// that it has, so that the fleet moves without enrolling again.
type Import struct {
	Node Node // ID, HostIdentifier and what is known
	Key  KeyHash
}

// Imported is what became of an Import.
type Imported string

// What may become of an Import.
const (
	ImportAdded   Imported = "added"
	ImportKnown   Imported = "known"    // the same identifier with the same key was there
	ImportClash   Imported = "clash"    // the identifier is there with another key; nothing was changed
	ImportKeyUsed Imported = "key used" // another node has the key; nothing was changed
)
