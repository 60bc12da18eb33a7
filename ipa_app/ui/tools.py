"""The public endpoints as MCP tools: checks of what Gradio's MCP server is called with, and by whom."""

from __future__ import annotations

import asyncio
import base64
import json
import mimetypes
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gradio.data_classes import JsonData
from gradio.mcp import GradioMCPServer
from gradio.processing_utils import add_root_url
from mcp.types import CallToolRequest, CallToolResult, ImageContent, ServerResult, TextContent
from starlette.requests import Request

from ipa_app.errors import UserError
from ipa_app.ui.addresses import kept_here
from ipa_app.ui.allowance import Spend, set_spend
from ipa_app.ui.calls import Endpoint, checked_named, pictures_of
from ipa_app.ui.failures import explain
from ipa_app.ui.gate import LARGEST_TOOL_CALL
from ipa_app.ui.uploads import is_data_url

CALL_HEADER = "x-ipa-tool-call"
"""The header that identifies a tool call. Gradio's MCP server calls the endpoints through a client of its own, and
passes on the headers of the tool call."""

_LOOK_EVERY_S = 0.2


class ToolCalls:
    """Wraps the MCP server of a page: checks the arguments of tool calls, and notices clients that disconnect."""

    def __init__(
        self, server: GradioMCPServer, endpoints: Mapping[str, Endpoint], *, spend: Callable[[str], Spend]
    ) -> None:
        """Wrap a server.

        Args:
            server: the MCP server of a page.
            endpoints: the page's public endpoints by name.
            spend: returns the function that counts uploads from an address.
        """
        _tell_defaults(server)
        setattr(server, "postprocess_output_data", _contents)  # noqa: B010 - Gradio's returns one text for all
        # The default is 4 MiB, too little for a large picture.
        server.manager.asgi_app.max_body_size = LARGEST_TOOL_CALL
        self._server = server.mcp_server
        self._spend = spend
        self._endpoints = {tool: endpoints[name.lstrip("/")] for tool, name in server.tool_to_endpoint.items()}
        self._handler = self._server.request_handlers[CallToolRequest]
        self._callers: dict[str, str] = {}
        self._left: set[str] = set()
        self._server.request_handlers[CallToolRequest] = self._call

    def is_left(self, call: str) -> bool:
        """Whether the caller of a tool call, identified by its header, has disconnected."""
        return call in self._left

    def caller(self, call: str) -> str | None:
        """Return the address of a tool call's caller, by the call's header; None if there is no such call."""
        return self._callers.get(call)

    async def _call(self, request: CallToolRequest) -> ServerResult:
        endpoint = self._endpoints.get(request.params.name)
        if endpoint is not None:
            try:
                # Checked before the MCP library does, whose errors name the value but not the parameter.
                request.params.arguments = self._brought(endpoint, await self._sent())
            except (UserError, OSError) as error:
                return ServerResult(
                    CallToolResult(content=[TextContent(type="text", text=explain(error))], isError=True)
                )
        return await self._handle(request)

    async def _sent(self) -> dict[str, Any]:
        """Return the arguments as they were sent: the MCP library turns NaN and the like into null, as if not given."""
        context: Any = self._server.request_context
        params = json.loads(await context.request.body())["params"]
        return params.get("arguments") or {}

    def _brought(self, endpoint: Endpoint, arguments: dict[str, Any]) -> dict[str, Any]:
        """Check arguments, and return them with data URLs replaced by URLs of files saved here.

        Gradio would save data URLs itself, without checking for free disk space, and upload them to itself.

        Raises:
            UserError: an argument is refused.
            SpentError: the caller has uploaded too much lately.
            OSError: there is no room for the files.
        """
        set_spend(self._spend(self._host))
        pictures = pictures_of(endpoint)
        return {
            name: kept_here(value, field=name) if name in pictures and is_data_url(value) else value
            for name, value in checked_named(endpoint, arguments).items()
        }

    @property
    def _host(self) -> str:
        """The address of the caller of the current tool call."""
        client = getattr(self._server.request_context.request, "client", None)
        return client.host if client else ""

    async def _handle(self, request: CallToolRequest) -> ServerResult:
        """Let Gradio handle a call, and meanwhile watch whether the client is still connected."""
        context: Any = self._server.request_context
        call = uuid.uuid4().hex
        headers = [*context.request.headers.raw, (CALL_HEADER.encode(), call.encode())]
        context.request = Request({**context.request.scope, "headers": headers}, context.request.receive)
        self._callers[call] = self._host
        watch = asyncio.create_task(self._watch(context.request, call))
        try:
            return await self._handler(request)
        finally:
            watch.cancel()
            self._callers.pop(call)
            self._left.discard(call)

    async def _watch(self, http: Request, call: str) -> None:
        while not await http.is_disconnected():
            await asyncio.sleep(_LOOK_EVERY_S)
        self._left.add(call)


def _contents(data: Sequence[Any], root_url: str) -> list[TextContent | ImageContent]:
    """Return an endpoint's outputs as MCP contents: pictures, each with its URL, and JSON.

    Args:
        data: its outputs; nested in another list if the client gets no progress.
        root_url: the app's root URL, for the pictures' URLs.
    """
    outputs = data[0] if len(data) == 1 and isinstance(data[0], list | tuple) else data
    contents: list[TextContent | ImageContent] = []
    for output in add_root_url(list(outputs), root_url, None):
        if isinstance(output, list):
            for file in output:
                contents += [_picture(file["path"]), TextContent(type="text", text=f"Image URL: {file['url']}")]
        else:
            plain = output.root if isinstance(output, JsonData) else output
            contents.append(TextContent(type="text", text=json.dumps(plain, ensure_ascii=False)))
    return contents


def _picture(path: str) -> ImageContent:
    kind, _ = mimetypes.guess_type(path)
    data = base64.b64encode(Path(path).read_bytes()).decode()
    return ImageContent(type="image", data=data, mimeType=kind or "image/png")


def _tell_defaults(server: GradioMCPServer) -> None:
    """Add defaults such as 0 to the tools' descriptions, which Gradio takes for missing."""
    for endpoint in server.api_info["named_endpoints"].values():
        for parameter in endpoint["parameters"]:
            default = parameter.get("parameter_default")
            if default is not None:
                parameter["type"] = {**parameter["type"], "default": default}
