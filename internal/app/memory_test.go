package app

import "testing"

func TestGCPercent(t *testing.T) {
	t.Parallel()
	for inUse, want := range map[uint64]int{0: 300, 1 << 20: 300, 16 << 20: 300, 32 << 20: 150, 48 << 20: 100, 96 << 20: 50, 1 << 40: 50} {
		if got := gcPercent(inUse); got != want {
			t.Errorf("%d bytes in use: %d %%, want %d", inUse, got, want)
		}
	}
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	if n := maxConns(); n < 1 {
		t.Errorf("room for %d agents", n)
	}
}
