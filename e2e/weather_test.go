package e2e

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/weather"
)

// play plays a scenario of bad weather; every promise must be kept.
func play(t *testing.T, scenario func(context.Context, weather.Options) (*weather.Report, error), o weather.Options) {
	t.Helper()
	o.Binary, o.Dir, o.Out, o.Short = binary(t), t.TempDir(), t.Output(), true
	report, err := scenario(t.Context(), o)
	if report != nil {
		if err := report.Print(t.Output()); err != nil {
			t.Fatal(err)
		}
		for _, promise := range report.Broken() {
			t.Error(promise)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestCrash kills the server with SIGKILL at random moments while agents log
// numbered rows, and reconciles: every acknowledged row is found exactly once.
// MUSTER_CRASH_KILLS sets how often; MUSTER_CRASH_SEED repeats a run.
func TestCrash(t *testing.T) {
	t.Parallel()
	play(t, weather.Kill, weather.Options{
		Kills: number(t, "MUSTER_CRASH_KILLS", 6), Seed: uint64(number(t, "MUSTER_CRASH_SEED", 0)),
	})
}

// number returns a number from the environment.
func number(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestDatabaseGone takes the database away while agents work.
func TestDatabaseGone(t *testing.T) {
	t.Parallel()
	play(t, weather.DatabaseGone, weather.Options{For: 3 * time.Second})
}

// TestBombs sends bodies that are larger inside than outside.
func TestBombs(t *testing.T) {
	t.Parallel()
	play(t, weather.Bombs, weather.Options{})
}

// TestRubbish sends what no agent would, and rows that are no text.
func TestRubbish(t *testing.T) {
	t.Parallel()
	play(t, weather.Rubbish, weather.Options{For: 3 * time.Second, Seed: uint64(number(t, "MUSTER_RUBBISH_SEED", 0))})
}
