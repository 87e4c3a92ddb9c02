//go:build race

package redact_test

// raceDetector says that sync.Pool forgets at random what it is given.
const raceDetector = true
