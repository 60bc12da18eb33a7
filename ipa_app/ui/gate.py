"""The middleware in front of the whole app: it rejects routes that the app never needs, and bodies without limit.

Gradio serves more routes than its page uses, accepts bodies of any size, and answers to any host name. That costs
memory, disk and CPU time at everybody's expense, or acts in the name of somebody who runs the app for themselves.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import partial

import gradio as gr
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from gradio.route_utils import get_hostname
from starlette._utils import get_route_path
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from ipa_app.errors import UserError
from ipa_app.library.library import is_loopback
from ipa_app.models.adapter_set import largest_added
from ipa_app.models.units import size_text
from ipa_app.ui.allowance import Allowance, SpentError
from ipa_app.ui.failures import explain
from ipa_app.ui.uploads import LARGEST_PICTURE, check_room

HOSTS_VARIABLE = "IPA_HOSTS"
LARGEST_BODY = 10**6
"""Pictures are uploads. The largest other body from the page is a skeleton with the most people allowed: 200 kB."""
MOST_VALUES = 50_000
"""That skeleton has 13,000. Each value costs far more time and memory than its bytes."""
LARGEST_TOOL_CALL = 2 * LARGEST_PICTURE
"""MCP calls contain pictures in base64, which takes a third more space."""
LARGEST_UPLOADS = 16 * LARGEST_PICTURE
"""Bytes of all files in one upload, unless a larger adapter is allowed."""

_FRAMING = 2**20
"""Bytes for the multipart framing and the file names."""
_LOOK_EVERY = 2**20
"""Bytes of an upload between two checks of the free disk space."""
_BEFORE_VALUES = (b"[", b"{", b",")
"""Bytes that precede a value in JSON, in any encoding; those inside strings are counted as well."""
_READING = {"GET", "HEAD", "OPTIONS"}
_UNNEEDED = re.compile(
    r"[^=]*/(?:gradio_api/(?:"
    # Routes of Gradio components and developer tools that this page does not use.
    r"(?:component_server|process_recording|stream|deep_link|profiling|vibe-[a-z-]+|undo-vibe-edit)(?:/|$)"
    # Files of other servers, which this one would fetch.
    r"|proxy=|file[=/]https?://)"
    r"|monitoring(?:/|$)|(?:gradio_api/)?dev/reload$)"
)


class Gate:
    """The middleware that answers rejected requests, and measures the bodies of the others."""

    def __init__(self, app: ASGIApp, *, environment: Mapping[str, str], allowance: Allowance) -> None:
        """Wrap an app.

        Args:
            app: the rest of the app.
            environment: its `IPA_HOSTS` lists, separated by commas, the host names that the app is reached by, besides
                this machine's own.
            allowance: how much may be uploaded from elsewhere.
        """
        self._allowance = allowance
        self._app = app
        self._hosts = {get_hostname(name.strip()) for name in environment.get(HOSTS_VARIABLE, "").split(",")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (refusal := self._refusal(scope)) is not None:
            await refusal(scope, receive, send)
        elif scope["method"] in _READING:
            await self._app(scope, receive, send)
        else:
            await self._measured(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the response to an unneeded route, a foreign host name or a foreign page; None for all else."""
        headers, page = Headers(scope=scope), scope["app"].get_blocks()
        hosts = self._hosts | {get_hostname(page.root_path or "")}
        host = get_hostname(headers.get("host", ""))
        if is_for_itself(page) and not (_is_address(host) or host in hosts):
            return _answer(scope, 403, UserError("gate.foreign_host", host=host, variable=HOSTS_VARIABLE).message)
        if scope["method"] not in _READING and _is_foreign(headers, host=host, hosts=hosts):
            return _answer(scope, 403, UserError("gate.foreign_page", variable=HOSTS_VARIABLE).message)
        if _UNNEEDED.match(get_route_path(scope)):
            return _answer(scope, 404, UserError("gate.not_offered").message)
        return None

    async def _measured(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the app, with limits on its body."""
        if _is_upload(scope):
            spend = partial(self._allowance.spend, (scope.get("client") or ("",))[0])
            body = _Upload(receive, send, spend=None if is_for_itself(scope["app"].get_blocks()) else spend)
        else:
            body = _Body(receive, send, most=_most(scope))
        announced = Headers(scope=scope).get("content-length", "")
        if body.takes(int(announced) if announced.isdigit() else 0):
            try:
                await self._app(scope, body.receive, body.send)
            except Exception:
                # A refused body is answered below, whatever error it caused in the app.
                if body.refused is None:
                    raise
        if body.refused is not None and not body.is_answered:
            await _answer(scope, _status(body.refused), explain(body.refused))(scope, receive, send)


class _Body:
    """A request body on its way to the app, and the app's response on its way back.

    Attributes:
        refused: why the body was refused, else None; a response that begins after that is dropped.
        is_answered: whether the app's response has begun.
    """

    _holds_values = True

    def __init__(self, receive: Receive, send: Send, *, most: int) -> None:
        self.refused: Exception | None = None
        self.is_answered = False
        self._receive = receive
        self._send = send
        self._most = most
        self._count = 0
        self._values = 0
        self._is_whole = False

    def takes(self, size: int) -> bool:
        """Return whether a body of at least this many bytes is accepted; if not, `refused` holds the reason."""
        try:
            self._check(size)
        except (UserError, OSError) as error:
            self.refused = error
        return self.refused is None

    def _check(self, size: int) -> None:
        if size > self._most:
            raise UserError("gate.too_large", most=size_text(self._most))
        if self._values > MOST_VALUES:
            raise UserError("gate.too_many_values", most=f"{MOST_VALUES:,}")

    async def receive(self) -> Event:
        """Receive the next event.

        Raises:
            MultiPartException: the body is too large. Gradio then deletes its partial files.
        """
        event = await self._receive()
        if event["type"] == "http.request":
            body = event.get("body", b"")
            self._count += len(body)
            if self._holds_values:
                self._values += sum(map(body.count, _BEFORE_VALUES))
            self._is_whole = not event.get("more_body", False)
            if not self.takes(self._count):
                raise MultiPartException(str(self.refused))
        return event

    async def send(self, event: Event) -> None:
        """Send the app's response, unless the body was refused before it began."""
        if self.refused is None:
            self.is_answered = True
        if self.is_answered:
            await self._send(event)


class _Upload(_Body):
    """The body of a file upload, which takes disk space."""

    _holds_values = False

    def __init__(self, receive: Receive, send: Send, *, spend: Callable[..., None] | None) -> None:
        """Wrap an upload.

        Args:
            receive: the ASGI receive function.
            send: the ASGI send function.
            spend: counts the sender's uploads; None if they have no limit.
        """
        super().__init__(receive, send, most=max(LARGEST_UPLOADS, largest_added()) + _FRAMING)
        self._spend = spend
        self._spent = 0
        self._looked = -_LOOK_EVERY

    def _check(self, size: int) -> None:
        if self._count - self._looked >= _LOOK_EVERY:
            self._looked = self._count
            # Other uploads may have taken the space that was free when this one began.
            check_room(size - self._count)
        if size > self._most:
            raise UserError("gate.uploads_too_large", most=size_text(self._most - _FRAMING))
        if self._spend is not None:
            self._spend(self._count - self._spent, ahead=size - self._count)
            self._spent = self._count

    async def receive(self) -> Event:
        """Receive the next event.

        Raises:
            MultiPartException: the upload is too large, or was broken off. Gradio then deletes its partial files.
        """
        event = await super().receive()
        if event["type"] == "http.disconnect" and not self._is_whole:
            raise MultiPartException("The upload was broken off.")
        return event


def is_for_itself(page: gr.Blocks) -> bool:
    """Whether only this machine can reach a page. A request by a foreign host name then comes from DNS rebinding."""
    server = getattr(page, "server_name", None)
    return server is not None and is_loopback(server) and not (page.share or getattr(page, "is_colab", False))


def _is_address(host: str) -> bool:
    """Whether a host is an IP address or loopback name, not a name that somebody could point at this machine."""
    try:
        return is_loopback(host) or bool(ipaddress.ip_address(host))
    except ValueError:
        return False


def _is_foreign(headers: Headers, *, host: str, hosts: set[str]) -> bool:
    """Whether a request comes from a foreign page, which Gradio's CORS rules forbid for a local app.

    Programs send no Origin header, and browsers mark same-origin requests. A proxy may have replaced the host name that
    the page was reached by with its own.
    """
    origin = headers.get("origin")
    if origin is None or headers.get("sec-fetch-site") == "same-origin" or not _is_local(host):
        return False
    forwarded = {get_hostname(each.strip()) for each in headers.get("x-forwarded-host", "").split(",")}
    name = get_hostname(origin)
    return not (name and (_is_local(name) or name in forwarded | hosts))


def _is_local(host: str) -> bool:
    return host == "0.0.0.0" or is_loopback(host)  # noqa: S104 - compared, not bound


def _status(refused: Exception) -> int:
    if isinstance(refused, SpentError):
        return 429
    return 413 if isinstance(refused, UserError) else 507


def _is_upload(scope: Scope) -> bool:
    return scope["path"].rstrip("/").endswith("/gradio_api/upload")


def _most(scope: Scope) -> int:
    return LARGEST_TOOL_CALL if "/gradio_api/mcp" in scope["path"] else LARGEST_BODY


def _answer(scope: Scope, status: int, text: str) -> Response:
    """Return a sentence as a response: plain text where people see it whole, as for uploads, else JSON."""
    if scope["method"] in _READING or _is_upload(scope):
        return PlainTextResponse(text, status)
    return JSONResponse({"error": text}, status)
