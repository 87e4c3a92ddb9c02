package agent

import (
	"context"
	"maps"
	"slices"

	"github.com/musterhq/muster/internal/hostsql"
)

// tables are those that tell about the agent itself.
func (a *Agent) tables() map[string]hostsql.Generator {
	return map[string]hostsql.Generator{
		"carves":           a.carvesTable,
		"osquery_info":     a.infoTable,
		"osquery_flags":    a.flagsTable,
		"osquery_schedule": a.scheduleTable,
		"osquery_packs":    a.packsTable,
	}
}

func (a *Agent) infoTable(_ context.Context, _ hostsql.Constraints, yield func(hostsql.Values) error) error {
	a.mu.Lock()
	hash, valid := a.configHash, a.configValid
	a.mu.Unlock()
	var instance string
	a.db.view(func(s saved) { instance = s.InstanceID })
	return yield(hostsql.Values{
		"pid": a.pid, "uuid": a.uuid, "instance_id": instance, "version": a.says,
		"config_hash": hash, "config_valid": valid, "extensions": "inactive", "build_platform": "linux",
		"build_distro": hostsql.BuildDistro, "start_time": a.start.Unix(), "watcher": -1, "platform_mask": hostsql.PlatformMask,
	})
}

func (a *Agent) flagsTable(_ context.Context, _ hostsql.Constraints, yield func(hostsql.Values) error) error {
	for _, d := range Definitions() {
		err := yield(hostsql.Values{
			"name": d.Name, "type": d.Type, "description": d.About, "default_value": d.Default,
			"value": a.flags.String(d.Name), "shell_only": 0,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) scheduleTable(_ context.Context, _ hostsql.Constraints, yield func(hostsql.Values) error) error {
	a.mu.Lock()
	records := maps.Clone(a.records)
	var queries []Query
	for _, p := range a.packs {
		if p.Fits && (len(p.Discovery) == 0 || p.discovery.active) {
			queries = append(queries, p.Queries...)
		}
	}
	a.mu.Unlock()
	for _, q := range queries {
		r, ok := records[q.Name]
		if !ok {
			r = a.db.record(q.Name)
		}
		if r.SQL != q.SQL {
			r.Stats = stats{}
		}
		s := r.Stats
		err := yield(hostsql.Values{
			"name": q.Name, "query": q.SQL, "interval": q.Interval, "executions": s.Executions,
			"last_executed": s.LastExecuted, "denylisted": 0, "output_size": s.OutputSize,
			"wall_time": s.WallMs / 1000, "wall_time_ms": s.WallMs, "last_wall_time_ms": s.LastWallMs,
			"user_time": s.UserMs, "last_user_time": s.LastUserMs, "system_time": s.SystemMs,
			"last_system_time": s.LastSystemMs, "average_memory": s.TotalMemory / max(1, s.Executions), "last_memory": s.LastMemory,
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) packsTable(_ context.Context, _ hostsql.Constraints, yield func(hostsql.Values) error) error {
	a.mu.Lock()
	packs := slices.Clone(a.packs)
	rows := make([]hostsql.Values, len(packs))
	for i, p := range packs {
		rows[i] = hostsql.Values{
			"name": p.Name, "platform": p.Platform, "version": p.Version, "shard": p.Shard,
			"discovery_cache_hits": p.discovery.hits, "discovery_executions": p.discovery.runs,
			"active": p.Fits && (len(p.Discovery) == 0 || p.discovery.active),
		}
	}
	a.mu.Unlock()
	for _, v := range rows {
		if err := yield(v); err != nil {
			return err
		}
	}
	return nil
}
