package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/musterhq/muster/internal/agentapi"
	"github.com/musterhq/muster/internal/agentconn"
	"github.com/musterhq/muster/internal/node"
	"github.com/musterhq/muster/internal/pki"
	"github.com/musterhq/muster/internal/resource"
)

// listenAgents opens the agents' listener.
func (a *App) listenAgents(ctx context.Context) error {
	auth := pki.ClientAuth(a.cfg.ClientAuth)
	if auth == pki.ClientAuthRequired && a.cfg.ClientCertHeader != "" {
		auth = pki.ClientAuthOptional // a proxy has none of its own to show; agentapi looks for the agent's
	}
	config, err := a.cert.ServerConfigFor(a.clients, auth)
	if err != nil {
		return err
	}
	proxies, err := a.cfg.Proxies()
	if err != nil {
		return err
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.AgentListen)
	if err != nil {
		return fmt.Errorf("agent_listen: %w; choose another --agent-listen", err)
	}
	most := maxConns()
	if limit := int(a.cfg.LimitConnections); limit > 0 {
		most = min(most, limit)
	}
	a.agentListener = agentconn.Listen(l, agentconn.Options{
		TLS: config, Most: most, PerAddress: int(a.cfg.LimitConnectionsPerAddress), Proxies: proxies,
		Describe: func(s *tls.ConnectionState) node.Certificate { return pki.Describe(s.PeerCertificates[0]) },
		Refused: func(from netip.Addr) {
			a.metrics.capped.Inc()
			a.log.DebugContext(ctx, "connection refused: its address has too many", "remote", from)
		},
	})
	return nil
}

// agentAPI builds the agents' API.
func (a *App) agentAPI(catalog *resource.Catalog) (*agentapi.API, error) {
	aliases, err := agentapi.ParseAliases(a.cfg.AgentAliases)
	if err != nil {
		return nil, fmt.Errorf("agent_aliases: %w", err)
	}
	enroller := node.NewEnroller(node.EnrollerOptions{
		Store: a.store, Registry: a.registry, Keyer: a.keyer, Now: a.now,
		Admitted: a.enrollments.Enrolled,
		Rules:    catalog, Clash: node.ClashPolicy(a.cfg.OnIdentityClash), Binding: node.CertBinding(a.cfg.ClientBinding),
	})
	return agentapi.New(agentapi.Options{
		Enroller: enroller, Nodes: a.registry, Configs: catalog, Queries: a.live, Stream: appender{a.stream}, Seen: a.seen,
		Redactor: a.redaction.redactor, Lines: a.redaction.lines,
		Peers: &agentconn.Peers{Header: a.cfg.ClientCertHeader, Verify: a.verifyForwarded}, Metrics: a.metrics,
		Limits: a.limits(), Log: a.log, Now: a.now, Aliases: aliases, SecretName: a.cfg.EnrollSecretName,
		Carves: a.carves, Certificate: agentapi.CertificatePolicy{
			Required: a.cfg.ClientAuth == string(pki.ClientAuthRequired), Binding: node.CertBinding(a.cfg.ClientBinding),
		},
	}), nil
}

// verifyForwarded checks a certificate that a proxy tells of.
func (a *App) verifyForwarded(header string) (node.Certificate, error) {
	if a.clients == nil {
		return node.Certificate{}, nil // client_auth is off: nobody asks for it
	}
	chain, err := pki.ParseForwarded(header)
	if err != nil {
		return node.Certificate{}, err
	}
	return a.clients.Verify(chain, a.now())
}

// pruneEvery is how often history that no event goes back to is dropped.
const pruneEvery = time.Hour

// pruneHistory drops what nodes were before the oldest event that is kept, which
// nobody can be asked about any more. It goes by that event, not by the clock,
// which may be wrong.
func (a *App) pruneHistory(ctx context.Context) error {
	if a.cfg.Retention == 0 {
		return nil
	}
	t := time.NewTicker(pruneEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		oldest := a.engine.Stats().Oldest
		if oldest.IsZero() {
			continue
		}
		err := errors.Join(a.store.PruneHistory(ctx, oldest), a.store.PruneServed(ctx, oldest), a.store.PruneCosts(ctx, oldest))
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "the history of nodes was not pruned; retrying", "error", err)
		}
	}
}

func (a *App) limits() agentapi.Limits {
	c := a.cfg
	return agentapi.Limits{
		Small: c.LimitSmallBytes, Log: c.LimitLogBytes, Write: c.LimitWriteBytes, Block: c.CarveBlock, Memory: c.LimitBodyMemory, Rate: c.LimitBodyRate,
		Enrolling: int(c.LimitEnrolling), Logging: int(c.LimitLogging), Writing: int(c.LimitWriting), Carving: int(c.LimitCarving), Queue: int(c.LimitQueue),
	}
}

// keptFiles is how many file descriptors the server keeps for itself: its
// database, stream, segments and people. Without them it could not write what
// agents send over the others.
const keptFiles = 512

// maxConns returns how many connections of agents there may be. Go has raised
// the limit of open files to what the system allows.
func maxConns() int {
	most := openFiles()
	if most == 0 || most > 1<<20 {
		return 1 << 20
	}
	files := int(most)
	return max(files-keptFiles, files/2)
}
