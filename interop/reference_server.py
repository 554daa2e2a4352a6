#!/usr/bin/env python3
"""A reference MCP server on the official Python SDK, both eras at one URL.

It has every tool, resource and prompt that the official conformance suite asks a server for, so that it passes all
scored server scenarios when addressed directly. What passes directly must pass through a connector.

It uses the SDK's low-level server: the tools' schemas are on the wire exactly as written here, and nothing private of
the SDK is touched. Run: reference_server.py [--port N]; port 0, the default, takes a free one. The first line on stdout
is `listening on http://127.0.0.1:PORT/mcp`.

Beside /mcp there is GET /stats: {"open": n}, the HTTP exchanges at /mcp that are open now. By it a test can see that a
proxy has let go of the upstream after its own client has gone.
"""

import argparse
import asyncio
import base64
import json
import os
import re
import socket
import warnings
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import mcp_types as t
import uvicorn
from mcp import MCPDeprecationWarning, MCPError
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, PromptsListChanged, ToolsListChanged
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

NAME = "connectors-reference-server"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = base64.b64encode(
    b"RIFF\x26\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\x02\0\0\0\0\0"
).decode()

bus = InMemorySubscriptionBus()


@dataclass(frozen=True)
class Call:
    """One tools/call or prompts/get, in either era."""

    ctx: ServerRequestContext
    arguments: dict[str, Any]
    answers: dict[str, Any]  # what the client answered to an earlier `input_required` result
    state: str | None  # the request state that came back with those answers, already verified

    @property
    def capabilities(self) -> t.ClientCapabilities:
        return self.ctx.session.client_capabilities or t.ClientCapabilities()

    def answer(self, key: str, kind: type) -> Any:
        """The answer under `key`, if there is one of the right kind."""
        found = self.answers.get(key)
        return found if isinstance(found, kind) else None

    async def log(self, text: str) -> None:
        await self.ctx.session.send_log_message("info", text, related_request_id=self.ctx.request_id)

    async def elicit(self, message: str, schema: dict[str, Any]) -> t.ElicitResult:
        # Legacy era only: a request from the server, on the stream of the call that it belongs to.
        return await self.ctx.session.elicit_form(message, schema, related_request_id=self.ctx.request_id)


Handler = Callable[[Call], Awaitable[Any]]
TOOLS: dict[str, tuple[t.Tool, Handler]] = {}
PROMPTS: dict[str, tuple[t.Prompt, Handler]] = {}


def tool(name: str, description: str, schema: dict[str, Any] | None = None):
    def register(handler: Handler) -> Handler:
        TOOLS[name] = (t.Tool(name=name, description=description, input_schema=schema or obj()), handler)
        return handler

    return register


def prompt(name: str, description: str, *arguments: str):
    def register(handler: Handler) -> Handler:
        declared = [t.PromptArgument(name=a, description=f"Argument {a}", required=True) for a in arguments]
        PROMPTS[name] = (t.Prompt(name=name, description=description, arguments=declared), handler)
        return handler

    return register


