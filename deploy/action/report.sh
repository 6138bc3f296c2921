#!/usr/bin/env bash
# Writes what the server saved to the job's summary, and stops it.
set -euo pipefail

dir="$RUNNER_TEMP/peercache"
if [ ! -f "$dir/pid" ]; then
  echo "::warning::peercache was not started in this job"
  exit 0
fi
if saved="$(peercache stats --socket "$dir/peercache.sock" 2>&1)"; then
  { echo "### peercache"; echo '```'; echo "$saved"; echo '```'; } >> "$GITHUB_STEP_SUMMARY"
  echo "$saved"
else
  echo "::warning::peercache does not answer: $saved"
fi
pid="$(cat "$dir/pid")"
kill -TERM "$pid" 2> /dev/null || true
# It finishes running requests and sends what waits for shared tiers.
for _ in $(seq 300); do
  kill -0 "$pid" 2> /dev/null || break
  # In a container whose first process reaps nobody, an ended process stays as a zombie.
  if grep -q '^State:.*Z' "/proc/$pid/status" 2> /dev/null; then break; fi
  sleep 0.1
done
rm -f "$dir/pid"
