package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/musterhq/muster/e2e/weather"
)

// TestList names every scenario on a line of its own.
func TestList(t *testing.T) {
	var out, errOut strings.Builder
	if code := run(t.Context(), []string{"-list"}, &out, &errOut); code != kept || errOut.Len() > 0 {
		t.Fatalf("exit code %d: %s", code, errOut.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(weather.Scenarios()) {
		t.Errorf("%d lines for %d scenarios", len(lines), len(weather.Scenarios()))
	}
	for i, s := range weather.Scenarios() {
		if !strings.HasPrefix(lines[i], s.Name+" ") || !strings.HasSuffix(lines[i], s.Summary) || s.Limit <= 0 {
			t.Errorf("%+v is listed as %q", s, lines[i])
		}
	}
}

// TestWrong starts nothing for what cannot be meant.
func TestWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"name a scenario":       nil,
		`no scenario "killl"`:   {"kill", "killl"},
		`no scenario "all"`:     {"kill", "all"},
		"invalid value":         {"-kills", "many", "kill"},
		"flag provided but not": {"-sedd", "1", "kill"},
	} {
		var out, errOut strings.Builder
		if code := run(t.Context(), args, &out, &errOut); code != cannot || !strings.Contains(errOut.String(), want) || out.Len() > 0 {
			t.Errorf("%v: exit code %d, %s%s", args, code, out.String(), errOut.String())
		}
	}
	all, err := choose([]string{"all"})
	if err != nil || len(all) != len(weather.Scenarios()) {
		t.Errorf("all are %d, %v", len(all), err)
	}
}

// TestPlay goes on after a scenario that failed, and tells the worst.
func TestPlay(t *testing.T) {
	t.Setenv("MUSTER_BINARY", "/nonexistent")
	played := ""
	scenario := func(name string, err error) weather.Scenario {
		return weather.Scenario{Name: name, Limit: time.Minute, Run: func(ctx context.Context, o weather.Options) (*weather.Report, error) {
			played += name
			if _, ok := ctx.Deadline(); !ok || o.Binary != "/nonexistent" || !strings.HasSuffix(o.Dir, name) {
				return nil, fmt.Errorf("played with %+v", o)
			}
			return new(weather.Report), err
		}}
	}
	good, impossible := scenario("a", nil), scenario("b", fmt.Errorf("%w: no mount", weather.ErrCannot))
	bad := scenario("c", errors.New("the server died"))
	o := weather.Options{Out: t.Output()}
	if err := play(t.Context(), o, 0, []weather.Scenario{good}); err != nil {
		t.Errorf("a good one: %v", err)
	}
	if err := play(t.Context(), o, 0, []weather.Scenario{impossible, good}); err == nil || errors.Is(err, errBroken) {
		t.Errorf("one that cannot be made: %v", err)
	}
	err := play(t.Context(), o, 0, []weather.Scenario{bad, impossible, good})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "c: broken: the server died") || !strings.Contains(err.Error(), "no mount") {
		t.Errorf("one that failed: %v", err)
	}
	if played != "abacba" {
		t.Errorf("played %s", played)
	}
}
