#!/usr/bin/env bash
# Starts a server for the following steps and points `gh` at it.
set -euo pipefail

dir="$RUNNER_TEMP/peercache"
socket="$dir/peercache.sock"
url="http://127.0.0.1:$PEERCACHE_PORT"
mkdir -p "$dir"
# An input that was not given is no setting.
if [ -z "${CACHE_SECRET:-}" ]; then unset CACHE_SECRET; fi

nohup peercache serve --listen "127.0.0.1:$PEERCACHE_PORT" --socket "$socket" \
  > "$dir/out.log" 2> "$dir/err.log" < /dev/null &
echo $! > "$dir/pid"

for _ in $(seq 100); do
  if peercache stats --socket "$socket" > /dev/null 2>&1; then
    cat "$dir/out.log"
    echo "url=$url" >> "$GITHUB_OUTPUT"
    echo "socket=$socket" >> "$GITHUB_OUTPUT"
    if [ "$PEERCACHE_GH" = true ]; then
      # A folder of this job, so that nothing stays on a self-hosted runner.
      mkdir -p "$dir/gh"
      printf 'version: "1"\nhttp_unix_socket: %s\n' "$socket" > "$dir/gh/config.yml"
      echo "GH_CONFIG_DIR=$dir/gh" >> "$GITHUB_ENV"
    fi
    exit 0
  fi
  if ! kill -0 "$(cat "$dir/pid")" 2> /dev/null; then break; fi
  sleep 0.1
done
# The job goes on without a cache: it is slower, not wrong.
echo "::warning::peercache did not start; this job asks GitHub directly: $(tail -n 1 "$dir/err.log")"
