package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/musterhq/muster/internal/adminapi"
	"github.com/musterhq/muster/internal/blob"
	"github.com/musterhq/muster/internal/carve"
	"github.com/musterhq/muster/internal/seal"
	"github.com/musterhq/muster/internal/spool"
	"github.com/musterhq/muster/internal/vault"
)

// Files of carves in the data directory.
const (
	carvesDir    = "carves"
	spoolDir     = "spool"
	carveKeyFile = "carve.key"
)

// openCarves takes up the carves that are awaited.
func (a *App) openCarves(ctx context.Context) error {
	if err := os.MkdirAll(a.cfg.Path(carvesDir), 0o700); err != nil {
		return err
	}
	key, err := a.openCarveKey(ctx)
	if err != nil {
		return err
	}
	files, err := spool.Open(a.cfg.Path(filepath.Join(carvesDir, spoolDir)))
	if err != nil {
		return err
	}
	at, err := a.cfg.BlobStore()
	if err != nil {
		return err
	}
	// After a while without its answer the server does not start, rather than to
	// take files that it cannot keep.
	store, err := blob.Open(ctx, blob.Options{URL: at})
	if err != nil {
		return err
	}
	a.later("store of carves", store.Close)
	a.carved = newCarveMetrics()
	c := a.cfg
	a.carves = carve.New(carve.Options{
		Store: a.store, Ledger: a.store, Spool: files, Blobs: store, Key: key, Asker: a.live, Nodes: a.registry, Keyer: a.keyer,
		Audit: a.audit, Metrics: a.carved, Log: a.log, Now: a.now,
		Limits: carve.Limits{
			PerCarve: c.CarveMax, PerNode: c.CarveNodeMax, Total: c.CarveTotalMax, Free: c.CarveFree,
			Sessions: int(c.CarveSessions), SessionsPerNode: int(c.CarveSessionsPerNode), BlockSize: c.CarveBlock,
			Idle: c.CarveExpiry, Keep: c.CarveRetention, Unrequested: c.CarveUnrequested == "accept",
		},
	})
	a.live.Observe(a.carves.Observe)
	return a.carves.Load(ctx)
}

// openCarveKey reads the key that archives are sealed with, or makes it. It is
// not made anew beside carves: they would be lost without a word.
func (a *App) openCarveKey(ctx context.Context) (seal.Key, error) {
	path := a.cfg.Path(carveKeyFile)
	key, err := seal.OpenKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	used, err := a.store.CarveUsage(ctx)
	if err != nil {
		return key, err
	}
	if len(used) > 0 {
		return key, fmt.Errorf("%s is missing: without it no carve can be read; restore it from the backup", path)
	}
	return seal.MakeKey(path)
}

// vaultOf is what adminapi asks about Vault's tokens.
type vaultOf struct{ *vault.Client }

// Check implements [adminapi.Vault].
func (v vaultOf) Check(ctx context.Context, token string) (string, error) {
	id, err := v.Client.Check(ctx, token)
	return cmp.Or(id.DisplayName, id.EntityID), err
}

// openVault returns who knows Vault's tokens, or nil. It asks nothing yet.
func (a *App) openVault() (adminapi.Vault, error) {
	if a.cfg.VaultAddr == "" {
		return nil, nil //nolint:nilnil // there is none, which is no error
	}
	c, err := vault.New(vault.Options{
		Address: a.cfg.VaultAddr, Namespace: a.cfg.VaultNamespace, Policy: a.cfg.VaultPolicy, CAFile: a.cfg.VaultCA, Now: a.now,
	})
	if err != nil {
		return nil, err
	}
	return vaultOf{c}, nil
}

// carveMetrics counts what nodes send. It implements carve.Metrics.
type carveMetrics struct {
	blocks, bytes prometheus.Counter
	refused       *prometheus.CounterVec
}

func newCarveMetrics() carveMetrics {
	return carveMetrics{
		blocks: prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_carve_blocks_total", Help: "Blocks of carves that were kept."}),
		bytes:  prometheus.NewCounter(prometheus.CounterOpts{Name: "muster_carve_received_bytes_total", Help: "Bytes of these blocks."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "muster_carve_refused_total", Help: "Requests of carvers that were refused, by request and reason.",
		}, []string{"reason"}),
	}
}

// Block counts a block.
func (m carveMetrics) Block(bytes int) { m.blocks.Inc(); m.bytes.Add(float64(bytes)) }

// Refused counts a refusal.
func (m carveMetrics) Refused(why string) { m.refused.WithLabelValues(why).Inc() }

// registerCarveMetrics adds what is known of carves.
func (a *App) registerCarveMetrics(r prometheus.Registerer) {
	gauge := func(name, help string, f func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f)
	}
	r.MustRegister(a.carved.blocks, a.carved.bytes, a.carved.refused, carveStates{a},
		gauge("muster_carve_stored_bytes", "Bytes that carves take, with what is reserved for those that come.", func() float64 {
			used, _ := a.carves.Usage()
			return float64(used)
		}),
		gauge("muster_carve_sessions", "Archives that nodes are sending.", func() float64 {
			_, sessions := a.carves.Stats()
			return float64(sessions)
		}),
	)
}

// carveStates counts carves by state when somebody asks.
type carveStates struct{ app *App }

func (carveStates) desc() *prometheus.Desc {
	return prometheus.NewDesc("muster_carves", "Carves, by state.", []string{"state"}, nil)
}

// Describe implements [prometheus.Collector].
func (c carveStates) Describe(out chan<- *prometheus.Desc) { out <- c.desc() }

// Collect implements [prometheus.Collector]. Without the database it tells
// nothing.
func (c carveStates) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	counts, err := c.app.store.CountCarves(ctx)
	if err != nil {
		return
	}
	for _, s := range carve.States() {
		out <- prometheus.MustNewConstMetric(c.desc(), prometheus.GaugeValue, float64(counts[s]), string(s))
	}
}
