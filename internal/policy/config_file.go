package policy

import (
	"fmt"
	"slices"
)

// files judges file monitoring: file_paths and what depends on its categories.
func (r *report) files() {
	c := r.config
	for _, category := range names(r, "exclude_paths", c.ExcludePaths, maxCategories) {
		r.exclusions(category)
	}
	r.each("file_accesses", c.FileAccesses, maxCategories, r.fileAccess)
	for _, category := range names(r, "file_paths", c.FilePaths, maxCategories) {
		path := "file_paths." + clip(category)
		r.category(path, category, c.FilePaths[category])
		r.each(path, c.FilePaths[category], maxPatterns, monitored)
	}
	for _, category := range names(r, "file_paths_query", c.FilePathsQuery, maxCategories) {
		path := "file_paths_query." + clip(category)
		r.category(path, category, c.FilePathsQuery[category])
		r.each(path, c.FilePathsQuery[category], maxTexts, r.filePathsQuery)
	}
}

// monitors reports whether a category is one of file_paths or file_paths_query.
func (r *report) monitors(category string) bool {
	_, listed := r.config.FilePaths[category]
	_, asked := r.config.FilePathsQuery[category]
	return listed || asked
}

// category judges a category's name and that it holds something; it adds an item
// only if there is something to say.
func (r *report) category(path, name string, entries []string) {
	v := newVerdict()
	if problem := nameProblem(name); problem != "" {
		v.refuse("config", clip(name), "bad-name", problem)
	}
	if len(entries) == 0 {
		v.find("empty-category", Warning, "it monitors nothing; leave it out")
	}
	if len(v.Findings) > 0 {
		r.add(path, v)
	}
}

func (r *report) filePathsQuery(sql string) Verdict {
	v := r.query(Query{SQL: sql, Use: FilePaths})
	v.add(Reason{Kind: "config", Name: "file_paths_query", Tier: Sensitive, Why: "what is monitored is known only on the host"})
	return v.sorted()
}

func (r *report) fileAccess(category string) Verdict {
	v := newVerdict()
	v.Platforms = []string{"linux"}
	v.add(Reason{Kind: "config", Name: "file_accesses", Tier: Sensitive, Why: "every read of these files is an event, also those of people"})
	if !r.monitors(category) {
		v.find("unknown-category", Warning, "no file_paths monitors %s; it does nothing", clip(category))
	}
	return v
}

// exclusions judges what is taken out of one category. Agents keep exclusions
// until they start again.
func (r *report) exclusions(category string) {
	path := "exclude_paths." + clip(category)
	if !r.monitors(category) {
		v := newVerdict()
		v.find("unknown-category", Warning, "no file_paths monitors %s; it excludes nothing", clip(category))
		r.add(path, v)
	}
	listed := r.config.FilePaths[category]
	var monitored []filePattern
	for _, text := range listed[:min(len(listed), maxPatterns)] { // more are refused
		if p, problem := parsePattern(text); problem == "" {
			monitored = append(monitored, p)
		}
	}
	_, asked := r.config.FilePathsQuery[category]
	r.each(path, r.config.ExcludePaths[category], maxPatterns, func(text string) Verdict {
		return exclusion(text, monitored, !asked)
	})
}

// yara judges rule files, rule URLs, and what is scanned with them.
func (r *report) yara() {
	y := r.config.Yara
	for _, category := range names(r, "yara.file_paths", y.FilePaths, maxCategories) {
		path := "yara.file_paths." + clip(category)
		if !r.monitors(category) {
			v := newVerdict()
			v.refuse("config", clip(category), "unknown-category", "no file_paths monitors "+clip(category)+"; nothing would be scanned; add the category to file_paths")
			r.add(path, v)
		}
		r.each(path, y.FilePaths[category], maxNames, r.yaraGroup)
	}
	r.each("yara.signature_urls", y.SignatureURLs, maxNames, signatureURL)
	for _, group := range names(r, "yara.signatures", y.Signatures, maxNames) {
		path := "yara.signatures." + clip(group)
		r.category(path, group, y.Signatures[group])
		r.each(path, y.Signatures[group], maxNames, ruleFile)
	}
}

func (r *report) yaraGroup(group string) Verdict {
	v := newVerdict()
	v.add(Reason{Kind: "config", Name: "yara.file_paths", Tier: Sensitive, Why: "every changed file is read and scanned; rows say which rules its content matched"})
	if _, ok := r.config.Yara.Signatures[group]; !ok {
		v.refuse("config", clip(group), "unknown-group", "there is no group "+clip(group)+" in yara.signatures; nothing would be scanned for; add it")
	}
	return v.sorted()
}

// events judges which event tables are on.
func (r *report) events() {
	e := r.config.Events
	subscriber := func(name string) Verdict {
		v := newVerdict()
		if _, evented := r.table(name); !evented {
			v.find("unknown-subscriber", Warning, "osquery has no event table %s; it does nothing", clip(name))
		}
		return v
	}
	r.each("events.disable_subscribers", e.DisableSubscribers, maxNames, func(name string) Verdict {
		v := subscriber(name)
		v.add(Reason{Kind: "config", Name: clip(name), Tier: Dangerous, Why: "blind: its events are no longer seen; remove the queries that read it instead"})
		return v
	})
	r.each("events.enable_subscribers", e.EnableSubscribers, maxNames, func(name string) Verdict {
		v := subscriber(name)
		v.add(Reason{Kind: "config", Name: clip(name), Tier: Sensitive, Why: "load: agents take these events, whether a query reads them or not"})
		if slices.Contains(e.DisableSubscribers, name) {
			v.find("disabled-too", Warning, "%s is disabled too, which wins", clip(name))
		}
		return v
	})
}

// prometheus judges what the table prometheus_metrics fetches, from the host.
func (r *report) prometheus() {
	const longest = 60 // seconds; the scheduler waits
	p := r.config.PrometheusTargets
	r.each("prometheus_targets.urls", p.URLs, maxNames, prometheusURL)
	if p.Timeout < 0 || p.Timeout > longest {
		v := newVerdict()
		v.refuse("config", "timeout", "out-of-range", fmt.Sprintf("it is %d; the agent's schedule waits so many seconds; write 1 to %d", p.Timeout, longest))
		r.add("prometheus_targets.timeout", v)
	}
}
