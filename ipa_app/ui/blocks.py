"""Gradio's Blocks, with sentences for errors before and after a handler, and knowledge of who still waits for a result.

Gradio checks what was sent before it calls a handler, and writes files for what the handler returns. Errors there would
reach programs as `{"error": null}`, and the page not at all.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import anyio.from_thread
import gradio as gr
from fastapi import Depends, Request
from gradio.block_function import BlockFunction
from gradio.data_classes import BlocksConfigDict
from gradio.queueing import Event
from gradio.state_holder import SessionState
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.ui.addresses import Fetching
from ipa_app.ui.allowance import Allowance, Spend, set_spend
from ipa_app.ui.calls import Awaited, Endpoint, checked_values, set_arrived, set_awaited
from ipa_app.ui.compression import Compression, assets_route
from ipa_app.ui.failures import explained
from ipa_app.ui.gate import Gate, is_for_itself
from ipa_app.ui.page_cache import PageCache
from ipa_app.ui.responses import Responses, find_by_name
from ipa_app.ui.sessions import MOST_SESSIONS, Messages, OpenPages, Sessions, check_names
from ipa_app.ui.tools import CALL_HEADER, ToolCalls
from ipa_app.ui.uploads import check_files, keep_uploads_apart, paths_in

logger = logging.getLogger(__name__)

_SCHEMAS = ("api_info_as_input", "api_info_as_output")
_HEAD = f"<script>{{{Path(__file__).with_name('storage.js').read_text(encoding='utf-8')}}}</script>"
_LOOK_EVERY_S = 0.01
"""Interval of looking for new calls. Gradio's own, a millisecond, takes 2 % of a core for an idle page."""
_TELL_EVERY_S = 0.1
"""Interval of sending progress; Gradio's own is a hundredth of a second."""
_WRONG = (AttributeError, LookupError, TypeError, ValueError)
"""What Gradio's components raise for values that no page of theirs sends."""


