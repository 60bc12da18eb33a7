"""Gradio's Blocks, saying in words whatever goes wrong before and after a handler, and who still waits for a result.

Gradio checks what was sent before it calls a handler, and writes what it returns afterwards; what fails there reaches
programs as `{"error": null}` and the page as nothing.
"""

from __future__ import annotations

import asyncio
import os
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

from ipa_app.messages import Message
from ipa_app.ui.addresses import Fetching
from ipa_app.ui.allowance import Allowance, Spend, set_spend
from ipa_app.ui.calls import Awaited, Endpoint, checked_values, set_awaited
from ipa_app.ui.compression import Compression, assets_route
from ipa_app.ui.failures import explained
from ipa_app.ui.gate import Gate, is_for_itself
from ipa_app.ui.page_cache import PageCache
from ipa_app.ui.responses import Responses, find_by_name
from ipa_app.ui.sessions import MOST_SESSIONS, Messages, OpenPages, Sessions, check_names
from ipa_app.ui.tools import CALL_HEADER, ToolCalls
from ipa_app.ui.uploads import check_files, keep_uploads_apart, paths_in

_SCHEMAS = ("api_info_as_input", "api_info_as_output")
_HEAD = f"<script>{{{Path(__file__).with_name('storage.js').read_text(encoding='utf-8')}}}</script>"
_LOOK_EVERY_S = 0.01
"""Gradio itself looks for new calls a thousand times a second: an idle page takes a fiftieth of a core."""
_TELL_EVERY_S = 0.1
"""For progress to be told; Gradio itself looks for it a hundred times a second."""


class StudioBlocks(gr.Blocks):
    """The page and the API over it.

    Attributes:
        files_of_session: the state that has a set for the files of each session whose files are to be known.
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
        """Have calls wait for one another as Gradio does, and look for them, and for their progress, less often."""
        queued = super().queue(*args, **kwargs)
        self._queue.sleep_when_free = max(self._queue.sleep_when_free, _LOOK_EVERY_S)
        self._queue.progress_update_sleep_when_free = _TELL_EVERY_S
        return queued

    def launch(self, *args: Any, app_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> Any:
        """Serve the page as Gradio does; calls that reach no handler are answered in words, too."""
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
        """Describe the page as Gradio does, but for schemas that nobody reads: the API's documentation is made of them.

        Of a component that no public endpoint has they are left out, and where they say the same twice, once. Where no
        progress is shown, none is told to any component.
        """
        config = super().get_config_file()
        for function in config.get("dependencies", ()):
            if function["show_progress"] == "hidden":
                # To say how far something is, Gradio's page asks components for all that they hold: an editor for its
                # pictures, which it uploads, at each of these messages.
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
        """Refuse to wait for a call that there is not: Gradio would break off its answer."""
        event = request.path_params.get("event_id")
        if event is not None and request.method == "GET" and not self._knows(event):
            raise HTTPException(404, f"There is no call {event!r} to wait for: it is over, or it was given up.")

    def _knows(self, name: str) -> bool:
        """Whether somebody may still fetch the result of a call; who has hung up has nothing to fetch it from."""
        queue = self._queue
        event = queue.event_ids_to_events.get(name)
        if event is not None:
            return event.alive and event.session_hash in queue.pending_messages_per_session
        sessions = (session for session, events in queue.pending_event_ids_session.items() if name in events)
        return any(session in queue.pending_messages_per_session for session in sessions)

    @property
    def is_awaited(self) -> bool:
        """Whether an answer is on its way, or may be fetched: not by those who have hung up."""
        pending = list(self._queue.pending_event_ids_session.values())
        return any(self._knows(name) for names in pending for name in tuple(names))

    def _forget(self, event: Event) -> None:
        """Forget a call that is over and was given up, and whatever else nobody can fetch: Gradio would keep it all."""
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
        """Call a handler as Gradio does. It can know who still waits, and whatever goes wrong is said in words."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        event, request = kwargs.get("event_id"), kwargs.get("request")
        if event:
            self._take_over(event)
        set_awaited(self._awaited(event, request))
        set_spend(self._spend(request))
        with explained(to_program=_is_public(function)):
            return await super().process_api(block_fn, *args, **kwargs)

    def _take_over(self, name: str) -> None:
        """Take over the task that carries out a call of the queue, which comes here for each of its results."""
        task, event = asyncio.current_task(), self._queue.event_ids_to_events.get(name)
        if event is None or task is None or task.get_name() == name:
            return
        # By tasks' names Gradio would end all calls that a client has of this endpoint when one is cancelled.
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
        """Return what counts what is fetched for the sender of a call, as what they upload is counted."""
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
        """Whether the sender of an event of the queue still waits for it; one who does not hears no more of it."""
        event = self._queue.event_ids_to_events.get(event_id)
        if event is None:
            return False
        # Gradio tells a client that cancels at once that its call is over, and takes it off this list.
        pending = self._queue.pending_event_ids_session.get(event.session_hash, ())
        event.alive = event.alive and event_id in pending
        return event.alive

    def _note_files(self, state: SessionState | None, values: Sequence[Any]) -> None:
        # Not by looking it up, which would begin a state: a session without any goes before all others.
        files = state.get(self.files_of_session._id) if state and self.files_of_session else None
        if files is not None:
            files.update(paths_in(values))

    async def postprocess_data(
        self, block_fn: BlockFunction, predictions: Any, state: SessionState | None
    ) -> list[Any]:
        """Write what a handler returns as Gradio does, and note the files in it."""
        shown = await super().postprocess_data(block_fn, predictions, state)
        self._note_files(state, shown)
        return shown

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: Sequence[Any], state: SessionState | None, *args: Any, **kwargs: Any
    ) -> Any:
        """Check what was sent, and note the files in it, then take it as Gradio does.

        Raises:
            UserError: it cannot be taken, and why.
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
        return await super().preprocess_data(block_fn, sent, state, *args, **kwargs)


def _is_public(function: BlockFunction) -> bool:
    return function.api_visibility == "public"
