"""A cache of the page's HTML: it is made once for each address that it is requested at, not anew for every visitor.

Gradio copies and serialises the description of all components for each visit. For this page that takes a tenth of a
second, in which no other request is answered, and gives the same every time. The API's description is the same case.
"""

from __future__ import annotations

import asyncio
import gzip
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode

import brotli
from anyio import to_thread
from gradio.data_classes import BlocksConfigDict
from starlette._utils import get_route_path
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ipa_app.ui.preloads import preload_links

_MOST = 16
_PAGE = "/"
_CONFIG = "/config"
_INFO = "/gradio_api/info"
_ANSWERED = {(_PAGE, "GET"), (_PAGE, "HEAD"), (_CONFIG, "GET"), (f"{_CONFIG}/", "GET"), (_INFO, "GET")}
_LEVEL = 6
_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "br": lambda page: brotli.compress(page, mode=brotli.MODE_TEXT, quality=_LEVEL),
    "gzip": lambda page: gzip.compress(page, _LEVEL),
    "identity": bytes,
}
_ADDRESS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")
"""The headers from which Gradio derives the page's own address, which is part of the page."""

# Gradio shows its own texts in the browser's language, whichever is chosen on the page, and reads that language before
# any script of ours runs. So it gets English, which the page's script, which uses `navigator.languages`, translates.
_IN_ENGLISH = '<script>Object.defineProperty(navigator, "language", { value: "en" });</script>'

_Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Kept:
    config: object
    answer: Response


class PageCache:
    """The middleware that serves the page from the cache, if it is the same for everybody: without a login.

    Query parameters, such as the view, only concern the browser. Gradio's links to a state of the page, which would
    not, are not offered here.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        # One at a time, as anybody can make up addresses, and each needs a page of its own.
        self._making = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not _is_for_everybody(scope):
            await self._app(scope, receive, send)
            return
        # Gradio's reload mode replaces the description while the app runs; a cached page is only valid for its own.
        config = scope["app"].get_blocks().config
        scope["query_string"] = _query(scope, config)
        key = _key(scope)
        answer = self._found(key, config)
        if answer is None:
            async with self._making:
                answer = self._found(key, config) or await self._made(scope, receive, key=key, config=config)
        await answer(scope, receive, send)

    def _found(self, key: _Key, config: BlocksConfigDict) -> Response | None:
        kept = self._kept.get(key)
        if kept is None or kept.config is not config:
            return None
        self._kept.move_to_end(key)
        return kept.answer

    async def _made(self, scope: Scope, receive: Receive, *, key: _Key, config: BlocksConfigDict) -> Response:
        answer = await self._asked(scope, receive, encoding=key[0], types=_shown(config))
        if answer.status_code == 200:
            self._kept[key] = _Kept(config, answer)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return answer

    async def _asked(self, scope: Scope, receive: Receive, *, encoding: str, types: Collection[str]) -> Response:
        """Return the app's response, compressed, and for the page with its preload links."""
        messages: list[Message] = []

        async def take(message: Message) -> None:
            messages.append(message)

        asked = MutableHeaders(scope=dict(scope))
        asked["accept-encoding"] = "identity"
        await self._app({**scope, "method": "GET", "headers": asked.raw}, receive, take)
        headers = MutableHeaders(raw=list(messages[0]["headers"]))
        del headers["content-length"]
        headers["vary"] = "Accept-Encoding"
        if encoding != "identity":
            headers["content-encoding"] = encoding
        body = b"".join(message.get("body", b"") for message in messages[1:])
        if get_route_path(scope) == _PAGE:
            body = await to_thread.run_sync(_with_links, body, types)
        body = await to_thread.run_sync(_ENCODINGS[encoding], body)
        return Response(body, messages[0]["status"], dict(headers))


def _with_links(page: bytes, types: Collection[str]) -> bytes:
    text = page.decode()
    return text.replace("<head>", f"<head>{_IN_ENGLISH}{preload_links(text, types=types)}", 1).encode()


def _shown(config: BlocksConfigDict) -> set[str]:
    """Return the types of the components that are loaded when the page opens."""
    return {each["type"] for each in config["components"] if each["props"].get("visible", True) is not False}


def _is_for_everybody(scope: Scope) -> bool:
    if scope["type"] != "http" or (get_route_path(scope), scope["method"]) not in _ANSWERED:
        return False
    return scope["app"].auth is None and scope["app"].auth_dependency is None


def _query(scope: Scope, config: BlocksConfigDict) -> bytes:
    """Return the part of the query that changes the response."""
    path = get_route_path(scope)
    asked = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
    counts: dict[str, str] = {}
    if path != _PAGE and asked.get("page") in config["page"]:
        counts["page"] = asked["page"]
    if path == _INFO and asked.get("all_endpoints"):
        counts["all_endpoints"] = "1"
    return urlencode(counts).encode()


def _key(scope: Scope) -> _Key:
    """Return what a response depends on: its compression, first, and the address that it was requested at."""
    headers = Headers(scope=scope)
    accepted = headers.get("accept-encoding", "")
    encoding = next((each for each in _ENCODINGS if each in accepted), "identity")
    asked = scope["path"], scope["query_string"], scope["scheme"]
    return encoding, *asked, scope.get("root_path"), *(headers.get(name) for name in _ADDRESS)
