package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/musterhq/muster/internal/app"
	"github.com/musterhq/muster/internal/config"
)

func newServeCommand() *cobra.Command {
	var file, profile string
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the server", Args: noArgs,
		Long: `Run the server: the API for agents, and the UI and API for people.

Each setting is taken from its flag, else from its MUSTER_ variable, else from
the file that --config names, else it is the default.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd, file)
			if err != nil {
				return err
			}
			log := newLogger(cmd.ErrOrStderr(), cfg)
			a, err := app.New(cmd.Context(), cfg, version, log)
			if err != nil {
				return err
			}
			log.InfoContext(cmd.Context(), "muster serves", "version", version, "agents", a.AgentAddr().String(),
				"people", a.AdminURL(), "ca", a.CAFile(), "data_dir", cfg.DataDir)
			if link := a.SetupURL(); link != "" {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "\nMake the first administrator here, once:\n\n  %s\n\n", link); err != nil {
					return err
				}
			}
			return profiled(profile, func() error { return serve(cmd.Context(), a, log) })
		},
	}
	cmd.Flags().StringVar(&file, "config", os.Getenv("MUSTER_CONFIG"), "file of settings, YAML (MUSTER_CONFIG)")
	cmd.Flags().StringVar(&profile, "cpu-profile", "", "write a CPU profile of the whole run to this file, for go tool pprof")
	addConfigFlags(cmd)
	return cmd
}

// profiled runs f and, if path is not empty, writes what it spent its time on.
func profiled(path string, f func() error) (err error) {
	if path == "" {
		return f()
	}
	out, err := os.Create(path) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	defer pprof.StopCPUProfile()
	return f()
}

// serve runs the server. At SIGHUP it reads its certificates again, and opens the
// files of sinks anew.
func serve(ctx context.Context, a *app.App, log *slog.Logger) error {
	signal.Ignore(syscall.SIGPIPE) // whoever reads what a sink prints may go; then writing fails
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	for {
		select {
		case err := <-done:
			log.InfoContext(ctx, "stopped", "error", errText(err))
			return err
		case <-hup:
			log.InfoContext(ctx, "reloading certificates, and opening the files of sinks anew")
			if err := a.Reload(); err != nil {
				log.ErrorContext(ctx, "not all could be reloaded; what was before stays in use", "error", err)
			}
		}
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// addConfigFlags adds a flag per setting.
func addConfigFlags(cmd *cobra.Command) {
	for _, k := range config.Keys() {
		usage := fmt.Sprintf("%s (%s)", k.Doc, k.Env)
		if k.Default != "" {
			usage += fmt.Sprintf(" (default %s)", k.Default)
		}
		cmd.Flags().String(k.Flag, "", usage)
	}
}

// loadConfig reads the settings; wrong ones are errors of usage.
func loadConfig(cmd *cobra.Command, file string) (config.Server, error) {
	cfg, err := config.Load(file, os.LookupEnv, configFlags(cmd))
	if err != nil {
		return cfg, &exit{exitUsage, err}
	}
	return cfg, nil
}

// configFlags returns the settings that were given as flags.
func configFlags(cmd *cobra.Command) map[string]string {
	flags := map[string]string{}
	for _, k := range config.Keys() {
		if f := cmd.Flags().Lookup(k.Flag); f != nil && f.Changed {
			flags[k.Flag] = f.Value.String()
		}
	}
	return flags
}

func newLogger(w io.Writer, cfg config.Server) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.LogLevel)); err != nil {
		level = slog.LevelInfo // Validate told already
	}
	o := &slog.HandlerOptions{Level: level}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
