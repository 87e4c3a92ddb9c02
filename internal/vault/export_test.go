package vault

import "net/http"

// Judge is judge.
func Judge(status int, body []byte) (Identity, error) { return judge(status, body) }

// SetTransport replaces how Vault is reached.
func SetTransport(c *Client, t http.RoundTripper) { c.http.Transport = t }
