package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/musterhq/muster/internal/alert"
	"github.com/musterhq/muster/internal/resource"
)

// slackMessage is what incoming webhooks of Slack and of those that speak like it
// take: a text, and attachments, which Slack calls old and all of them know.
type slackMessage struct {
	Channel     string            `json:"channel,omitempty"`
	Text        string            `json:"text"`
	LinkNames   int               `json:"link_names"` // 0: names in what agents said call nobody
	Attachments []slackAttachment `json:"attachments"`
}

type slackAttachment struct {
	Color     string       `json:"color"`
	Fallback  string       `json:"fallback"`
	Title     string       `json:"title"`
	TitleLink string       `json:"title_link,omitempty"`
	Text      string       `json:"text,omitempty"`
	Fields    []slackField `json:"fields"`
	MarkIn    []string     `json:"mrkdwn_in"`
}

type slackField struct {
	Title string `json:"title"`
	Value string `json:"value"`
	Short bool   `json:"short"`
}

// Bounds of a message: chats cut or refuse larger ones.
const (
	maxAttachments = 20
	maxChatText    = 1500
	shortField     = 40
)

// chat posts a message to a chat.
func (d *delivery) chat(ctx context.Context, s *resource.Slack) (string, error) {
	target, err := d.secret(&s.URL)
	if err != nil {
		return "", err
	}
	ca, err := d.secret(s.CA)
	if err != nil {
		return "", err
	}
	m := slackMessage{Channel: s.Channel, Text: Escape(d.headline()), Attachments: []slackAttachment{}}
	for i := range d.m.Items[:min(len(d.m.Items), maxAttachments)] {
		m.Attachments = append(m.Attachments, d.attachment(&d.m.Items[i]))
	}
	if rest := len(d.m.Items) - len(m.Attachments); rest > 0 {
		m.Text += fmt.Sprintf("\n%d of them are not shown here.", rest)
	}
	body, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	return d.post(ctx, target, ca, body, nil)
}

func (d *delivery) attachment(i *alert.Item) slackAttachment {
	t := d.telling(i)
	title := t.Title
	if v := verb(i); v != "" {
		title = "[" + v + "] " + title
	}
	a := slackAttachment{Color: color(i), Fallback: Escape(title), Title: Escape(title), TitleLink: t.URL, Fields: []slackField{}, MarkIn: []string{"text"}}
	if t.Text != "" && i.Action != alert.Ended {
		a.Text = block(alert.Text(t.Text, maxChatText))
	}
	for _, f := range facts(&t) {
		a.Fields = append(a.Fields, slackField{Title: Escape(f[0]), Value: Escape(f[1]), Short: len(f[1]) <= shortField})
	}
	return a
}

func color(i *alert.Item) string {
	switch {
	case i.Alert.State == alert.Resolved:
		return "#2e7d32"
	case i.Alert.Severity.Rank() >= alert.High.Rank():
		return "#c62828"
	case i.Alert.Severity == alert.Medium:
		return "#ef6c00"
	}
	return "#546e7a"
}

// zeroWidth is put where a chat would take what follows for a name or a link.
const zeroWidth = "\u200b"

// Escape returns a line as a chat shows it and does nothing else with it: no
// mention, no link, no markup that could hide something. &, < and > are Slack's
// own; the rest is Markdown's, which Mattermost and Rocket.Chat read.
func Escape(s string) string {
	return strings.NewReplacer(
		"&", "&amp;", "<", "&lt;", ">", "&gt;",
		"@", "@"+zeroWidth, "](", "]"+zeroWidth+"(", "][", "]"+zeroWidth+"[", "://", ":"+zeroWidth+"//", "www.", "www"+zeroWidth+".",
		"`", "ˋ", "*", "∗", "~", "∼", "|", "ǀ",
	).Replace(s)
}

// block returns lines as a block that is shown as it is.
func block(s string) string {
	return "```\n" + strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "```", "ˋˋˋ").Replace(s) + "\n```"
}
