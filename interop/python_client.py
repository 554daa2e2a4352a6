#!/usr/bin/env python3
"""The official Python client against one MCP endpoint: list, call, progress.

MCP_URL   the endpoint
MCP_ERAS  which ways of connecting to try, comma-separated; default `legacy,auto,modern`:
          legacy  `initialize`, sessions, GET stream
          auto    what the client does by itself: `server/discover`, and `initialize` if the server knows no better
          modern  2026-07-28 without asking

Exits 0 and prints a line for each, or exits 1 and says what was wrong.
"""

import asyncio
import os
import sys
import time

from mcp import Client

MODES = {"legacy": "legacy", "auto": "auto", "modern": "2026-07-28"}
STEPS, INTERVAL = 4, 0.4
# The tool that reports progress, by the name that each server under test has for it.
PROGRESS_TOOLS = {
    "slow_progress": {"steps": STEPS, "interval_ms": int(INTERVAL * 1000)},
    "trigger-long-running-operation": {"steps": STEPS, "duration": STEPS * INTERVAL},
}


def expect(holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


async def check(url: str, era: str) -> str:
    async with Client(url, mode=MODES[era], read_timeout_seconds=30) as client:
        version = client.protocol_version
        expect(era == "auto" or (version == "2026-07-28") == (era == "modern"), f"negotiated {version}")

        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        expect("echo" in tools, f"no tool echo in {sorted(tools)}")

        [argument] = tools["echo"].input_schema["properties"]  # `text` on some servers, `message` on others
        result = await client.call_tool("echo", {argument: "grüße, 世界"})
        expect(not result.is_error and "grüße, 世界" in result.content[0].text, f"echo returned {result}")

        return f"{version}, {len(tools)} tools, {await check_progress(client, tools)}"


async def check_progress(client: Client, tools: dict) -> str:
    """Progress must come one by one, while the call still runs, and not in one piece with its result."""
    name = next(name for name in PROGRESS_TOOLS if name in tools)
    arrivals: list[tuple[float, float]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        arrivals.append((time.monotonic(), progress))

    result = await client.call_tool(name, PROGRESS_TOOLS[name], progress_callback=on_progress)
    end = time.monotonic()
    expect(not result.is_error, f"{name} returned {result}")
    expect([step for _, step in arrivals] == list(range(1, STEPS + 1)), f"{name} progressed {arrivals}")
    gaps = [later - earlier for (earlier, _), (later, _) in zip(arrivals, arrivals[1:])]
    # Half of an interval is left for the noise of a busy machine.
    expect(min(gaps) > INTERVAL / 2, f"progress came in bursts: gaps {gaps}")
    expect(end - arrivals[0][0] > INTERVAL, f"the first progress came {end - arrivals[0][0]:.3f} s before the result")
    return f"{STEPS} progress notifications, the first {end - arrivals[0][0]:.1f} s before the result"


async def main() -> int:
    url, failed = os.environ["MCP_URL"], False
    for era in os.environ.get("MCP_ERAS", "legacy,auto,modern").split(","):
        try:
            print(f"python mcp, {era}: ok ({await asyncio.wait_for(check(url, era), 60)})")
        except Exception as error:
            while isinstance(error, ExceptionGroup):  # task groups wrap what happened inside them
                error = error.exceptions[0]
            print(f"python mcp, {era}: FAILED: {type(error).__name__}: {error}", file=sys.stderr)
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
