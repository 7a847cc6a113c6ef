#!/usr/bin/env bash
# Runs the demos: Rowcast on a private Postgres, the backend, and the pages. Ctrl-C stops all of it.
#
#   run.sh            start, say where the page is, and stay until Ctrl-C
#   run.sh --smoke    start, check that changes reach whom they should, stop; the exit code tells
#
# DEMO_ROWCAST, DEMO_DATA_DIR, DEMO_ROWCAST_PORT and DEMO_PAGE_PORT override the binary, the
# folder of the database and the ports; a taken port moves up to a free one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

mode=${1:-}
examples=examples
rowcast=${DEMO_ROWCAST:-target/release/rowcast}
data_dir=${DEMO_DATA_DIR:-.rowcast}
work=$(mktemp -d)
children=()

fail() {
  echo "demo: $*" >&2
  exit 1
}

free_port() {
  local port=$1
  while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
  echo "$port"
}

# start NAME COMMAND...: in the background, its output in $work/NAME.log. In a process group of its own, so that
# Ctrl-C reaches this script alone, which then stops the backend first and Rowcast last.
start() {
  local name=$1
  shift
  set -m
  "$@" >"$work/$name.log" 2>&1 </dev/null &
  set +m
  started=$!
  children=("$started" "${children[@]}")
}

# await WHAT PID LOG CONDITION...: until CONDITION holds; fails with the log when the process ends first.
await() {
  local what=$1 pid=$2 log=$3 tries=600
  shift 3
  until "$@"; do
    if ! kill -0 "$pid" 2>/dev/null || [ $((tries -= 1)) -eq 0 ]; then
      tail -n 30 "$log" >&2
      fail "$what did not start"
    fi
    sleep 0.2
  done
}

stop() {
  local status=$?
  trap '' INT TERM HUP
  for pid in "${children[@]}"; do
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$work"
  exit "$status"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

[ -z "$mode" ] || [ "$mode" = --smoke ] || fail "the only option is --smoke"
[ -x "$rowcast" ] || fail "$rowcast is missing: build it with \`cargo build --release\`"
node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null || fail "Node.js 20 or newer is needed"

if ! [ "$examples/node_modules/.package-lock.json" -nt "$examples/package-lock.json" ]; then
  npm --prefix "$examples" ci
fi
npm --prefix "$examples" run --silent build

port=$(free_port "${DEMO_ROWCAST_PORT:-4000}")
dev_json=$data_dir/dev.json
touch "$work/begun"
start rowcast env ROWCAST_POLICY_DIRECTORY="$examples/todo/policies" "$rowcast" dev --data-dir "$data_dir" --port "$port" \
  --sql "$examples/todo/schema.sql" --sql "$examples/chat/schema.sql"
rowcast_pid=$started
fresh() { [ "$dev_json" -nt "$work/begun" ]; }
await Rowcast "$rowcast_pid" "$work/rowcast.log" fresh

setting() { node -p 'JSON.parse(fs.readFileSync(process.argv[1]))[process.argv[2]]' "$dev_json" "$1"; }
url=$(setting url)
database_url=$(setting database_url)

page_port=$(free_port "${DEMO_PAGE_PORT:-3000}")
page_url=http://127.0.0.1:$page_port
start backend env DATABASE_URL="$database_url" ROWCAST_URL="$url" JWT_SECRET="$(setting jwt_secret)" PORT="$page_port" \
  node "$examples/server.mjs"
backend_pid=$started
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$page_port") 2>/dev/null; }
await "the backend" "$backend_pid" "$work/backend.log" answers

if [ "$mode" = --smoke ]; then
  for demo in todo chat; do
    if ! node "$examples/$demo/smoke.mjs" "$page_url"; then
      tail -q -n 30 "$work/rowcast.log" "$work/backend.log" >&2
      fail "the smoke check of the $demo demo failed"
    fi
  done
  exit 0
fi

# Debian keeps the client of a server package out of PATH.
psql=psql
if ! command -v psql >/dev/null; then
  psql=$(find /usr/lib/postgresql -name psql 2>/dev/null | sort -V | tail -n 1)
fi
cat <<END

  The pages    $page_url
  Rowcast      $url

  Change rows from another terminal and watch who sees what, in the to-dos and in the chat:

    export DATABASE_URL='$database_url'
    ${psql:-psql} "\$DATABASE_URL" -c "insert into todos (owner, title, shared) values ('b0b00000-0000-4000-8000-000000000002', 'Hello from psql', true)"
    ${psql:-psql} "\$DATABASE_URL" -c "insert into todos (owner, title) values ('a11ce000-0000-4000-8000-000000000001', 'From psql, for Alice alone')"
    ${psql:-psql} "\$DATABASE_URL" -c "update todos set done = not done where shared"
    ${psql:-psql} "\$DATABASE_URL" -c "delete from todos where title like '%psql%'"
    ${psql:-psql} "\$DATABASE_URL" -c "insert into chat.messages (room, sender, body) values (1, 'dede0000-0000-4000-8000-000000000004', 'Hello @Alice, from psql')"

  Ctrl-C stops everything.

END
wait -n "$rowcast_pid" "$backend_pid" || true
tail -q -n 30 "$work/rowcast.log" "$work/backend.log" >&2
fail "Rowcast or the backend ended by itself"
