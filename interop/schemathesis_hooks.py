"""Hooks for the API fuzzer: no generated name is ever looked up or connected to.

The URLs of MCP servers are made up, and `connect` goes to them. So each URL that is one is pointed at SERVER_URL, a real
MCP server on this machine, or where that is not set at a port that nobody listens on; a query keeps it different from the
others. What is no http(s) URL is left as it is: the service has to refuse it.
"""

import os
import zlib
from urllib.parse import urlsplit

import schemathesis

SERVER_URL = os.environ.get("SERVER_URL") or "http://127.0.0.1:9/mcp"


@schemathesis.hook
def before_call(context, case, kwargs):
    body = case.body
    if case.method.upper() != "POST" or not case.path.endswith("/connectors") or not isinstance(body, dict):
        return
    url = body.get("url")
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        names_a_server = parts and parts.scheme.lower() in ("http", "https") and parts.hostname
    except ValueError:
        return
    if names_a_server and not parts.username and not parts.fragment:
        case.body = body | {"url": f"{SERVER_URL}?{zlib.crc32(url.encode('utf-8', 'replace')):x}"}
