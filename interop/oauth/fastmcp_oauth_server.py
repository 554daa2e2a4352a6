#!/usr/bin/env python3
"""The MCP server of fastmcp_server.py behind FastMCP's own OAuth provider, which keeps everything in memory.

Run: fastmcp_oauth_server.py [--port N] [--token-lifetime SECONDS]; port 0, the default, takes a free one. The first line
on stdout is `listening on http://127.0.0.1:PORT/mcp`. Clients register themselves, and nobody is asked for consent: the
authorization endpoint sends the browser straight back with a code.

GET /stats: what has happened, and what lives now.
"""

import argparse
import socket
import sys
from collections import Counter
from pathlib import Path

import uvicorn
from fastmcp.server.auth.providers import in_memory
from mcp.server.auth.settings import ClientRegistrationOptions, RevocationOptions
from starlette.requests import Request
from starlette.responses import JSONResponse

sys.path.append(str(Path(__file__).parent.parent))

from fastmcp_server import server  # noqa: E402

SCOPES = ["tools"]


class Provider(in_memory.InMemoryOAuthProvider):
    """FastMCP's provider, counted."""

    def __init__(self, base_url: str) -> None:
        registration = ClientRegistrationOptions(enabled=True, valid_scopes=SCOPES, default_scopes=SCOPES)
        super().__init__(
            base_url=base_url,
            client_registration_options=registration,
            revocation_options=RevocationOptions(enabled=True),
            required_scopes=SCOPES,
        )
        self.counts: Counter[str] = Counter(registrations=0, exchanges=0, refreshes=0, revocations=0)

    async def register_client(self, client_info):
        self.counts["registrations"] += 1
        return await super().register_client(client_info)

    async def exchange_authorization_code(self, client, authorization_code):
        self.counts["exchanges"] += 1
        return await super().exchange_authorization_code(client, authorization_code)

    async def exchange_refresh_token(self, client, refresh_token, scopes):
        self.counts["refreshes"] += 1
        return await super().exchange_refresh_token(client, refresh_token, scopes)

    async def revoke_token(self, token):
        self.counts["revocations"] += 1
        return await super().revoke_token(token)

    async def stats(self, _: Request) -> JSONResponse:
        live = {
            "AccessToken": len(self.access_tokens),
            "RefreshToken": len(self.refresh_tokens),
            "Client": len(self.clients),
        }
        return JSONResponse({"pages": 0, **self.counts, "live": live})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-lifetime", type=int, default=3600)
    arguments = parser.parse_args()
    in_memory.DEFAULT_ACCESS_TOKEN_EXPIRY_SECONDS = arguments.token_lifetime
    # Bound and listening before the line is printed, so that whoever reads it can connect at once.
    listener = socket.create_server(("127.0.0.1", arguments.port), backlog=128)
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.auth = provider = Provider(base_url)
    server.custom_route("/stats", methods=["GET"])(provider.stats)
    print(f"listening on {base_url}/mcp", flush=True)
    config = uvicorn.Config(server.http_app(path="/mcp"), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
