package adminapi

// FillLarge takes all the turns that large sets of documents have.
func (a *API) FillLarge() {
	for range largeQueue {
		a.large.queue <- struct{}{}
	}
}

// LargeFiles is from how many bytes on documents are large.
const LargeFiles = largeFiles
