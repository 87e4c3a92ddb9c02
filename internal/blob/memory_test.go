package blob_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/musterhq/muster/internal/blob"
)

const (
	memoryEnv = "MUSTER_BLOB_MEMORY"
	// memoryBound is what ten uploads of 100 MB may take over an idle process.
	// The server's own goal is 48 MiB for a directory and 64 for S3, with all
	// that receives them.
	memoryBound = 32 << 20
)

// TestMemory: ten blobs of 100 MB at once, in a process of their own, so that
// nothing else is measured. What counts is the peak of its resident memory.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 2 GB")
	}
	size := 100 << 20
	if raceEnabled {
		size = 12 << 20 // the detector's memory is not ours
	}
	for name, where := range map[string]string{"dir": t.TempDir(), "s3": startS3(t, "", "")} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), memoryEnv+"="+where, memoryEnv+"_SIZE="+strconv.Itoa(size))
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", name, err, out)
		}
		var idle, peak int64
		if _, err := fmt.Sscan(string(out), &idle, &peak); err != nil {
			t.Fatalf("%s: %q: %v", name, out, err)
		}
		t.Logf("%s: %.1f MiB idle, at most %.1f MiB more", name, float64(idle)/(1<<20), float64(peak-idle)/(1<<20))
		if peak-idle > memoryBound && !raceEnabled {
			t.Errorf("%s: %d bytes over idle", name, peak-idle)
		}
	}
}

func memoryChild() {
	if err := upload(context.Background(), os.Getenv(memoryEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err) // and no numbers, which fails the test
	}
}

func upload(ctx context.Context, where string) error {
	var s blob.Store
	var err error
	if filepath.IsAbs(where) {
		s, err = blob.OpenDir(where)
	} else {
		s, err = blob.OpenS3(ctx, bucketAt(where, ""))
	}
	if err != nil {
		return err
	}
	size, err := strconv.ParseInt(os.Getenv(memoryEnv+"_SIZE"), 10, 64)
	if err != nil {
		return err
	}
	if err := s.Put(ctx, "warm", 1, content(1, 0)); err != nil {
		return err
	}
	debug.FreeOSMemory()
	idle, err := resident("VmRSS")
	if err != nil {
		return err
	}
	// From here on the kernel counts the peak anew.
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0o600); err != nil {
		return err
	}
	var group errgroup.Group
	for i := range 10 {
		group.Go(func() error { return s.Put(ctx, fmt.Sprint(i), size, content(size, byte(i))) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	peak, err := resident("VmHWM")
	if err != nil {
		return err
	}
	for i := range 10 {
		if err := s.Delete(ctx, fmt.Sprint(i)); err != nil {
			return err
		}
	}
	fmt.Fprintln(os.Stdout, idle, peak)
	runtime.KeepAlive(s)
	return s.Close()
}

// resident reads a line of the kernel's about this process.
func resident(field string) (int64, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("no %s", field)
}
