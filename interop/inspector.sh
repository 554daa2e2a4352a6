#!/usr/bin/env bash
# The MCP Inspector, in its command-line mode, against one MCP endpoint: tools/list and tools/call.
#
# MCP_URL   the endpoint
# MCP_ERAS  which eras to ask for, comma-separated; default `legacy,auto,modern`
#
# Exits 0 and prints a line for each, or exits 1 and says what was wrong.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$here/node_modules/.bin:$PATH # the Inspector needs Node 22.19; a pinned one is in there

# The Inspector keeps its files in the home directory; it gets one of its own.
HOME=$(mktemp -d)
export HOME
trap 'rm -rf "$HOME"' EXIT

inspect() { # ERA ARGUMENT...: one request; the result on stdout as JSON
  node "$here/node_modules/.bin/inspector" --cli "$MCP_URL" --transport http --protocol-era "$1" --format json --quiet "${@:2}"
}

# Chained with `&&`, because in a condition, where it is called, bash does not stop at a failing command by itself.
check() { # ERA
  local listed argument called
  listed=$(inspect "$1" --method tools/list) &&
    # The argument of `echo` is `text` on some servers and `message` on others.
    argument=$(node -p '
      const echo = JSON.parse(process.argv[1]).result.tools.find((tool) => tool.name === "echo");
      Object.keys(echo.inputSchema.properties)[0];
    ' "$listed") &&
    called=$(inspect "$1" --method tools/call --tool-name echo --tool-args-json "{\"$argument\": \"grüße, 世界\"}") &&
    node -e '
      const { result } = JSON.parse(process.argv[1]);
      if (result.isError || !result.content[0].text.includes("grüße, 世界")) throw Error(process.argv[1]);
    ' "$called" &&
    node -p '`${JSON.parse(process.argv[1]).result.tools.length} tools, echo answers`' "$listed"
}

failed=0
IFS=, read -ra eras <<<"${MCP_ERAS:-legacy,auto,modern}"
for era in "${eras[@]}"; do
  if outcome=$(check "$era" 2>&1); then
    echo "inspector, $era: ok ($outcome)"
  else
    echo "inspector, $era: FAILED: $outcome" >&2
    failed=1
  fi
done
exit $failed
