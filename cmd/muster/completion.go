package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/musterhq/muster/internal/adminapi"
)

const (
	// completeWithin bounds how long a shell waits for names.
	completeWithin = 2 * time.Second
	// completeMost is how many nodes are asked for.
	completeMost = 200
)

// finder finds names that may stand where a word begins with prefix. It may
// return others, too.
type finder func(ctx context.Context, t *target, prefix string) ([]string, error)

// finders are by what a word of a command's usage means. NAME and ID mean what
// the command is about.
func finders() map[string]finder {
	return map[string]finder{
		"NODE": findNodes, "TAG": findTags, "CONTEXT": findContexts, "KIND/NAME": findResources,
		"ALERT":    names("/alerts", func(p adminapi.AlertPage) []adminapi.Alert { return p.Alerts }, func(a *adminapi.Alert) string { return a.ID }),
		"CARVE":    names("/carves", func(p adminapi.CarvePage) []adminapi.Carve { return p.Carves }, func(c *adminapi.Carve) string { return c.ID }),
		"CHANGE":   names("/changes", func(l adminapi.ChangeList) []adminapi.Change { return l.Changes }, func(c *adminapi.Change) string { return c.ID }),
		"LIVE":     names("/live", func(p adminapi.LivePage) []adminapi.Live { return p.Live }, func(q *adminapi.Live) string { return q.ID }),
		"NOTIFIER": names("/notifiers", itself, func(n *adminapi.Notifier) string { return n.Name }),
		"QUERY":    names("/events/queries", func(q adminapi.EventQueries) []adminapi.EventQuery { return q.Queries }, func(q *adminapi.EventQuery) string { return q.Query }),
		"REVISION": names("/revisions", func(l adminapi.RevisionList) []adminapi.Revision { return l.Revisions }, func(r *adminapi.Revision) string { return number(r.Number) }),
		"ROLE":     names("/roles", itself, func(r *adminapi.Role) string { return r.Name }),
		"RULE":     names("/rules", itself, func(r *adminapi.RuleStatus) string { return r.Name }),
		"SAVED":    names("/saved-queries", func(l adminapi.SavedQueries) []adminapi.SavedQuery { return l.SavedQueries }, func(q *adminapi.SavedQuery) string { return q.Name }),
		"SECRET":   names("/secrets", func(l adminapi.SecretList) []adminapi.Secret { return l.Secrets }, func(s *adminapi.Secret) string { return s.Name }),
		"SILENCE":  names("/silences", itself, func(s *adminapi.Silence) string { return s.ID }),
		"SINK":     names("/sinks", itself, func(s *adminapi.Sink) string { return s.Name }),
		"TOKEN":    names("/tokens", itself, func(k *adminapi.Token) string { return k.ID }),
		"TRIGGER":  names("/triggers", itself, func(g *adminapi.TriggerStatus) string { return g.Name }),
		"USER":     names("/users", func(l adminapi.UserList) []adminapi.ListedUser { return l.Users }, func(u *adminapi.ListedUser) string { return u.Name }),
	}
}

// flagWords are the flags whose values are names, by what they mean.
func flagWords() map[string]string {
	return map[string]string{
		"node": "NODE", "tag": "TAG", "context": "CONTEXT", "admin-context": "CONTEXT", "rule": "RULE", "notifier": "NOTIFIER",
		"role": "ROLE", "assignee": "USER", "query": "QUERY",
	}
}

func itself[T any](list []T) []T { return list }

// names finds the names of what a path lists.
func names[D, T any](path string, list func(D) []T, name func(*T) string) finder {
	return func(ctx context.Context, t *target, _ string) ([]string, error) {
		client, err := t.client()
		if err != nil {
			return nil, err
		}
		var d D
		if err := client.Call(ctx, http.MethodGet, path, nil, nil, &d); err != nil {
			return nil, err
		}
		things := list(d)
		all := make([]string, 0, len(things))
		for i := range things {
			all = append(all, name(&things[i]))
		}
		return all, nil
	}
}

func someNodes(ctx context.Context, t *target, search string, use func(adminapi.Node)) error {
	client, err := t.client()
	if err != nil {
		return err
	}
	query := url.Values{}
	if search != "" {
		query.Set("search", search)
	}
	return client.AllNodes(ctx, query, completeMost, func(n adminapi.Node) error {
		use(n)
		return nil
	})
}

// findNodes finds hostnames, and the ids of nodes whose id was begun.
func findNodes(ctx context.Context, t *target, prefix string) (all []string, err error) {
	err = someNodes(ctx, t, prefix, func(n adminapi.Node) {
		if all = append(all, n.Hostname); n.Hostname == "" || prefix != "" {
			all = append(all, n.ID)
		}
	})
	return all, err
}

