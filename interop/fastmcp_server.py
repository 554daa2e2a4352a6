#!/usr/bin/env python3
"""A small MCP server on FastMCP, the framework that most Python servers are written with.

Run: fastmcp_server.py [--port N]; port 0, the default, takes a free one. The first line on stdout is
`listening on http://127.0.0.1:PORT/mcp`.
"""

import argparse
import asyncio
import socket

import uvicorn
from fastmcp import Context, FastMCP

server = FastMCP("connectors-fastmcp-server")


@server.tool
def add(a: int, b: int) -> int:
    """The sum of two integers."""
    return a + b


@server.tool
def echo(text: str) -> str:
    """Returns its argument."""
    return text


@server.tool
async def slow_progress(ctx: Context, steps: int = 5, interval_ms: int = 200) -> str:
    """Sends `steps` progress notifications, one each interval, and one interval later its result."""
    for step in range(1, steps + 1):
        await ctx.report_progress(step, steps, f"step {step} of {steps}")
        await asyncio.sleep(interval_ms / 1000)
    return f"{steps} steps"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    # Bound and listening before the line is printed, so that whoever reads it can connect at once.
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(server.http_app(path="/mcp"), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
