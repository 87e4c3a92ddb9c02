package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/adminapi"
)

// stopTimeout bounds what follows on stopping a query: the call, and the news
// of the end.
const stopTimeout = 10 * time.Second

// liveUpdate is one message of a live query's stream.
type liveUpdate struct {
	query  *adminapi.Live
	answer *adminapi.LiveAnswer
}

// follower prints a live query's answers until it ends, or nobody waits.
type follower struct {
	cmd     *cobra.Command
	client  *adminapi.Client
	print   *queryPrinter
	query   adminapi.Live
	keep    bool // it has a time of its own: leave it running when ours is over
	updates chan liveUpdate
	ended   chan error
	people  *interrupts
	held    string
}

// followQuery prints rows as they come. When its time is over, the query is
// stopped unless it has a time of its own; a person who presses Ctrl-C is asked.
func followQuery(cmd *cobra.Command, client *adminapi.Client, o *output, q *queryFlags, started adminapi.Live) error {
	f := &follower{
		cmd: cmd, client: client, query: started, print: newQueryPrinter(cmd, o.form, started), keep: q.expiresGiven,
		updates: make(chan liveUpdate), ended: make(chan error, 1), people: newInterrupts(cmd),
	}
	defer f.people.close()
	f.print.note("asked %d nodes (live query %s)", started.Nodes, started.ID)
	if started.State == livePending {
		f.print.note("%s", pendingText(started.ID))
		if !q.waitGiven {
			return f.leave(errors.New("it was not approved yet"))
		}
	}
	ctx, cancel := context.WithCancel(f.people.ctx)
	defer cancel()
	go func() { f.ended <- f.stream(ctx) }()
	return f.run(q.wait)
}

// stream sends what the server tells into updates.
func (f *follower) stream(ctx context.Context) error {
	return f.client.Stream(ctx, adminapi.LiveStream(f.query.ID), func(e adminapi.StreamEvent) (bool, error) {
		var u liveUpdate
		var err error
		switch e.Name {
		case adminapi.EventAnswer:
			err = json.Unmarshal(e.Data, &u.answer)
		case adminapi.EventCounts, adminapi.EventEnd:
			err = json.Unmarshal(e.Data, &u.query)
		default:
			return false, nil // of a newer server
		}
		if err != nil {
			return false, fmt.Errorf("follow live query: %w", err)
		}
		select {
		case f.updates <- u:
			return e.Name == adminapi.EventEnd, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})
}

func (f *follower) run(wait time.Duration) error {
	over := time.NewTimer(wait)
	defer over.Stop()
	tick := time.NewTicker(progressPause)
	defer tick.Stop()
	for {
		select {
		case u := <-f.updates:
			if err := f.take(u); err != nil {
				return err
			}
		case err := <-f.ended:
			if f.people.ctx.Err() != nil { // the command's end came first
				return f.stop()
			}
			return f.finish(err)
		case <-tick.C:
			if err := f.print.tick(); err != nil {
				return err
			}
		case <-over.C:
			if f.keep {
				return f.leave(fmt.Errorf("%d of %d nodes did not answer yet", unanswered(f.query.Counts), f.query.Nodes))
			}
			return f.stop()
		case <-f.people.stop:
			return f.stop()
		case <-f.people.pressed:
			switch f.ask() {
			case stopIt:
				return f.stop()
			case leaveIt:
				return f.leave(errors.New("it was left running"))
			case watchOn:
			}
		}
	}
}

func (f *follower) take(u liveUpdate) error {
	if u.answer != nil {
		return f.print.answer(u.answer)
	}
	was := f.query.State
	f.query = *u.query
	f.print.counts(f.query)
	if f.query.Held != f.held {
		if f.held = f.query.Held; f.held != "" {
			f.print.note("%s", heldText(f.query))
		}
	}
	if was == livePending && f.query.State == liveRunning {
		f.print.note("approved; nodes are asked now")
	}
	return nil
}

// stop stops the query and takes what came before that.
func (f *follower) stop() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(f.cmd.Context()), stopTimeout)
	defer cancel()
	if err := f.client.Call(ctx, http.MethodPost, "/live/"+url.PathEscape(f.query.ID)+"/stop", nil, nil, nil); err != nil {
		if err := f.print.finish(); err != nil {
			return err
		}
		return fmt.Errorf("the live query %s could not be stopped: %w; type: muster live stop %[1]s", f.query.ID, err)
	}
	if f.people.ctx.Err() != nil { // the stream is gone with it
		go func() { f.ended <- f.stream(ctx) }()
	}
	for {
		select {
		case u := <-f.updates:
			if err := f.take(u); err != nil {
				return err
			}
		case err := <-f.ended:
			if errors.Is(err, context.Canceled) { // of the first stream
				continue
			}
			return f.finish(err)
		case <-ctx.Done():
			return f.finish(ctx.Err())
		}
	}
}