def obj(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    """A JSON Schema of an object; a property given as a string is that simple type."""
    expanded = {k: {"type": v} if isinstance(v, str) else v for k, v in properties.items()}
    return {"type": "object", "properties": expanded} | ({"required": list(required)} if required else {})


def text(value: str) -> t.TextContent:
    return t.TextContent(type="text", text=value)


def image() -> t.ImageContent:
    return t.ImageContent(type="image", data=PNG, mime_type="image/png")


def embedded(uri: str, content: str, mime: str = "text/plain") -> t.EmbeddedResource:
    resource = t.TextResourceContents(uri=uri, mime_type=mime, text=content)
    return t.EmbeddedResource(type="resource", resource=resource)


# --- For our own tests -------------------------------------------------------------------------------------------------


@tool("echo", "Returns its argument.", obj(("text",), text="string"))
async def echo(call: Call):
    return call.arguments["text"]


@tool(
    "slow_progress",
    "Sends `steps` progress notifications, one each `interval_ms` milliseconds, and one interval later its result.",
    obj(steps="integer", interval_ms="integer"),
)
async def slow_progress(call: Call):
    steps, interval = call.arguments.get("steps", 5), call.arguments.get("interval_ms", 200)
    for step in range(1, steps + 1):
        await call.ctx.session.report_progress(step, steps, f"step {step} of {steps}")
        await asyncio.sleep(interval / 1000)
    return f"{steps} steps"


@tool("big_result", "Returns a text of exactly `bytes` bytes.", obj(("bytes",), bytes="integer"))
async def big_result(call: Call):
    return "x" * call.arguments["bytes"]


# --- Tools of the conformance suite: content ---------------------------------------------------------------------------


@tool("test_simple_text", "Text content.")
async def simple_text(call: Call):
    return "This is a simple text response for testing."


@tool("test_image_content", "Image content.")
async def image_content(call: Call):
    return [image()]


@tool("test_audio_content", "Audio content.")
async def audio_content(call: Call):
    return [t.AudioContent(type="audio", data=WAV, mime_type="audio/wav")]


@tool("test_embedded_resource", "An embedded resource.")
async def embedded_resource(call: Call):
    return [embedded("test://embedded-resource", "This is an embedded resource content.")]


@tool("test_multiple_content_types", "Text, an image and a resource in one result.")
async def multiple_content_types(call: Call):
    mixed = embedded("test://mixed-content-resource", json.dumps({"test": "data", "value": 123}), "application/json")
    return [text("Multiple content types test:"), image(), mixed]


@tool("test_error_handling", "Fails always.")
async def error_handling(call: Call):
    raise RuntimeError("This tool intentionally returns an error for testing")


@tool(
    "json_schema_2020_12_tool",
    "Its input schema uses the wider vocabulary of JSON Schema 2020-12.",
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"address": {"$anchor": "addressDef"} | obj(street="string", city="string")},
        "additionalProperties": False,
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
    }
    | obj(
        name="string",
        address={"$ref": "#/$defs/address"},
        contactMethod={"type": "string", "enum": ["phone", "email"]},
        phone="string",
        email="string",
    ),
)
async def json_schema_2020_12(call: Call):
    return "accepted"


@tool(
    "test_x_mcp_header",
    "Its argument is mirrored in the header Mcp-Param-Region, which the SDK compares with the body.",
    obj(region={"type": "string", "x-mcp-header": "Region"}),
)
async def x_mcp_header(call: Call):
    return f"region={call.arguments.get('region')}"


# --- Tools of the conformance suite: streams ---------------------------------------------------------------------------


@tool("test_tool_with_logging", "Three log messages before the result.")
async def tool_with_logging(call: Call):
    for stage in ("started", None, "completed"):
        await call.log(f"Tool execution {stage}" if stage else "Tool processing data")
        await asyncio.sleep(0.05)
    return "Tool with logging executed successfully"


@tool("test_logging_tool", "One log message before the result.")
async def logging_tool(call: Call):
    await call.log("must not be seen by a modern client that set no log level")
    return "logged"


@tool("test_tool_with_progress", "Three progress notifications before the result.")
async def tool_with_progress(call: Call):
    for percent in (0, 50, 100):
        await call.ctx.session.report_progress(percent, 100, f"{percent} of 100")
        await asyncio.sleep(0.05)
    return "Tool with progress executed successfully"


@tool("test_reconnection", "Closes its own event stream; the result is on the stream that the client resumes.")
async def reconnection(call: Call):
    if call.ctx.close_sse_stream:
        await call.ctx.close_sse_stream()
        await asyncio.sleep(0.2)
    return "Reconnection test completed"


@tool("test_trigger_tool_change", "Tells all subscribers that the list of tools has changed.")
async def trigger_tool_change(call: Call):
    await bus.publish(ToolsListChanged())
    return "announced"


@tool("test_trigger_prompt_change", "Tells all subscribers that the list of prompts has changed.")
async def trigger_prompt_change(call: Call):
    await bus.publish(PromptsListChanged())
    return "announced"


# --- Tools of the conformance suite: legacy requests from the server ---------------------------------------------------


@tool("test_sampling", "Asks the client's model.", obj(("prompt",), prompt="string"))
async def sampling(call: Call):
    message = t.SamplingMessage(role="user", content=text(call.arguments["prompt"]))
    result = await call.ctx.session.create_message([message], max_tokens=100, related_request_id=call.ctx.request_id)
    return f"LLM response: {getattr(result.content, 'text', '')}"


