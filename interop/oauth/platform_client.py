#!/usr/bin/env python3
"""The official Python client with nothing but the URL of a connector: it finds out by itself who issues tokens for it,
registers there, logs its user in, and calls a tool.

MCP_URL   the endpoint
CONSENT   the program that plays the user in his browser, consent.mjs
USER_NAME who logs in

Exits 0 and prints what the tool returned, or exits 1 and says what was wrong.
"""

import asyncio
import os
import sys
from urllib.parse import parse_qs, urlsplit

import httpx2
from mcp import Client
from mcp.client.auth import OAuthClientProvider
from mcp.client.auth.oauth2 import AuthorizationCodeResult
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.auth import OAuthClientInformationFull, OAuthClientMetadata, OAuthToken

# Nobody listens there: the user's program stops before it goes there, and tells the URL.
REDIRECT_URI = "http://127.0.0.1:9/callback"


class Storage:
    """Keeps what the client has got, as long as it runs."""

    tokens: OAuthToken | None = None
    client: OAuthClientInformationFull | None = None

    async def get_tokens(self) -> OAuthToken | None:
        return self.tokens

    async def set_tokens(self, tokens: OAuthToken) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> OAuthClientInformationFull | None:
        return self.client

    async def set_client_info(self, client_info: OAuthClientInformationFull) -> None:
        self.client = client_info


async def main() -> None:
    url, user = os.environ["MCP_URL"], os.environ["USER_NAME"]
    back: list[str] = []

    async def open_browser(address: str) -> None:
        command = ["node", os.environ["CONSENT"], address, "--as", user, "--until", REDIRECT_URI]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        if process.returncode != 0:
            raise AssertionError(f"the user did not come back: {output.decode()}")
        back.append(output.decode().strip())

    async def come_back() -> AuthorizationCodeResult:
        query = {name: values[0] for name, values in parse_qs(urlsplit(back[-1]).query).items()}
        return AuthorizationCodeResult(code=query["code"], state=query.get("state"), iss=query.get("iss"))

    storage = Storage()
    metadata = OAuthClientMetadata(
        redirect_uris=[REDIRECT_URI], client_name="interop", token_endpoint_auth_method="none"
    )
    login = OAuthClientProvider(url, metadata, storage, open_browser, come_back)
    async with httpx2.AsyncClient(auth=login, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), read_timeout_seconds=30) as client:
            result = await client.call_tool("echo", {"text": "grüße, 世界"})
    if result.is_error or "grüße, 世界" not in result.content[0].text:
        raise AssertionError(f"echo returned {result}")
    print(f"{user}: {result.content[0].text}, after {len(back)} login, with scope {storage.tokens.scope}")


if __name__ == "__main__":
    try:
        asyncio.run(asyncio.wait_for(main(), 60))
    except Exception as error:
        while isinstance(error, ExceptionGroup):  # task groups wrap what happened inside them
            error = error.exceptions[0]
        sys.exit(f"{type(error).__name__}: {error}")
