package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Load returns the configuration: defaults, then the file if path is not
// empty, then the variables that getenv knows, then flags, a text by Key.Flag.
// The error tells of everything that is wrong, and where it stands.
func Load(path string, getenv func(string) (string, bool), flags map[string]string) (Server, error) {
	l := loader{Server: Default(), path: path, origins: map[string]string{}}
	return l.Server, l.load(getenv, flags)
}

// OriginDefault is where a value comes from that nobody set.
const OriginDefault = "default"

// Setting is a key with its value in force.
type Setting struct {
	Key    string `json:"key"`
	Value  string `json:"value"`  // masked; see Mask
	Origin string `json:"origin"` // OriginDefault, the file and line, the variable, or the flag
}

// Settings returns all settings as Load takes them, with where each came from.
// Also values that are wrong are in it, beside the error.
func Settings(path string, getenv func(string) (string, bool), flags map[string]string) ([]Setting, error) {
	l := loader{Server: Default(), path: path, origins: map[string]string{}}
	err := l.load(getenv, flags)
	var list []Setting
	for _, k := range Keys() {
		list = append(list, Setting{k.Name, l.MaskedText(k.Name), cmp.Or(l.origins[k.Name], OriginDefault)})
	}
	return list, err
}

// loader fills a Server and notes where each value stands.
type loader struct {
	Server

	path    string
	origins map[string]string // by key; none for a default
}

func (l *loader) load(getenv func(string) (string, bool), flags map[string]string) error {
	var wrong []error
	if l.path != "" {
		b, err := os.ReadFile(l.path)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		wrong = append(wrong, l.file(b))
	}
	for _, k := range Keys() {
		if text, ok := getenv(k.Env); ok {
			wrong = append(wrong, l.put(k.Name, text, "environment "+k.Env))
		}
		if text, ok := flags[k.Flag]; ok {
			err := l.put(k.Name, text, "flag --"+k.Flag)
			if Mask(text) != text {
				err = fmt.Errorf("flag --%s: holds a secret, which everybody on this machine could see; put it into the file, or into %s", k.Flag, k.Env)
			}
			wrong = append(wrong, err)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return err
	}
	return l.locate(l.Validate())
}

// put sets a key and notes its origin.
func (l *loader) put(name, text, origin string) error {
	l.origins[name] = origin
	if err := l.set(name, text); err != nil {
		return fmt.Errorf("%s: %w", origin, err)
	}
	return nil
}

// locate says of each problem where the value stands.
func (l *loader) locate(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var located []error
	for _, e := range joined.Unwrap() {
		if p, ok := errors.AsType[*problem](e); ok && l.origins[p.key] != "" {
			e = fmt.Errorf("%s: %w", l.origins[p.key], e)
		}
		located = append(located, e)
	}
	return errors.Join(located...)
}

// file reads muster.yaml.
func (l *loader) file(b []byte) error {
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		return fmt.Errorf("configuration %s: %s", l.path, yaml.FormatError(err, false, true))
	}
	var wrong []error
	for _, d := range doc.Docs {
		if d.Body == nil {
			continue
		}
		mapping, ok := d.Body.(ast.MapNode)
		if !ok {
			wrong = append(wrong, fmt.Errorf("configuration %s: must be a mapping of keys to values", l.path))
			continue
		}
		for it := mapping.MapRange(); it.Next(); {
			origin := fmt.Sprintf("%s line %d", l.path, it.Key().GetToken().Position.Line)
			name, err := scalar(it.Key())
			if err == nil {
				err = l.setNode(name, it.Value())
			}
			if err != nil {
				wrong = append(wrong, fmt.Errorf("%s: %w", origin, err))
			}
			l.origins[name] = origin
		}
	}
	return errors.Join(wrong...)
}