// findTags finds the tags of some nodes; nothing lists those of all.
func findTags(ctx context.Context, t *target, _ string) (all []string, err error) {
	err = someNodes(ctx, t, "", func(n adminapi.Node) { all = append(all, n.Tags...) })
	return all, err
}

func findContexts(context.Context, *target, string) ([]string, error) {
	c, _, err := loadContexts()
	return slices.Collect(maps.Keys(c.Contexts)), err
}

func findResources(ctx context.Context, t *target, _ string) (all []string, err error) {
	client, err := t.client()
	if err != nil {
		return nil, err
	}
	var r adminapi.Resources
	if err := client.Call(ctx, http.MethodGet, "/resources", nil, nil, &r); err != nil {
		return nil, err
	}
	for _, raw := range r.Objects {
		var o struct{ Kind, Name string }
		if err := json.Unmarshal(raw, &o); err != nil {
			return nil, fmt.Errorf("resource: %w", err)
		}
		all = append(all, o.Kind, o.Kind+"/"+o.Name)
	}
	return all, nil
}

// offerable reports whether a name can be put on a command line as it is. Names
// come from nodes, too, and a shell must get none that it or the terminal obeys,
// or that is a flag.
func offerable(name string) bool {
	return name != "" && name[0] != '-' && !strings.ContainsFunc(name, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("._-:@/+,", r)
	})
}

// completion asks a finder on behalf of a shell. Whatever goes wrong, there are
// no names: a message would end up in what one types.
func completion(find finder) cobra.CompletionFunc {
	return func(cmd *cobra.Command, _ []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		ctx, stop := context.WithTimeout(cmd.Context(), completeWithin)
		defer stop()
		all, err := find(ctx, flaggedTarget(cmd.Flags()), prefix)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		all = slices.DeleteFunc(all, func(name string) bool { return !offerable(name) || !strings.HasPrefix(name, prefix) })
		slices.Sort(all)
		return slices.Compact(all), cobra.ShellCompDirectiveNoFileComp
	}
}

// flaggedTarget is the server that the flags of a command name.
func flaggedTarget(f *pflag.FlagSet) *target {
	var t target
	for name, value := range map[string]*string{"url": &t.url, "ca": &t.ca, "context": &t.context} {
		if flag := f.Lookup(name); flag != nil {
			*value = flag.Value.String()
		}
	}
	return &t
}

// completeAll lets a command and those below it complete names.
func completeAll(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		completeAll(sub)
	}
	known, words := finders(), flagWords()
	offer := func(f *pflag.Flag) {
		if find, ok := known[words[f.Name]]; ok && strings.HasPrefix(f.Value.Type(), "string") {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, completion(find))
		}
	}
	cmd.LocalNonPersistentFlags().VisitAll(offer)
	cmd.PersistentFlags().VisitAll(offer)
	if cmd.HasSubCommands() || cmd.ValidArgsFunction != nil {
		return
	}
	places := usageWords(cmd)
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if len(places) == 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		word := places[min(len(args), len(places)-1)]
		if len(args) >= len(places) && !strings.HasSuffix(word, "…") {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		directive := cobra.ShellCompDirectiveNoFileComp
		if strings.Contains(word, "FILE") || strings.Contains(word, "DIR") {
			directive = cobra.ShellCompDirectiveDefault
		}
		word, _, _ = strings.Cut(strings.TrimSuffix(word, "…"), "|")
		find, ok := known[word]
		if !ok {
			return nil, directive
		}
		found, _ := completion(find)(cmd, args, prefix)
		return found, directive
	}
}

// usageWords returns what the arguments of a command mean, in their order, by
// its usage: NODE of show NODE, SAVED of rm NAME below saved. Flags end them.
func usageWords(cmd *cobra.Command) (words []string) {
	for _, word := range strings.Fields(cmd.Use)[1:] {
		word = strings.Trim(word, "[]()|")
		switch {
		case word == "":
			continue
		case word[0] == '-':
			return words
		}
		words = append(words, subject(cmd, word))
	}
	return words
}

// subject says what a word that is not clear by itself means.
func subject(cmd *cobra.Command, word string) string {
	makes := slices.Contains([]string{"create", "add", "save"}, cmd.Name())
	if makes || !slices.Contains([]string{"NAME", "ID", "OTHER", "A", "B"}, word) {
		return word
	}
	parent := cmd.Parent().Name()
	if parent == "factor" && word == "NAME" {
		return "USER"
	}
	return strings.ToUpper(parent)
}