@tool("test_elicitation", "Asks the user.", obj(("message",), message="string"))
async def elicitation(call: Call):
    schema = obj(("username", "email"), username="string", email="string")
    result = await call.elicit(call.arguments["message"], schema)
    return f"User response: action={result.action}, content={json.dumps(result.content)}"


@tool("test_elicitation_sep1034_defaults", "Asks the user with a default in each primitive type.")
async def elicitation_defaults(call: Call):
    schema = obj(
        name={"type": "string", "default": "John Doe"},
        age={"type": "integer", "default": 30},
        score={"type": "number", "default": 95.5},
        status={"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
        verified={"type": "boolean", "default": True},
    )
    result = await call.elicit("Please check the defaults", schema)
    return f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}"


@tool("test_elicitation_sep1330_enums", "Asks the user with each form of an enumeration.")
async def elicitation_enums(call: Call):
    options = ["option1", "option2", "option3"]
    titled = [{"const": f"value{n}", "title": f"Choice {n}"} for n in (1, 2, 3)]
    schema = obj(
        untitledSingle={"type": "string", "enum": options},
        titledSingle={"type": "string", "oneOf": titled},
        legacyEnum={"type": "string", "enum": options, "enumNames": ["One", "Two", "Three"]},
        untitledMulti={"type": "array", "items": {"type": "string", "enum": options}},
        titledMulti={"type": "array", "items": {"anyOf": titled}},
    )
    result = await call.elicit("Please choose", schema)
    return f"Elicitation completed: action={result.action}, content={json.dumps(result.content)}"


# --- Tools of the conformance suite: modern `input_required` results ---------------------------------------------------


def ask(message: str, required: str, kind: str = "string") -> t.ElicitRequest:
    schema = obj((required,), **{required: kind})
    return t.ElicitRequest(params=t.ElicitRequestFormParams(message=message, requested_schema=schema))


def sample(question: str, max_tokens: int) -> t.CreateMessageRequest:
    message = t.SamplingMessage(role="user", content=text(question))
    return t.CreateMessageRequest(params=t.CreateMessageRequestParams(messages=[message], max_tokens=max_tokens))


def need(state: str | None = None, **requests: Any) -> t.InputRequiredResult:
    return t.InputRequiredResult(input_requests=requests, request_state=state)


def said(answer: t.ElicitResult, key: str) -> Any:
    return (answer.content or {}).get(key)


@tool("test_missing_capability", "Refuses clients that did not declare sampling.")
async def missing_capability(call: Call):
    if call.capabilities.sampling is None:
        required = {"requiredCapabilities": {"sampling": {}}}
        raise MCPError(t.MISSING_REQUIRED_CLIENT_CAPABILITY, "Needs the client capability sampling", required)
    return "The client can sample."


@tool("test_streaming_elicitation", "Progress first, then a question to the user, on one stream.")
async def streaming_elicitation(call: Call):
    await call.ctx.session.report_progress(1, 2)
    if call.answer("user_name", t.ElicitResult) is None:
        return need(user_name=ask("What is your name?", "name"))
    return "asked and answered"


@tool("test_input_required_result_elicitation", "Needs the user's name.")
async def input_elicitation(call: Call):
    if answer := call.answer("user_name", t.ElicitResult):
        return f"Hello, {said(answer, 'name')}!"
    return need(user_name=ask("What is your name?", "name"))


@tool("test_input_required_result_sampling", "Needs the client's model.")
async def input_sampling(call: Call):
    if answer := call.answer("capital_question", t.CreateMessageResult):
        return f"The model said: {getattr(answer.content, 'text', '')}"
    return need(capital_question=sample("What is the capital of France?", 100))


@tool("test_input_required_result_list_roots", "Needs the client's roots.")
async def input_list_roots(call: Call):
    if answer := call.answer("client_roots", t.ListRootsResult):
        return "Roots: " + ", ".join(str(root.uri) for root in answer.roots)
    return need(client_roots=t.ListRootsRequest())


@tool("test_input_required_result_request_state", "Its state goes to the client and back.")
async def input_request_state(call: Call):
    if call.answer("confirm", t.ElicitResult) and call.state == "asked":
        return "state-ok"
    return need("asked", confirm=ask("Please confirm", "ok", "boolean"))


@tool("test_input_required_result_tampered_state", "A changed state is refused, by the SDK, before it comes here.")
async def input_tampered_state(call: Call):
    return "state-ok" if call.state else need("asked", confirm=ask("Please confirm", "ok", "boolean"))


