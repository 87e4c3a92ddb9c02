package app

import (
	"fmt"
	"net"
	"os"

	"github.com/musterhq/muster/internal/config"
	"github.com/musterhq/muster/internal/credential"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/signon"
)

// openSignOn makes what sends people to providers; without a file of them it knows
// none.
func (a *App) openSignOn() (*signon.Service, error) {
	o := signon.Options{
		PublicURL: a.cfg.PublicURL, Secrets: &credential.Reader{Dir: a.cfg.Secrets(), Getenv: os.LookupEnv},
		Key: a.keyer.Hash(node.PurposeSignOn, ""), Now: a.now,
	}
	if a.cfg.SignOnFile != "" {
		var err error
		if o.Providers, err = signon.LoadProviders(a.cfg.SignOnFile); err != nil {
			return nil, fmt.Errorf("sign_on_file: %w", err)
		}
		if o.PublicURL == "" {
			return nil, fmt.Errorf("sign_on_file: needs public_url, to which providers send people back")
		}
	}
	return signon.New(o)
}

// site is where people's browsers find the server: passkeys are for it alone.
func site(cfg *config.Server) string {
	if cfg.PublicURL != "" {
		return cfg.PublicURL
	}
	_, port, err := net.SplitHostPort(cfg.AdminListen)
	if err != nil || !cfg.AdminLocal() || port == "0" {
		return ""
	}
	return "http://" + net.JoinHostPort("localhost", port)
}
