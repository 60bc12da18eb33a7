"""The page as it is sent: made once for every address that it is asked for at, and not anew for every visitor.

Gradio copies and writes out the description of all components for each visit. On this page that takes a tenth of a
second, in which nobody else is answered, and the same comes of it every time.
"""

from __future__ import annotations

import gzip
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import brotli
from gradio.data_classes import BlocksConfigDict
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ipa_app.ui.preloads import preload_links

_MOST = 16
_LEVEL = 6
_ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "br": lambda page: brotli.compress(page, mode=brotli.MODE_TEXT, quality=_LEVEL),
    "gzip": lambda page: gzip.compress(page, _LEVEL),
    "identity": bytes,
}
_ADDRESS = ("host", "x-forwarded-host", "x-forwarded-proto", "x-gradio-server")
"""The headers that Gradio reads the page's own address from, which stands in it."""

_Key = tuple[Any, ...]


@dataclass(frozen=True)
class _Kept:
    config: object
    answer: Response


class PageCache:
    """Answers for the page, where it is the same for everybody: without a login and without a link to a state of it."""

    def __init__(self, app: ASGIApp) -> None:
        """Stand before an app."""
        self._app = app
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if not _is_for_everybody(scope):
            await self._app(scope, receive, send)
            return
        # A page that is loaded anew while it is being written has another description.
        key, config = _key(scope), scope["app"].get_blocks().config
        kept = self._kept.get(key)
        if kept is None or kept.config is not config:
            answer = await self._asked(scope, receive, encoding=key[0], types=_shown(config))
            kept = _Kept(config, answer)
            if answer.status_code == 200:
                self._kept[key] = kept
        if key in self._kept:
            self._kept.move_to_end(key)
        while len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        await kept.answer(scope, receive, send)

    async def _asked(self, scope: Scope, receive: Receive, *, encoding: str, types: Collection[str]) -> Response:
        """Let the app answer, and return that, with what it will fetch, and compressed."""
        messages: list[Message] = []

        async def take(message: Message) -> None:
            messages.append(message)

        asked = MutableHeaders(scope=dict(scope))
        asked["accept-encoding"] = "identity"
        await self._app({**scope, "headers": asked.raw}, receive, take)
        headers = MutableHeaders(raw=list(messages[0]["headers"]))
        del headers["content-length"]
        headers["vary"] = "Accept-Encoding"
        if encoding != "identity":
            headers["content-encoding"] = encoding
        page = b"".join(message.get("body", b"") for message in messages[1:]).decode()
        page = page.replace("<head>", f"<head>{preload_links(page, types=types)}", 1)
        return Response(_ENCODINGS[encoding](page.encode()), messages[0]["status"], dict(headers))


def _shown(config: BlocksConfigDict) -> set[str]:
    """Return the types of the components that are loaded when the page opens."""
    return {each["type"] for each in config["components"] if each["props"].get("visible", True) is not False}


def _is_for_everybody(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/" or scope["query_string"]:
        return False
    return scope["app"].auth is None and scope["app"].auth_dependency is None


def _key(scope: Scope) -> _Key:
    """Return what an answer depends on: first how it is compressed, then by which address the page was reached."""
    headers = Headers(scope=scope)
    accepted = headers.get("accept-encoding", "")
    encoding = next((each for each in _ENCODINGS if each in accepted), "identity")
    return encoding, scope["scheme"], scope.get("root_path"), *(headers.get(name) for name in _ADDRESS)
