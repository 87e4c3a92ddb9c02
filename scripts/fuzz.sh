#!/usr/bin/env bash
# Runs every fuzz target for the given time. Go's fuzzer now and then ends with
# a bare "context deadline exceeded" when its time is over; a finding always
# names the file of the failing input.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT
for file in $(grep -rl --include='*_test.go' '^func Fuzz' .); do
	dir=$(dirname "$file")
	for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' "$file"); do
		echo "== $dir $target"
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" -fuzzminimizetime 10x "$dir" >"$out" 2>&1; then
			tail -n 1 "$out"
		elif grep -q 'context deadline exceeded' "$out" && ! grep -q 'Failing input' "$out"; then
			echo "ended at its time"
		else
			cat "$out"
			exit 1
		fi
	done
done
