#!/usr/bin/env bash
# Has `peercache` in the search path of the following steps: the one that is there, else one built
# from this action's source.
set -euo pipefail

if command -v peercache > /dev/null; then
  echo "using $(command -v peercache)"
  exit 0
fi
if ! command -v cargo > /dev/null; then
  echo "::error::there is no peercache on this runner, and no cargo to build it; install one of them"
  exit 1
fi
root="$RUNNER_TEMP/peercache-install"
cargo install --locked --quiet --no-default-features --root "$root" \
  --path "$GITHUB_ACTION_PATH/crates/peercache-cli"
echo "$root/bin" >> "$GITHUB_PATH"
