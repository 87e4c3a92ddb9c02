#!/usr/bin/env bash
# Installs what the tests need and this machine lacks, from Debian's packages.
# Without root or apt it says what is missing and goes on: the suites that need
# it are skipped then, or fail under MUSTER_TEST_REQUIRE_ALL=1.
set -euo pipefail

packages=()
command -v chromium >/dev/null || packages+=(chromium fonts-dejavu-core)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || command -v initdb >/dev/null || packages+=(postgresql)
[ ${#packages[@]} -eq 0 ] && exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "deps: missing ${packages[*]}; install them to run every test" >&2
	exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q --no-install-recommends "${packages[@]}"
