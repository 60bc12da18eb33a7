"""What an operator needs besides the page: a health check, metrics, and a graceful shutdown."""

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
"""Seconds for the last responses to arrive."""
_FETCHING_S = 3.0
"""Seconds after that in which their pictures can still be fetched."""
_LOOK_EVERY_S = 0.1


def operator_routes(engine: Engine, *, model: str) -> list[Route]:
    """Return the routes `/healthz` and `/metrics`.

    Args:
        engine: the app's engine.
        model: the model that the app starts with.
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
    """Return why the first model does not work, if no other one works either."""
    if any(models.state(name).phase not in ("absent", "failed") for name in tuple(models.catalog)):
        return None
    try:
        state = models.state(first)
    except UserError as error:  # left out
        return error.message
    return state.message if state.phase == "failed" else None


def _loading(models: Models) -> str:
    """Return which model is being loaded; empty if one is ready."""
    states = {name: models.state(name) for name in tuple(models.catalog)}
    if any(state.phase == "ready" for state in states.values()):
        return ""
    coming = next((name for name, state in states.items() if state.phase in ("downloading", "loading")), None)
    return f"{models.entry(coming).title} is being loaded; requests wait for it." if coming else ""


def _standing(report: Report) -> str:
    """Return the models that a replica has loaded or is loading, and its number of requests."""
    models = [f"{name} {each.phase}" for name, each in report.states.items() if each.phase != "absent"]
    return ", ".join([*models, f"requests: {report.drawing}"])


def serve(page: gr.Blocks, engine: Engine, *, port: int | None, **launch: Any) -> None:
    """Serve a page as Gradio does, but fail, with a sentence, if the requested port is taken.

    Args:
        page: the page to serve.
        engine: the app's engine; closed if the page cannot be served.
        port: the port; None for the first free one from Gradio's default on.
        launch: further arguments of Gradio's `launch`.

    Raises:
        UserError: the port is not available, or GRADIO_SERVER_NAME is not an address of this machine.
    """
    try:
        page.launch(server_port=port, **launch)
    except (OSError, OverflowError) as error:
        engine.close()
        name = os.environ.get("GRADIO_SERVER_NAME", "")
        if name and (wrong := _wrong_with(name)):
            raise UserError.plain(
                f"GRADIO_SERVER_NAME is {name!r}, which is {wrong}, use 0.0.0.0 for all of them, or leave it unset to "
                "accept connections from this computer only."
            ) from None
        if port is None or not (isinstance(error, OverflowError) or "empty port" in str(error)):
            raise
        raise UserError.plain(
            f"Port {port}, set by GRADIO_SERVER_PORT, is not available: please check whether another program uses it, "
            "or choose another port."
        ) from None


def _wrong_with(name: str) -> str:
    """Return why Gradio cannot listen on a name or an address; empty if it can."""
    try:
        found = socket.getaddrinfo(name.strip("[]"), 0, type=socket.SOCK_STREAM)
        ours = [(kind, address) for family, kind, _, _, address in found if family == socket.AF_INET]
        if not ours:
            return "an IPv6 address, but Gradio listens on IPv4 only: please name an IPv4 address of this computer"
        with socket.socket(socket.AF_INET, ours[0][0]) as listening:
            listening.bind(ours[0][1])
    except (OSError, UnicodeError):  # unknown, another machine's, or no name at all
        return "not an address of this computer: please name one"
    return ""


def serve_until_told(page: StudioBlocks, engine: Engine, *, limit_s: float) -> None:
    """Wait in the main thread until this process is told to end, and shut down gracefully.

    On SIGTERM no more requests are accepted, waiting ones are refused with a sentence, and those being drawn get some
    time to finish. On SIGINT everything ends at once.

    Args:
        page: the served page.
        engine: the app's engine; closed in the end.
        limit_s: seconds for the requests being drawn.
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
    """Wait until all pending responses have been delivered, `_TELLING_S` at most, and their pictures fetched."""
    latest = time.monotonic() + _TELLING_S
    while page.is_awaited and time.monotonic() < latest:
        time.sleep(_LOOK_EVERY_S)
    time.sleep(_FETCHING_S)
