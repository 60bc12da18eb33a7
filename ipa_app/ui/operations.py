"""What an operator needs beside the page: whether it works, its numbers, and an end that leaves nobody alone."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import Any

import gradio as gr
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ipa_app.engine.board import Report
from ipa_app.engine.engine import Engine
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.offered import Models
from ipa_app.ui.blocks import StudioBlocks

_TELLING_S = 5.0
"""How long the last answers may be on their way."""
_FETCHING_S = 3.0
"""How long after that the pictures they name can still be fetched."""
_LOOK_EVERY_S = 0.1


def operator_routes(engine: Engine, *, model: str) -> list[Route]:
    """Return the routes `/healthz` and `/metrics` of an app that draws by an engine.

    Args:
        engine: draws.
        model: the one that the app begins with.
    """

    def healthz(_request: Request) -> Response:
        trouble = engine.trouble or engine.device.trouble or _trouble_with(engine.manager, model)
        replicas = [f"{each.replica} ({each.place}): {_standing(each)}" for each in engine.device.reports()]
        said = [trouble or _loading(engine.manager) or "This process can draw.", *replicas]
        return PlainTextResponse("\n".join(said), status_code=503 if trouble else 200)

    def metrics(_request: Request) -> Response:
        return Response(engine.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return [Route("/healthz", healthz), Route("/metrics", metrics)]


def _trouble_with(models: Models, first: str) -> Message | None:
    """Return why the first model cannot be drawn with, where no other one can be either."""
    if any(models.state(name).phase not in ("absent", "failed") for name in tuple(models.catalog)):
        return None
    try:
        state = models.state(first)
    except UserError as error:  # left out
        return error.message
    return state.message if state.phase == "failed" else None


def _loading(models: Models) -> str:
    """Return what is being brought into memory, where no model is there yet; nothing where there is one."""
    states = {name: models.state(name) for name in tuple(models.catalog)}
    if any(state.phase == "ready" for state in states.values()):
        return ""
    coming = [name for name, state in states.items() if state.phase in ("downloading", "loading")]
    return "".join(f"{models.entry(name).title} is being loaded; requests wait for it." for name in coming[:1])


def _standing(report: Report) -> str:
    """Return what a replica has in memory, or is about to, and how many requests it has."""
    models = [f"{name} {each.phase}" for name, each in report.states.items() if each.phase != "absent"]
    return ", ".join([*models, f"requests: {report.drawing}"])


def serve(page: gr.Blocks, engine: Engine, *, port: int | None, **launch: Any) -> None:
    """Serve a page as Gradio does, which would take the next port where one is taken that somebody named.

    Args:
        page: to be served.
        engine: draws for it; closed where it cannot be served.
        port: None for the first that is free from Gradio's own on.
        launch: what else Gradio's `launch` takes.

    Raises:
        UserError: the port cannot be had, or nothing can listen at the name that somebody gave.
    """
    try:
        page.launch(server_port=port, **launch)
    except (OSError, OverflowError) as error:
        engine.close()
        name = os.environ.get("GRADIO_SERVER_NAME", "")
        if name and (wrong := _wrong_with(name)):
            raise UserError.plain(
                f"GRADIO_SERVER_NAME is {name!r}, which is {wrong}, or 0.0.0.0 for all that it has, or leave "
                "it out to be reached from this machine alone."
            ) from None
        if port is None or not (isinstance(error, OverflowError) or "empty port" in str(error)):
            raise
        raise UserError.plain(
            f"The port {port}, which GRADIO_SERVER_PORT names, cannot be had: please see whether another program has "
            "it, or name another."
        ) from None


def _wrong_with(name: str) -> str:
    """Return what a name or an address is that Gradio cannot listen at; nothing where it is one of this machine's."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_STREAM)
        ours = [(kind, address) for family, kind, _, _, address in found if family == socket.AF_INET]
        if not ours:
            return "one of IPv6, and Gradio listens on IPv4 alone: please name an address of IPv4 of this machine"
        with socket.socket(socket.AF_INET, ours[0][0]) as listening:
            listening.bind(ours[0][1])
    except (OSError, UnicodeError):  # unknown, another machine's, or no name at all
        return "no address of this machine: please name one"
    return ""


def serve_until_told(page: StudioBlocks, engine: Engine, *, limit_s: float) -> None:
    """Wait in the main thread until this process shall end, and end well.

    On SIGTERM nothing more is taken, what waits is told so, and what is being drawn has some time to end. On SIGINT all
    ends at once.

    Args:
        page: is served.
        engine: draws for it; closed in the end.
        limit_s: seconds for what is being drawn.
    """
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    try:
        while page.is_running and not ending.wait(_LOOK_EVERY_S):
            pass
        if ending.is_set():
            engine.finish(limit_s)
            _wait_until_told(page)
    except KeyboardInterrupt:
        engine.finish(0)
    page.close()
    engine.close()


def _wait_until_told(page: StudioBlocks) -> None:
    """Wait until everybody who asked has had an answer."""
    latest = time.monotonic() + _TELLING_S
    while page.is_awaited and time.monotonic() < latest:
        time.sleep(_LOOK_EVERY_S)
    time.sleep(_FETCHING_S)