@tool("test_input_required_result_multiple_inputs", "Needs three things at once.")
async def input_multiple(call: Call):
    if {"user_name", "greeting", "client_roots"} <= call.answers.keys():
        return "All inputs received."
    return need(
        "asked",
        user_name=ask("What is your name?", "name"),
        greeting=sample("Generate a greeting", 50),
        client_roots=t.ListRootsRequest(),
    )


@tool("test_input_required_result_multi_round", "Two questions, one after the other.")
async def input_multi_round(call: Call):
    state = json.loads(call.state) if call.state else {}
    if state.get("round") == 1 and (answer := call.answer("step1", t.ElicitResult)):
        next_state = json.dumps({"round": 2, "name": said(answer, "name")})
        return need(next_state, step2=ask("Step 2: What is your favorite color?", "color"))
    if state.get("round") == 2 and (answer := call.answer("step2", t.ElicitResult)):
        return f"{state['name']} likes {said(answer, 'color')}."
    return need(json.dumps({"round": 1}), step1=ask("Step 1: What is your name?", "name"))


@tool("test_input_required_result_capabilities", "Asks only for what the client can answer.")
async def input_capabilities(call: Call):
    requests: dict[str, Any] = {}
    if call.capabilities.sampling is not None:
        requests["greeting"] = sample("Generate a greeting", 50)
    if call.capabilities.elicitation is not None:
        requests["user_name"] = ask("What is your name?", "name")
    return need("asked", **requests)


# --- Prompts -----------------------------------------------------------------------------------------------------------


@prompt("test_simple_prompt", "Without arguments.")
async def simple_prompt(call: Call):
    return [text("This is a simple prompt for testing.")]


@prompt("test_prompt_with_arguments", "With two arguments.", "arg1", "arg2")
async def prompt_with_arguments(call: Call):
    arg1, arg2 = call.arguments.get("arg1"), call.arguments.get("arg2")
    return [text(f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'")]


@prompt("test_prompt_with_embedded_resource", "With an embedded resource.", "resourceUri")
async def prompt_with_embedded_resource(call: Call):
    resource = embedded(call.arguments["resourceUri"], "Embedded resource content for testing.")
    return [resource, text("Please process the embedded resource above.")]


@prompt("test_prompt_with_image", "With an image.")
async def prompt_with_image(call: Call):
    return [image(), text("Please analyze the image above.")]


@prompt("test_input_required_result_prompt", "Needs the user's context.")
async def input_prompt(call: Call):
    if answer := call.answer("user_context", t.ElicitResult):
        return [text(f"Use this context: {said(answer, 'context')}")]
    return need(user_context=ask("What context should the prompt use?", "context"))


# --- Resources ---------------------------------------------------------------------------------------------------------

RESOURCES = {
    "test://static-text": ("text/plain", "This is the content of the static text resource."),
    "test://static-binary": ("image/png", base64.b64decode(PNG)),
    "test://watched-resource": ("text/plain", "Watched resource content"),
}
TEMPLATE, TEMPLATE_PATTERN = "test://template/{id}/data", re.compile(r"test://template/([^/]+)/data")


def find_resource(uri: str) -> tuple[str, str | bytes]:
    if match := TEMPLATE_PATTERN.fullmatch(uri):
        found = {"id": match[1], "templateTest": True, "data": f"Data for ID: {match[1]}"}
        return "application/json", json.dumps(found)
    if uri in RESOURCES:
        return RESOURCES[uri]
    raise MCPError(t.INVALID_PARAMS, "Resource not found", {"uri": uri})


# --- The server --------------------------------------------------------------------------------------------------------


async def run(table: dict[str, tuple[Any, Handler]], ctx: ServerRequestContext, params: Any) -> Any:
    if params.name not in table:
        raise MCPError(t.INVALID_PARAMS, f"Unknown name: {params.name}")
    call = Call(ctx, params.arguments or {}, params.input_responses or {}, params.request_state)
    return await table[params.name][1](call)


async def call_tool(ctx, params):
    try:
        result = await run(TOOLS, ctx, params)
    except MCPError:
        raise  # a protocol error; everything else is an error of the tool, which the model may see
    except Exception as error:
        return t.CallToolResult(content=[text(str(error))], is_error=True)
    if isinstance(result, str):
        result = [text(result)]
    return t.CallToolResult(content=result) if isinstance(result, list) else result


async def get_prompt(ctx, params):
    result = await run(PROMPTS, ctx, params)
    if not isinstance(result, list):
        return result
    return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content) for content in result])


