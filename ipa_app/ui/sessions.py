"""What the server keeps per session: the values of its states, and nothing else.

Gradio describes every component of the page for each new session, and again after each event, for links to the page's
current state, which are not offered here. For this page that takes 50 ms, in the thread that serves everybody, and
0.8 MB that stay. An API call without a session gets a session of its own as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any, cast

import gradio as gr
from fastapi import Request
from fastapi.responses import Response
from gradio.routes import App
from gradio.server_messages import UnexpectedErrorMessage
from gradio.state_holder import SessionState, StateHolder
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

MOST_SESSIONS = 1000
LONGEST_NAME = 64

_NAMES = ("session_hash", "event_id", "upload_id")
"""Parameters whose values clients make up, and that the server then uses as keys; Gradio's have at most 36
characters."""
_NOT_FOUND = UnexpectedErrorMessage(message="404: Not Found", session_not_found=True)
_HEARTBEAT = re.compile(r".*/gradio_api/heartbeat/([^/]+)")


class Session(SessionState):
    """The states of one session, without descriptions of components."""

    def __init__(self, blocks: gr.Blocks) -> None:
        """Begin a session.

        Args:
            blocks: the page.
        """
        # With an empty `blocks`: every component in it would be described.
        super().__init__(cast(gr.Blocks, SimpleNamespace(default_config=blocks.default_config, blocks=())))

    def _update_config(self, key: int) -> None:
        """Describe nothing."""

    def _update_value_in_config(self, key: int, value: Any) -> None:
        """Describe nothing."""


class Sessions(StateHolder):
    """The sessions of all visitors.

    If there are too many, one is evicted: first those without states, then those whose page was closed, then the least
    recently used one that no page has open. Anybody can make up session names, but only an open page keeps a
    connection for its session.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: Counter[str] = Counter()

    @classmethod
    def take_over(cls, app: App, page: gr.Blocks) -> None:
        """Replace the session store of a served page."""
        sessions, before = cls(), app.state_holder
        sessions.session_data, sessions.time_last_used = before.session_data, before.time_last_used
        sessions.set_blocks(page)
        app.state_holder = sessions

    def __getitem__(self, session_id: str) -> SessionState:
        """Return a session; it is created when first requested."""
        if session_id not in self.session_data:
            self.session_data[session_id] = Session(self.blocks)
        return super().__getitem__(session_id)

    @contextmanager
    def open(self, session_id: str) -> Iterator[None]:
        """Count a session as open in a page for the duration of the block."""
        self._open[session_id] += 1
        if session_id in self.session_data:
            self.session_data[session_id].is_closed = False
        try:
            yield
        finally:
            self._open[session_id] -= 1
            self._open += Counter()  # drops counts of 0

    def update(self, session_id: str) -> None:
        """Note that a session is used, and evict another one if there are too many, calling its states' callbacks."""
        with self.lock:
            if session_id in self.session_data:
                self.session_data.move_to_end(session_id)
            gone = self._most_dispensable(session_id) if len(self.session_data) > self.capacity else None
        if gone is not None:
            self.delete_state(gone)
            with self.lock:
                self.session_data.pop(gone, None)
                self.time_last_used.pop(gone, None)

    def _most_dispensable(self, session_id: str) -> str | None:
        """Return the session to evict for another; None if all except that one are open: it goes for the next one."""
        others = {name: self._worth(name) for name in list(self.session_data) if name != session_id}
        gone = min(others, key=others.__getitem__)
        return None if gone in self._open and session_id not in self._open else gone

    def _worth(self, name: str) -> int:
        session = self.session_data[name]
        if name in self._open:
            return 3
        return 0 if not session.state_data else 1 if session.is_closed else 2


async def check_names(request: Request) -> None:
    """Refuse a request with an unusable name for a session, event or upload: names are kept in memory as keys.

    Raises:
        HTTPException: a name is too long, or contains a line break or the like.
    """
    given: dict[str, Any] = {**request.query_params, **request.path_params}
    if request.method == "POST" and "form" not in request.headers.get("content-type", ""):
        with suppress(ValueError, RecursionError):  # not JSON; routes that need it answer that themselves
            body = await request.json()
            given |= body if isinstance(body, dict) else {}
    for name in _NAMES:
        if len(text := str(given.get(name) or "")) > LONGEST_NAME:
            raise HTTPException(422, f"{name} has {len(text)} characters; it may have at most {LONGEST_NAME}.")
        if not text.isprintable():
            raise HTTPException(422, f"{name} may only have characters that can be printed.")


class OpenPages:
    """The middleware that notes which sessions have a page open: such a page keeps a heartbeat connection."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        heartbeat = _HEARTBEAT.fullmatch(scope["path"]) if scope["type"] == "http" else None
        sessions = scope["app"].state_holder if heartbeat else None
        with sessions.open(heartbeat[1]) if heartbeat and isinstance(sessions, Sessions) else nullcontext():
            await self._app(scope, receive, send)


class Messages:
    """The middleware that answers a request for the messages of a session that does not exist, or has just ended.

    Gradio answers it, too, but raises in the middle of the response, which looks like a failure in the log. Reloaded
    pages send such requests, and anybody can send one with a made-up name.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, unless its session does not exist."""
        session = _awaited_session(scope)
        waiting = scope["app"].get_blocks()._queue.pending_messages_per_session if session else {}
        if not session:
            await self._app(scope, receive, send)
        elif session not in waiting:
            line = f"data: {_NOT_FOUND.model_dump_json()}\n\n"
            await Response(line, media_type="text/event-stream")(scope, receive, send)
        else:
            try:
                await self._app(scope, receive, send)
            except Exception:
                if session in waiting:
                    raise
                await send({"type": "http.response.body"})


def _awaited_session(scope: Scope) -> str:
    """Return the session whose messages a request waits for; "" for any other request."""
    if scope["type"] != "http" or not scope["path"].endswith("/gradio_api/queue/data"):
        return ""
    name = QueryParams(scope["query_string"]).get("session_hash", "")
    return name if len(name) <= LONGEST_NAME else ""
