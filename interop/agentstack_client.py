#!/usr/bin/env python3
"""The published Agent Stack SDK, unchanged, against the connectors service.

PLATFORM_URL  the service
SERVER_URL    an MCP server with tools `echo` and `slow_progress`
CONSENT       only if that server demands OAuth: the program that the SDK's connect() finds as the user's browser

Walks through the SDK's whole connector API, then uses the connector twice as an agent would: raw, by the SDK's own
`mcp_proxy`, and by the SDK's MCP extension, whose client is the `mcp` 1.x one.

Exits 0 and says what was done, or exits 1 with a traceback at what was wrong.
"""

import asyncio
import json
import logging
import os
import time
import uuid
import webbrowser
from contextlib import contextmanager

logging.captureWarnings(True)  # the SDK's own dependencies deprecate one another, loudly

import httpx
from a2a.types import Message, Role
from agentstack_sdk.a2a.extensions.services.mcp import (
    MCPFulfillment,
    MCPServiceExtensionClient,
    MCPServiceExtensionServer,
    MCPServiceExtensionSpec,
    StreamableHTTPTransport,
)
from agentstack_sdk.platform.client import PlatformClient
from agentstack_sdk.platform.connector import Connector, ConnectorState
from mcp import ClientSession

# A query of its own, which the server ignores: the service may already have a connector for the bare URL.
SERVER_URL = f"{os.environ['SERVER_URL']}?agentstack={uuid.uuid4()}"
PLATFORM_URL = os.environ["PLATFORM_URL"].rstrip("/")
STEPS, INTERVAL = 4, 0.4

CONSENT = os.environ.get("CONSENT")
if CONSENT:
    os.environ["BROWSER"] = CONSENT
else:
    # connect() opens a browser when a server asks for a login; this one does not.
    webbrowser.open = lambda url, *_, **__: (_ for _ in ()).throw(AssertionError(f"the SDK opened {url}"))


@contextmanager
def refused(status: int):
    """The SDK must see exactly this status, and a problem document with it."""
    try:
        yield
    except httpx.HTTPStatusError as error:
        assert error.response.status_code == status, f"expected {status}, got {error.response.status_code}"
        assert error.response.json()["status"] == status, error.response.text
        assert error.response.headers["content-type"].startswith("application/problem+json"), error.response.headers
    else:
        raise AssertionError(f"expected a {status}")


async def manage() -> None:
    presets = await Connector.presets()
    assert presets.total_count == len(presets.items), presets

    connector = await Connector.create(SERVER_URL, metadata={"name": "interop"}, match_preset=False)
    assert connector.state == ConnectorState.created, connector
    assert connector.metadata == {"name": "interop"} and str(connector.url) == SERVER_URL, connector
    assert connector.created_at and connector.updated_at and connector.created_by, connector
    try:
        with refused(409):  # the same URL again
            await Connector.create(SERVER_URL)
        with refused(400):  # a secret without an id
            await Connector.create(f"{SERVER_URL}&other", client_secret="secret")
        with refused(400):  # never connected
            await connector.disconnect()
        with refused(404):
            await Connector.get(str(uuid.uuid4()))

        listed = await Connector.list()
        assert connector.id in [item.id for item in listed.items] and not listed.has_more, listed
        assert (await connector.get()).id == (await Connector.get(str(connector.id))).id == connector.id

        connected = await connect(connector)
        assert (await connected.refresh()).state == ConnectorState.connected

        await use_raw(connected)
        await use_as_agent(connected)

        disconnected = await connected.disconnect()
        assert disconnected.state == ConnectorState.disconnected and disconnected.disconnect_reason, disconnected
        await connect(disconnected)  # no need to make it anew
    finally:
        await connector.delete()
    await connector.wait_for_deletion()
    with refused(404):
        await connector.delete()


async def connect(connector: Connector) -> Connector:
    """Connects, by way of the user's browser if the server demands OAuth, as a program waits for its user."""
    connector = await connector.connect()
    if CONSENT:
        assert connector.state == ConnectorState.auth_required and connector.auth_request, connector
    else:
        assert connector.state == ConnectorState.connected and connector.auth_request is None, connector
    connector = await connector.wait_for_state(state=ConnectorState.connected)
    assert connector.auth_request is None, connector
    return connector


async def use_raw(connector: Connector) -> None:
    """One request through `mcp_proxy`, which is a streamed HTTP exchange with nothing added."""
    request = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "interop", "version": "1.0.0"},
        },
    }
    headers = {"Accept": "application/json, text/event-stream"}
    chunks = [
        chunk
        async for chunk in connector.mcp_proxy(method="POST", headers=headers, content=json.dumps(request).encode())
    ]
    session = {"Mcp-Session-Id": chunks[0].headers["mcp-session-id"], "MCP-Protocol-Version": "2025-06-18"}
    assert chunks[0].status_code == 200 and b'"serverInfo"' in b"".join(chunk.chunk for chunk in chunks), chunks
    async for _ in connector.mcp_proxy(method="DELETE", headers=session):
        pass


async def use_as_agent(connector: Connector) -> None:
    """As an agent on the platform is given the connector: an MCP extension that is fulfilled with the connector's URL."""
    spec = MCPServiceExtensionSpec.single_demand()
    transport = StreamableHTTPTransport(url=f"{PLATFORM_URL}/api/v1/connectors/{connector.id}/mcp")
    fulfilment = {"default": MCPFulfillment(transport=transport)}
    metadata = MCPServiceExtensionClient(spec).fulfillment_metadata(mcp_fulfillments=fulfilment)
    extension = MCPServiceExtensionServer(spec)
    extension.handle_incoming_message(
        Message(message_id="1", role=Role.user, parts=[], metadata=metadata), run_context=None, request_context=None
    )
    arrivals: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        arrivals.append(time.monotonic())

    async with extension.create_client() as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        assert "echo" in [tool.name for tool in (await session.list_tools()).tools]
        echoed = await session.call_tool("echo", {"text": "grüße, 世界"})
        assert echoed.content[0].text == "grüße, 世界", echoed
        await session.call_tool(
            "slow_progress", {"steps": STEPS, "interval_ms": int(INTERVAL * 1000)}, progress_callback=on_progress
        )
    assert len(arrivals) == STEPS, f"{len(arrivals)} progress notifications"
    assert time.monotonic() - arrivals[0] > INTERVAL, "progress came together with the result"


async def main() -> None:
    async with PlatformClient() as client:  # its address is PLATFORM_URL
        assert str(client.base_url).rstrip("/") == PLATFORM_URL
    await manage()
    way = "connect by consent" if CONSENT else "connect"
    print(f"agentstack-sdk: ok (presets, create, list, get, {way}, mcp_proxy, MCP extension, disconnect, delete)")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(), 60))
