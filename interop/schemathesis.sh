#!/usr/bin/env bash
# Schemathesis on the OpenAPI document of a running service that asks for no login. It creates connectors: give it a service
# of its own.
#
# BASE_URL    the service, such as http://127.0.0.1:8333
# SERVER_URL  an MCP server on this machine to which the connectors point; without it they point at nothing
#
# Exits 0, or with the fuzzer's own report and status; 124 if it has not ended within three minutes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
PATH=$here/.venv/bin:$PATH

# Whatever it writes beside its report on stdout goes to a folder that is then removed.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

SCHEMATHESIS_HOOKS=schemathesis_hooks PYTHONPATH=$here \
  timeout 180 st --config-file "$here/schemathesis.toml" --no-color run "$BASE_URL/openapi.json" --wait-for-schema 10