async def list_tools(ctx, params):
    return t.ListToolsResult(tools=[declared for declared, _ in TOOLS.values()])


async def list_prompts(ctx, params):
    return t.ListPromptsResult(prompts=[declared for declared, _ in PROMPTS.values()])


async def list_resources(ctx, params):
    listed = [
        t.Resource(uri=uri, name=uri.removeprefix("test://"), description=f"Resource {uri}", mime_type=mime)
        for uri, (mime, _) in RESOURCES.items()
    ]
    return t.ListResourcesResult(resources=listed)


async def list_templates(ctx, params):
    template = t.ResourceTemplate(uri_template=TEMPLATE, name="template", mime_type="application/json")
    return t.ListResourceTemplatesResult(resource_templates=[template])


async def read_resource(ctx, params):
    uri = str(params.uri)
    mime, content = find_resource(uri)
    if isinstance(content, bytes):
        blob = base64.b64encode(content).decode()
        return t.ReadResourceResult(contents=[t.BlobResourceContents(uri=uri, mime_type=mime, blob=blob)])
    return t.ReadResourceResult(contents=[t.TextResourceContents(uri=uri, mime_type=mime, text=content)])


async def complete(ctx, params):
    values = [value for value in ("paris", "park", "party") if value.startswith(params.argument.value)]
    return t.CompleteResult(completion=t.Completion(values=values, total=len(values), has_more=False))


async def accept(ctx, params):
    """For requests that need no more than an acknowledgement (subscribe, unsubscribe, setLevel)."""
    return t.EmptyResult()


class RecentEvents(EventStore):
    """The last events of all streams, for clients that resume with Last-Event-ID. An unknown id replays nothing."""

    def __init__(self) -> None:
        self.events: deque[tuple[str, str, Any]] = deque(maxlen=256)
        self.last = 0

    async def store_event(self, stream_id, message):
        self.last += 1
        self.events.append((str(self.last), stream_id, message))
        return str(self.last)

    async def replay_events_after(self, last_event_id, send_callback):
        events = list(self.events)
        known = next((i for i, (event_id, _, _) in enumerate(events) if event_id == last_event_id), None)
        if known is None:
            return None
        stream = events[known][1]
        for event_id, stream_id, message in events[known + 1 :]:
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, event_id))
        return stream


def build_app():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MCPDeprecationWarning)  # logging is deprecated, and still in use by half the world
        server = Server(
            NAME,
            version="1.0.0",
            get_tool_input_schema=lambda name: TOOLS[name][0].input_schema if name in TOOLS else None,
            on_list_tools=list_tools,
            on_call_tool=call_tool,
            on_list_prompts=list_prompts,
            on_get_prompt=get_prompt,
            on_list_resources=list_resources,
            on_list_resource_templates=list_templates,
            on_read_resource=read_resource,
            on_completion=complete,
            on_subscribe_resource=accept,
            on_unsubscribe_resource=accept,
            on_set_logging_level=accept,
            on_subscriptions_listen=ListenHandler(bus),
        )
    server.middleware.append(RequestStateBoundary(RequestStateSecurity(keys=[os.urandom(32)]), default_audience=NAME))

    in_flight = 0

    async def stats(request: Request) -> JSONResponse:
        return JSONResponse({"open": in_flight})

    app = server.streamable_http_app(
        event_store=RecentEvents(),
        retry_interval=100,
        max_request_body_size=16 * 1024 * 1024,  # above the service's own default, so that a test sees the service's limit
        custom_starlette_routes=[Route("/stats", stats)],
    )

    async def counted(scope, receive, send):
        nonlocal in_flight
        counts = scope["type"] == "http" and scope["path"] == "/mcp"
        in_flight += counts
        try:
            await app(scope, receive, send)
        finally:
            in_flight -= counts

    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    # Bound and listening before the line is printed, so that whoever reads it can connect at once.
    listener = socket.create_server(("127.0.0.1", parser.parse_args().port), backlog=128)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    config = uvicorn.Config(build_app(), log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    main()
