package config

import (
	"net/url"
	"reflect"
	"regexp"
	"strings"
)

// secretive is what parameters of a URL are called that let their bearer in.
var secretive = regexp.MustCompile(`(?i)(secret|token|passw|key|auth|sig|credential)`)

// masked stands for a secret.
const masked = "xxxxx"

// Mask returns a value of a setting without the secrets in its URLs: passwords, and
// parameters that are called like one. What has none is returned as it is. Of a list
// each value is looked at.
func Mask(text string) string {
	parts := strings.Split(text, ",")
	for i, part := range parts {
		parts[i] = maskURL(part)
	}
	return strings.Join(parts, ",")
}

func maskURL(text string) string {
	if !strings.Contains(text, "://") {
		return text
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return masked // it may hold anything
	}
	hidden := false
	if _, has := u.User.Password(); has {
		u.User, hidden = url.UserPassword(u.User.Username(), masked), true
	}
	query := u.Query()
	for name := range query {
		if secretive.MatchString(name) && !strings.EqualFold(name, "authSource") && !strings.EqualFold(name, "authMechanism") {
			query.Set(name, masked)
			hidden = true
		}
	}
	if !hidden {
		return text
	}
	u.RawQuery = query.Encode()
	return u.String()
}

// MaskedText is Text without secrets.
func (s *Server) MaskedText(name string) string {
	v, err := s.field(name)
	if err != nil {
		return ""
	}
	if list, ok := reflect.TypeAssert[[]string](v); ok {
		shown := make([]string, len(list))
		for i, text := range list {
			shown[i] = Mask(text)
		}
		return strings.Join(shown, ",")
	}
	return Mask(format(v))
}