class StudioBlocks(gr.Blocks):
    """The page and the API over it.

    Attributes:
        files_of_session: the state that holds the set of a session's files, for sessions whose files are recorded.
    """

    files_of_session: gr.State | None = None
    _tool_calls: ToolCalls | None = None
    _allowance: Allowance | None = None

    @cached_property
    def _fetching(self) -> Fetching:
        return Fetching()

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The public endpoints by name."""
        functions = (function for function in self.fns.values() if _is_public(function))
        return {str(function.api_name): function.fn for function in functions if function.fn is not None}

    def queue(self, *args: Any, **kwargs: Any) -> Any:
        """Set up Gradio's queue, with less frequent polling for calls and their progress."""
        queued = super().queue(*args, **kwargs)
        self._queue.sleep_when_free = max(self._queue.sleep_when_free, _LOOK_EVERY_S)
        self._queue.progress_update_sleep_when_free = _TELL_EVERY_S
        return queued

    def launch(self, *args: Any, app_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Serve the page as Gradio does; calls that reach no handler are answered with a sentence, too."""
        self._allowance = Allowance.from_environment(os.environ)
        ours = {
            "middleware": [
                Middleware(Gate, environment=os.environ, allowance=self._allowance),
                Middleware(OpenPages),
                Middleware(Messages),
                Middleware(PageCache),
                Middleware(Compression, compresslevel=6),
            ],
            "exception_handlers": Responses(self.endpoints).handlers,
            "dependencies": [Depends(check_names), Depends(self._check_event)],
        }
        given = app_kwargs or {}
        ours |= given | {"routes": [assets_route(), *given.get("routes", ())]}
        usual = {"state_session_capacity": MOST_SESSIONS, "head": _HEAD}
        keep_uploads_apart()
        find_by_name()
        launched = super().launch(*args, app_kwargs=ours, **{**usual, **kwargs})
        Sessions.take_over(self.app, self)
        if self.mcp_server_obj is not None:
            self._tool_calls = ToolCalls(self.mcp_server_obj, self.endpoints, spend=self._spend_of)
        return launched

    def get_config_file(self) -> BlocksConfigDict:
        """Return Gradio's description of the page, without the schemas that nobody reads.

        Only the API's documentation is made from schemas: they are left out for components of no public endpoint, and
        where two are the same, one is. Where no progress is shown, none is sent to any component.
        """
        config = super().get_config_file()
        for function in config.get("dependencies", ()):
            if function["show_progress"] == "hidden":
                # To show progress, Gradio's page asks components for their values at each message; an editor would
                # upload its pictures each time.
                function["show_progress_on"] = []
        public = [function for function in self.fns.values() if _is_public(function)]
        documented = {block._id for function in public for block in (*function.inputs, *function.outputs)}
        for component in config["components"]:
            schema = component.get("api_info")
            for name in _SCHEMAS:
                if component["id"] not in documented or component.get(name) == schema:
                    component.pop(name, None)
            component.pop("example_inputs", None)
            if component["id"] not in documented:
                component.pop("api_info", None)
        return config

    async def _check_event(self, request: Request) -> None:
        """Refuse to wait for a call that does not exist: Gradio would break off its response."""
        event = request.path_params.get("event_id")
        if event is not None and request.method == "GET" and not self._knows(event):
            raise HTTPException(404, f"There is no call {event!r} to wait for: it is over, or it was given up.")

    def _knows(self, name: str) -> bool:
        """Whether the result of a call may still be fetched; that of a disconnected client may not."""
        queue = self._queue
        event = queue.event_ids_to_events.get(name)
        if event is not None:
            return event.alive and event.session_hash in queue.pending_messages_per_session
        sessions = (session for session, events in queue.pending_event_ids_session.items() if name in events)
        return any(session in queue.pending_messages_per_session for session in sessions)

    @property
    def is_awaited(self) -> bool:
        """Whether any result is on its way or may still be fetched, disconnected clients aside."""
        pending = list(self._queue.pending_event_ids_session.values())
        return any(self._knows(name) for names in pending for name in tuple(names))

    def _forget(self, event: Event) -> None:
        """Forget a finished call that was given up, and all results that nobody can fetch: Gradio would keep them."""
        queue = self._queue
        pending = queue.pending_event_ids_session
        for session, events in list(pending.items()):
            if session == event.session_hash and not event.alive:
                events.discard(event._id)
            if session not in queue.pending_messages_per_session:
                events.intersection_update(queue.event_ids_to_events)
            if not events:
                del pending[session]

    async def process_api(self, block_fn: BlockFunction | int, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Call a handler as Gradio does. It can ask whether its caller still waits; errors become sentences."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        event, request = kwargs.get("event_id"), kwargs.get("request")
        if event:
            self._take_over(event)
        set_arrived(time.monotonic())
        set_awaited(self._awaited(event, request))
        set_spend(self._spend(request))
        with explained(to_program=_is_public(function)):
            # What happened comes as an object, as the page sends it; without one, no handler could be called.
            if function.collects_event_data and not isinstance(getattr(kwargs.get("event_data"), "_data", None), dict):
                raise _not_understood(function)
            return await super().process_api(block_fn, *args, **kwargs)

    def _take_over(self, name: str) -> None:
        """Rename the asyncio task that runs a queued call, and clean up when it ends; called for each result."""
        task, event = asyncio.current_task(), self._queue.event_ids_to_events.get(name)
        if event is None or task is None or task.get_name() == name:
            return
        # Gradio cancels by task name, which would end all of a client's calls of this endpoint when one is cancelled.
        task.set_name(name)
        task.add_done_callback(lambda _: self._forget(event))

    def _awaited(self, event: str | None, request: Any) -> Awaited:
        if event:
            calls = self._tool_calls
            tool_call = request.headers.get(CALL_HEADER) if calls else None
            return lambda: self._awaits(event) and not (calls and tool_call and calls.is_left(tool_call))
        direct = getattr(request, "request", None)
        if isinstance(direct, Request):
            return lambda: not anyio.from_thread.run(direct.is_disconnected)
        return lambda: True

    def _spend(self, request: Any) -> Spend:
        """Return the function that counts files fetched for a call towards the upload allowance of its caller."""
        if request is None:
            return lambda _: None
        calls, client = self._tool_calls, request.client
        caller = calls and calls.caller(request.headers.get(CALL_HEADER, ""))
        return self._spend_of(caller or (client.host if client else ""))

    def _spend_of(self, address: str) -> Spend:
        if self._allowance is None or is_for_itself(self):
            return lambda _: None
        return partial(self._allowance.spend, address)

    def _awaits(self, event_id: str) -> bool:
        """Whether the sender of a queued event still waits for it; if not, nothing more is sent."""
        event = self._queue.event_ids_to_events.get(event_id)
        if event is None:
            return False
        # When a client cancels, Gradio ends its call at once, and takes it off this list.
        pending = self._queue.pending_event_ids_session.get(event.session_hash, ())
        event.alive = event.alive and event_id in pending
        return event.alive

    def _note_files(self, state: SessionState | None, values: Sequence[Any]) -> None:
        # A plain lookup would create a state, and sessions without states are the first to be evicted.
        files = state.get(self.files_of_session._id) if state and self.files_of_session else None
        if files is not None:
            files.update(paths_in(values))

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: Any, state: SessionState | None
    ) -> list[Any]:
        """Postprocess what a handler returns as Gradio does, and record its files."""
        shown = await super().postprocess_data(block_fn, predictions, state)
        self._note_files(state, shown)
        return shown

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: Sequence[Any], state: SessionState | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Check what was sent and record its files, then preprocess it as Gradio does.

        Raises:
            UserError: a value is refused, and why; or values fit no component of the page.
        """
        sent, names = list(inputs), [Message("upload.image")] * len(inputs)
        if _is_public(block_fn):
            sent = checked_values(block_fn.fn, sent)  # type: ignore[arg-type]
            names = block_fn.input_parameter_names
            for place, name in enumerate(names[: len(sent)]):
                sent[place] = await self._fetching.brought(sent[place], field=name or "")
        for name, value in zip(names, sent, strict=False):
            check_files(value, field=name or "")
        self._note_files(state, sent)
        try:
            return await super().preprocess_data(block_fn, sent, state, *args, **kwargs)
        except _WRONG as error:
            if _is_public(block_fn):  # whose values are checked above
                raise
            raise _not_understood(block_fn, error) from error


def _is_public(function: BlockFunction) -> bool:
    return function.api_visibility == "public"


def _not_understood(function: BlockFunction, error: Exception | None = None) -> UserError:
    """Return the error for what somebody sent that no handler can take; one line in the log says so."""
    why = type(error).__name__ if error else "nothing is said of what happened"
    logger.warning("A call of %s is not understood: %s", function.name, why)
    return UserError("page.not_understood")
