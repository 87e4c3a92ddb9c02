package transparency

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html/template"
	"strings"
	"time"
	"unicode"
)

//go:embed page.html
var page string

// style has no comments: html/template takes those out, and the hash in SecurityPolicy
// would be of something else.
//
//go:embed style.css
var style string

// SecurityPolicy is the Content-Security-Policy of all that is written here: its
// own style, and nothing else.
func SecurityPolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// Writer writes pages. Safe for concurrent use.
type Writer struct{ pages *template.Template }

// NewWriter reads the templates, which are the program's own.
func NewWriter() *Writer {
	t := template.New("").Funcs(template.FuncMap{"show": show, "moment": moment, "count": count})
	return &Writer{template.Must(t.Parse(page + `{{define "style"}}` + style + `{{end}}`))}
}

// Page returns a document for people to read, in HTML.
func (w *Writer) Page(d Disclosure) ([]byte, error) { return w.write("page", d) }

// Notice returns a page that says one thing.
func (w *Writer) Notice(title, text string) ([]byte, error) {
	return w.write("notice", struct{ Title, Text string }{title, text})
}

func (w *Writer) write(name string, v any) ([]byte, error) {
	var b bytes.Buffer
	if err := w.pages.ExecuteTemplate(&b, name, v); err != nil {
		return nil, fmt.Errorf("transparency: %w", err)
	}
	return b.Bytes(), nil
}

// show makes visible what would change how the text around it is read: control
// characters, and those that turn the direction of writing.
func show(s string) string {
	hidden := func(r rune) bool {
		return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
	}
	if strings.IndexFunc(s, hidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if hidden(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func moment(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04") }

// count is "1 time" or "2 times".
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
