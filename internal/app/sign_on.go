package app

import (
	"fmt"
	"os"

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
func (a *App) site() string {
	if a.cfg.PublicURL != "" {
		return a.cfg.PublicURL
	}
	if !a.cfg.AdminLocal() || a.admin != nil {
		return ""
	}
	return fmt.Sprintf("http://localhost:%d", addr(a.adminListener).Port())
}