// finish prints the rest and says how it ended.
func (f *follower) finish(err error) error {
	if err := f.print.finish(); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if f.query.Truncated {
		say(f.cmd, "there were more rows than are kept; see muster live show %s", f.query.ID)
	}
	switch left := unanswered(f.query.Counts); {
	case f.query.State == "rejected":
		return &exit{exitRefused, fmt.Errorf("live query %s was rejected", f.query.ID)}
	case left > 0:
		return &exit{exitPartly, fmt.Errorf("%d of %d nodes did not answer", left, f.query.Nodes)}
	}
	return nil
}

// leave prints the rest and leaves the query running.
func (f *follower) leave(why error) error {
	if err := f.print.finish(); err != nil {
		return err
	}
	say(f.cmd, "live query %s goes on; next: muster live show %[1]s, muster live results %[1]s, muster live stop %[1]s", f.query.ID)
	return &exit{exitPartly, why}
}

// choice is what a person who pressed Ctrl-C wants.
type choice int

const (
	watchOn choice = iota
	stopIt
	leaveIt
)

// ask asks what Ctrl-C was meant to do. Another one leaves.
func (f *follower) ask() choice {
	f.print.line.clear()
	_, _ = fmt.Fprint(f.cmd.ErrOrStderr(), "\nStop the query (s), leave it running (l), or watch on (w)? [s] ")
	typed := make(chan string, 1)
	go func() {
		line, err := bufio.NewReader(os.Stdin).ReadString('\n')
		if err != nil {
			line = "l"
		}
		typed <- line
	}()
	select {
	case line := <-typed:
		switch strings.ToLower(strings.TrimSpace(line)) {
		case "l", "leave":
			return leaveIt
		case "w", "watch":
			return watchOn
		}
		return stopIt
	case <-f.people.pressed:
		_, _ = fmt.Fprintln(f.cmd.ErrOrStderr())
		return leaveIt
	case <-f.people.stop:
		return stopIt
	}
}

// interrupts tells Ctrl-C apart from other ends where somebody can be asked;
// elsewhere both just end the command, as its context does.
type interrupts struct {
	ctx     context.Context //nolint:containedctx // it replaces the command's, which Ctrl-C ends
	pressed chan os.Signal
	stop    <-chan struct{}
	done    context.CancelFunc
}

func newInterrupts(cmd *cobra.Command) *interrupts {
	if !attended(cmd.ErrOrStderr()) {
		return &interrupts{ctx: cmd.Context(), stop: cmd.Context().Done(), done: func() {}}
	}
	i := &interrupts{ctx: context.WithoutCancel(cmd.Context()), pressed: make(chan os.Signal, 1)}
	terminated, done := signal.NotifyContext(i.ctx, syscall.SIGTERM, syscall.SIGHUP)
	i.stop, i.done = terminated.Done(), done
	signal.Notify(i.pressed, os.Interrupt)
	return i
}

func (i *interrupts) close() {
	if i.pressed != nil {
		signal.Stop(i.pressed)
	}
	i.done()
}
