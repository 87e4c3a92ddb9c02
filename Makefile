# Muster's tasks. Run `make help`.

SHELL   := /bin/bash
GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.1.0-dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
UI      := internal/web/dist/app/index.html
UI_SRC  := $(shell find web -path web/node_modules -prune -o -path web/e2e -prune -o -type f -print 2>/dev/null)
LINT    := $(GO) tool -modfile=tools/go.mod golangci-lint

.PHONY: help
help: ## list the tasks
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: build ## build, and run a server with this machine as its first node
	bin/muster demo $(ARGS)

.PHONY: build
build: ui server ## build bin/muster with the UI

.PHONY: server
server: ## build bin/muster with whatever UI is built
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/muster ./cmd/muster

.PHONY: ui
ui: $(UI) ## build the UI, if it changed

$(UI): $(UI_SRC)
	cd web && npm ci --no-audit --no-fund && npm run build

# SQLite, C translated to Go, and the hashing of passwords are most of what tests
# compute, and four times as slow under the race detector, which is there for our
# code and how it calls them.
RACE := -race -gcflags=modernc.org/sqlite/lib=-race=false -gcflags=golang.org/x/crypto/argon2=-race=false

.PHONY: test
test: deps build bin/versitygw ## install what tests need, and run them all
	MUSTER_BINARY=$(CURDIR)/bin/muster MUSTER_VERSITYGW=$(CURDIR)/bin/versitygw $(GO) test $(RACE) -shuffle=on -timeout 20m ./...

# A real S3 server for the tests of internal/blob, which takes minutes to build
# the first time. It has a module file of its own: it needs what the linter
# needs in other versions.
bin/versitygw: tools/versitygw/go.mod tools/versitygw/go.sum
	CGO_ENABLED=0 $(GO) -C tools/versitygw build -ldflags '-s -w' -o $(CURDIR)/$@ github.com/versity/versitygw/cmd/versitygw

.PHONY: deps
deps: ## install what tests need from Debian: PostgreSQL and Chromium
	scripts/deps.sh

.PHONY: check
check: ## lint, layers, formatting, generated and tidy files
	$(LINT) run ./...
	$(LINT) fmt --diff ./...
	$(GO) test ./internal -run TestLayers -count=1
	cd web && { [ -d node_modules ] || npm ci --no-audit --no-fund; } && npm run check

.PHONY: lint
lint: ## lint only
	$(LINT) run ./...

.PHONY: fmt
fmt: ## format the Go code
	$(LINT) fmt ./...

.PHONY: fuzz
fuzz: ## fuzz every decoder for FUZZTIME each (10s)
	scripts/fuzz.sh $(or $(FUZZTIME),10s)

.PHONY: bench
bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

.PHONY: crashtest
crashtest: server ## kill a loaded server again and again, and count: KILLS=50
	MUSTER_BINARY=$(CURDIR)/bin/muster MUSTER_CRASH_KILLS=$(or $(KILLS),50) $(GO) test -count=1 -v -timeout 60m -run TestCrash ./e2e

.PHONY: scenarios
scenarios: server ## bad weather for a server, and what it lost: ARGS="-kills 50 kill" (all)
	MUSTER_BINARY=$(CURDIR)/bin/muster $(GO) run ./e2e/scenario $(or $(ARGS),all)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin internal/web/dist/app web/node_modules
