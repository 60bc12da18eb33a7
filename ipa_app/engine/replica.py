"""A replica of Ray Serve: one device with the studio's own manager and engine, which draws what a front end sends.

A Serve configuration names `build`. Source: docs.ray.io/en/latest/serve (streaming responses, model multiplexing,
health checks).
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

import psutil
import ray  # pyright: ignore[reportMissingImports]
from ray import serve  # pyright: ignore[reportMissingImports]

from ipa_app.engine.board import Board, Report, Wish
from ipa_app.engine.cluster_settings import ClusterSettings
from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.metrics import device_memory
from ipa_app.engine.remote import Refusal, or_refusal
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.adapter_set import ADAPTERS_VARIABLE, AdapterSet
from ipa_app.models.catalog import catalog
from ipa_app.models.entry import AdapterEntry
from ipa_app.models.manager import ModelManager
from ipa_app.runtime import compile_backend, device_name, is_on, limit_malloc_arenas, written_whole, yield_to_others

logger = logging.getLogger(__name__)

APPLICATION = "ipa-studio"
_REPORT_EVERY_S = 1.0
_TELL_EVERY_S = 0.4
"""Reporting every single step would cost the front end as much CPU time as half a step of the bundled model."""


@dataclass(frozen=True)
class Begun:
    """A replica has taken a request.

    Attributes:
        replica: the name of its actor, in the namespace "serve".
    """

    replica: str


@dataclass(frozen=True, kw_only=True)
class Brought:
    """An adapter that replicas do not have by themselves; its file is sent once to each.

    Attributes:
        entry: what requests know of it; its path is the sender's.
        sha256: of its file.
        content: reference to the bytes of the file.
    """

    entry: AdapterEntry
    sha256: str
    content: ray.ObjectRef


def board() -> Any:
    """Return the one board of the cluster; start it if there is none yet."""
    actor = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board)
    return actor.options(name="board", namespace=APPLICATION, lifetime="detached", get_if_exists=True).remote()


def listen_on_loopback() -> None:
    """Bind the port that Serve opens in this process for other deployments to 127.0.0.1; nothing here uses it.

    Ray itself keeps to its own address; Serve opens that port on all addresses (ray 2.60, serve/_private/replica.py,
    `_on_initialized`), and runs what it is sent there.
    """
    from ray.serve._private import replica  # pyright: ignore[reportMissingImports]

    add_port = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]", "127.0.0.1"))


class Replica:
    """One device of a cluster."""

    def __init__(self) -> None:
        """Start without a loaded model; the settings are this process's environment variables."""
        limit_malloc_arenas()
        self._brought = tempfile.TemporaryDirectory(prefix="ipa-adapters-")
        if ray.util.get_node_ip_address() == "127.0.0.1":
            listen_on_loopback()
        self._manager = ModelManager(
            catalog(),
            device_name(os.environ),
            exact=is_on(os.environ, "IPA_EXACT"),
            compile_backend=compile_backend(os.environ),
            adapters=AdapterSet(os.environ.get(ADAPTERS_VARIABLE, "")),
        )
        if self._manager.device == "cpu":
            # Drawing takes all of a core; the front end and Ray need little of one, but without delay.
            yield_to_others()
        self._settings = ClusterSettings.from_environment(os.environ)
        self._engine = Engine(self._manager, batch_limit=self._settings.batch or None)
        self._name = ray.get_runtime_context().get_actor_name() or ""
        self._adopting = asyncio.Lock()
        # When each job last sent an event.
        self._heard: dict[Job, float] = {}
        self._drawn = 0
        self._reporter = asyncio.get_running_loop().create_task(self._report())

    async def draw(
        self, request: GenerateRequest, *, brought: Brought | None, previews: bool
    ) -> AsyncIterator[Begun | Progress | GenerateResult | Refusal]:
        """Carry out a request: yield this replica's name, all progress as it comes, and the result or a refusal.

        Cancelling stops the drawing at its next step.

        Args:
            request: with a definite seed.
            brought: the adapter it asks for, if that is not one of the replica's own.
            previews: whether the progress includes previews of the pictures.
        """
        yield Begun(self._name)
        try:
            if brought is not None:
                request = replace(request, adapter=await self._adopt(brought))
            job = self._engine.submit(request, previews=previews)
        except UserError as error:
            yield Refusal(error.message)
            return
        self._heard[job] = time.monotonic()
        events = or_refusal(job.events(newest=True, rest_s=_TELL_EVERY_S))
        try:
            while (event := await asyncio.to_thread(_following, events)) is not None:
                self._heard[job] = time.monotonic()
                if isinstance(event, GenerateResult):
                    self._drawn += 1
                if not (isinstance(event, Progress) and event.phase == "queued"):  # the front end reports the queue
                    yield event
        finally:
            # Does nothing to a finished job; otherwise it stops at the next step.
            job.cancel()

    def check_health(self) -> None:
        """Have Serve kill this process and start another if drawing is stuck.

        Raises:
            RuntimeError: it is stuck, or the engine draws no more.
        """
        self._heard = {job: heard for job, heard in self._heard.items() if not job.done}
        # If several are drawn, one may wait for long while another makes progress.
        if max(self._heard.values(), default=inf) < time.monotonic() - self._settings.patience:
            raise RuntimeError(f"Nothing has been heard of any request for {self._settings.patience} s.")
        if self._engine.trouble:
            raise RuntimeError(self._engine.trouble)

    def __del__(self) -> None:
        """Remove the temporary files; Serve calls this before it ends the process."""
        self._brought.cleanup()

    @serve.multiplexed(max_num_models_per_replica=1)
    async def warm(self, name: str) -> str:
        """Let Serve know that a model is in memory here, replacing the previous one; requests for it are sent here."""
        return name

    async def _adopt(self, brought: Brought) -> str:
        """Add an adapter to the replica's own, and return the key by which it is requested here."""
        file = Path(self._brought.name) / f"{brought.sha256}{brought.entry.file.suffix.lower()}"
        async with self._adopting:
            if not file.is_file():
                content: bytes = await brought.content
                with written_whole(file) as part:
                    await asyncio.to_thread(part.write_bytes, content)
        return self._manager.adapters.adopt(replace(brought.entry, file=file), sha256=brought.sha256)

    async def _report(self) -> None:
        """Report to the board for as long as this process lives, and carry out its wishes."""
        there, seen = board(), None
        while True:
            try:
                seen, wishes = await there.report.remote(self._state(), seen)
                for wish in wishes:
                    self._do(wish)
                for name, state in self._manager.states().items():
                    if state.phase == "ready":
                        await self.warm(name)  # pyright: ignore[reportCallIssue]
            except Exception:
                logger.exception("The board of the cluster could not be told how this replica is.")
            await asyncio.sleep(_REPORT_EVERY_S)

    def _state(self) -> Report:
        states = self._manager.states()
        return Report(
            replica=self._name,
            place=f"{ray.util.get_node_ip_address()}, process {os.getpid()}",
            states=states,
            to_download=frozenset(name for name in self._manager.catalog if self._manager.needs_download(name)),
            drawing=sum(not job.done for job in self._heard),
            drawn=self._drawn,
            memory=psutil.Process().memory_info().rss,
            device_memory=device_memory(),
        )

    def _do(self, wish: Wish) -> None:
        """Carry out a wish; what goes wrong shows in the model's state, or when the model is requested."""
        actions = {"start": self._manager.start, "download": self._manager.download, "cancel": self._manager.cancel}
        try:
            actions[wish.action](wish.model)
        except UserError as error:
            logger.warning("%s: %s", wish.model, error)


def _following(events: Iterator[Any]) -> Any:
    """Return the next event; None after the last, or when the job has been stopped."""
    try:
        return next(events, None)
    except Cancelled:
        return None


def application(**options: Any) -> serve.Application:
    """Return the replicas, to be run by Serve.

    Args:
        options: of Serve's deployment; one replica by default.
    """
    usual = {
        # More would wait at this replica even if another one were idle.
        "max_ongoing_requests": ClusterSettings.from_environment(os.environ).requests_at_once,
        "logging_config": {"enable_access_log": False},
    }
    return serve.deployment(Replica).options(**usual, **options).bind()


def build(_arguments: dict[str, str]) -> serve.Application:
    """Return the replicas for a Serve configuration, which sets the options itself."""
    return application()
