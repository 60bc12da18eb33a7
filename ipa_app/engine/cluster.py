"""The front-end side of a cluster: the engine's device is the replicas of Ray Serve, called through a handle.

The page, the queue and the library stay in this process. A request goes to a replica that has its model, or else to
any; progress and previews stream back. If a replica dies, another takes over its unfinished requests: seeds make a
picture repeatable. Source: docs.ray.io/en/latest/serve; statements about Ray hold for version 2.60.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray  # pyright: ignore[reportMissingImports]
from ray import exceptions, serve  # pyright: ignore[reportMissingImports]

from ipa_app.engine.board import Action, Report
from ipa_app.engine.cluster_settings import CLUSTER_VARIABLE, ClusterSettings
from ipa_app.engine.engine import Engine
from ipa_app.engine.queue import Limits
from ipa_app.engine.remote import Events, Refusal, RemoteDevice
from ipa_app.engine.replica import APPLICATION, Begun, Brought, application, board
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.adapters import file_stamp
from ipa_app.models.entry import AdapterEntry, ModelEntry, adapter_gone
from ipa_app.models.hashing import file_hash
from ipa_app.models.offered import Models
from ipa_app.models.state import ModelPhase, ModelState

logger = logging.getLogger(__name__)

MOST_AGAIN = 2
"""How often a request is retried after its replica has died."""

_MOST_BEGINNINGS = 3
_LOOK_EVERY_S = 0.1
_REFRESH_EVERY_S = 1.0
_ANSWER_S = 10.0
# How long it may take until the replicas have received a wish and reported on it.
_WISHED_S = 5.0
_MOST_SENT = 8
_BEST_FIRST: tuple[ModelPhase, ...] = ("ready", "downloading", "loading", "failed", "absent")
_LOST = (
    exceptions.RayActorError,
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    # Raised when Ray's memory monitor kills a replica, before the operating system does.
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,
)


class ReplicaLost(Exception):  # noqa: N818 - happens to the replica, and is not an error of the request
    """A replica has died, or had to be killed, before it was done."""


class ClusterModels(Models):
    """The models of all replicas, according to their reports. Replicas have the files and share this catalogue."""

    def __init__(self, catalog: Mapping[str, ModelEntry], *, adapters: AdapterSet) -> None:
        """Start listening for reports.

        Args:
            catalog: as for `Models`.
            adapters: as for `Models`.
        """
        super().__init__(catalog, adapters=adapters)
        self.reports: Sequence[Report] = ()
        self._board = board()
        self._wished: dict[str, float] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="cluster", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._closed.set()
        self._thread.join(_ANSWER_S)

    def state(self, name: str) -> ModelState:
        """Return the state of a model on the replica that is furthest with it; see `Models`."""
        self.entry(name)
        states = [report.states[name] for report in self.reports if name in report.states]
        best = min(states, key=lambda each: (_BEST_FIRST.index(each.phase), -each.progress), default=ModelState())
        if best.phase in ("absent", "failed") and time.monotonic() - self._wished.get(name, -_WISHED_S) < _WISHED_S:
            return ModelState(phase="loading", message=Message("doing.waiting_to_load"))
        return best

    def needs_download(self, name: str) -> bool:
        """Whether a replica has to download a model first; see `Models`."""
        self.entry(name)
        return any(name in report.to_download for report in self.reports)

    def start(self, name: str) -> None:
        """Have a model loaded by the replicas that have none, or else by one of the others; see `Models`."""
        if self.state(name).phase not in ("loading", "ready", "downloading"):
            self.check_available(name)
            self._wish("start", name)

    def download(self, name: str) -> None:
        """Have every replica download a model; see `Models`."""
        self.entry(name)
        self._wish("download", name)

    def cancel(self, name: str) -> None:
        """Stop the downloads of a model; see `Models`."""
        self.entry(name)
        self._wished.pop(name, None)
        self._board.wish.remote("cancel", name)

    def _wish(self, action: Action, name: str) -> None:
        """Send a wish to the board without waiting: a board that is still starting receives it later."""
        self._wished[name] = time.monotonic()
        self._board.wish.remote(action, name)

    def _listen(self) -> None:
        while not self._closed.wait(_REFRESH_EVERY_S):
            try:
                self.reports = ray.get(self._board.reports.remote(), timeout=_ANSWER_S)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with the cluster, it may come back
                logger.warning("The state of the cluster's replicas is unknown: %s", error)
                self.reports = ()


class ClusterDraw:
    """Has requests drawn by the replicas; a `RemoteDraw`."""

    def __init__(self, models: ClusterModels, handle: Any, *, patience: float) -> None:
        """Draw through a handle.

        Args:
            models: of the replicas.
            handle: of their deployment.
            patience: seconds that a replica may be silent on a request that it draws.
        """
        self._models = models
        self._handle = handle
        self._patience = patience
        self._sent: dict[tuple[str, tuple[int, int]], tuple[str, Any]] = {}
        self._sending = threading.Lock()

    def __call__(self, request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        """Draw a request, again if a replica dies meanwhile; the result then has a note on it.

        Raises:
            UserError: too many replicas died, or the adapter's file is gone.
        """
        yield Progress(phase="loading", message=Message("doing.waiting_for_device"))
        brought = self._brought(request, adapter) if adapter else None
        for attempt in range(MOST_AGAIN + 1):
            try:
                for event in self._attempt(request, brought=brought, previews=previews):
                    yield _with_note(event) if attempt and isinstance(event, GenerateResult) else event
                return
            except ReplicaLost as lost:
                logger.warning("A replica stopped while it was drawing (%s).", lost)
                yield Progress(phase="loading", message=Message("doing.drawn_anew"))
        raise UserError("cluster.given_up")

    def _attempt(self, request: GenerateRequest, *, brought: Brought | None, previews: bool) -> Events:
        """Have a request drawn by one replica.

        Raises:
            ReplicaLost: the replica is gone.
        """
        # Ray sends a request for a model that no replica has to any of them, after a second.
        handle = self._handle.options(stream=True, multiplexed_model_id=request.model)
        answers = handle.draw.remote(request, brought=brought, previews=previews)
        came: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # The stream cannot be read with a timeout.
        threading.Thread(target=_read, args=(answers, came), name="cluster answers", daemon=True).start()
        replica, heard = "", None
        try:
            while True:
                try:
                    event = came.get(timeout=_LOOK_EVERY_S)
                except queue.Empty:
                    if heard is not None and time.monotonic() - heard > self._patience:
                        _end(replica)
                    yield None
                    continue
                if isinstance(event, _LOST):
                    raise ReplicaLost(replica) from event
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, Begun):
                    # If the replica draws several requests, this one may have to wait there: patience starts later.
                    replica = event.replica
                    continue
                heard = time.monotonic()
                yield event
                if isinstance(event, GenerateResult | Refusal):
                    return
        finally:
            answers.cancel()

    def _brought(self, request: GenerateRequest, adapter: AdapterEntry) -> Brought | None:
        """Return an adapter to send along; None if the model brings it, as every replica then has it.

        Raises:
            UserError: its file is gone.
        """
        own = self._models.catalog[request.model].adapters.values()
        if any(each.file == adapter.file for each in own):
            return None
        if not adapter.file.is_file():
            raise adapter_gone(adapter.name)
        key = str(adapter.file), file_stamp(adapter.file)
        with self._sending:
            if key not in self._sent:
                self._sent[key] = file_hash(adapter.file), ray.put(adapter.file.read_bytes())
                self._sent = dict(list(self._sent.items())[-_MOST_SENT:])
            sha256, content = self._sent[key]
        return Brought(entry=adapter, sha256=sha256, content=content)


class ClusterDevice(RemoteDevice):
    """The replicas of a cluster as an engine's device."""

    def __init__(self, draw: ClusterDraw, models: ClusterModels, *, places: int, is_own: bool) -> None:
        """Draw on replicas.

        Args:
            draw: sends requests to them.
            models: of the replicas.
            places: as for `Device`.
            is_own: whether this process started the cluster, which then ends with it.
        """
        super().__init__(draw, places=places, offers_live=True)
        self._models = models
        self._is_own = is_own

    @property
    def trouble(self) -> Message | None:
        """Why nothing can be drawn just now (there is no replica); None while there is one."""
        return None if self._models.reports else Message("cluster.no_replica")

    def reports(self) -> Sequence[Report]:
        """Return the reports of all replicas."""
        return self._models.reports

    def close(self) -> None:
        """Leave the cluster, and shut it down if it is this process's own."""
        self._models.close()
        if self._is_own:
            serve.shutdown()
        ray.shutdown()


def build_cluster_engine(
    catalog: Mapping[str, ModelEntry], *, settings: ClusterSettings, adapters: AdapterSet, limits: Limits | None = None
) -> Engine:
    """Build an engine that draws on a cluster, which is started here, or joined if it runs elsewhere.

    Args:
        catalog: the models that may be requested; the replicas have the same.
        settings: of the cluster.
        adapters: those that belong to no model.
        limits: how much may wait.

    Raises:
        UserError: there is no cluster at the address.
    """
    _connect(settings)
    handle, replicas = _replicas(settings)
    models = ClusterModels(catalog, adapters=adapters)
    draw = ClusterDraw(models, handle, patience=settings.patience)
    device = ClusterDevice(draw, models, places=replicas * settings.requests_at_once, is_own=settings.is_local)
    return Engine(models, limits=limits, device=device)


def _connect(settings: ClusterSettings) -> None:
    if settings.is_local:
        cores = max(os.cpu_count() or 1, settings.threads * (settings.replicas or 1))
        _begin(num_cpus=cores, include_dashboard=False)
    else:
        _join(settings.address)
    # Serve needs no HTTP proxy: the page is served from here. If Serve runs already, it stays as it is.
    serve.start(proxy_location="Disabled")


def _join(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        if host and port.isdigit() and "/" not in host:
            # Checked first, as Ray itself would try for minutes.
            socket.create_connection((host, int(port)), timeout=_ANSWER_S).close()
        ray.init(address=address, namespace=APPLICATION)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError.plain(
            f"{CLUSTER_VARIABLE} is {address!r}, but no Ray cluster can be joined there from this computer ({error}): "
            f"please start one, join it with `ray start --address=...`, or set {CLUSTER_VARIABLE}=local."
        ) from error


def _begin(**options: Any) -> None:
    """Start a cluster here. Ray gives its processes half a minute to come up; a busy machine may need another try."""
    for left in reversed(range(_MOST_BEGINNINGS)):
        try:
            ray.init(address="local", namespace=APPLICATION, **options)
            return
        except Exception as error:  # Ray has no class for it
            ray.shutdown()
            if not left:
                raise
            logger.warning("Ray did not start, and is started again: %s", error)


def _replicas(settings: ClusterSettings) -> tuple[Any, int]:
    """Return the handle of the replicas and how many there are; start them if the cluster has none yet."""
    if (running := _running()) is not None:
        return serve.get_app_handle(APPLICATION), settings.replicas or max(1, running)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    count = settings.replicas or max(1, gpus)
    logger.info("Starting %d replicas.", count)
    app = application(num_replicas=count, ray_actor_options=settings.share(count, gpus=gpus))
    return serve.run(app, name=APPLICATION, route_prefix=None), count


def _running() -> int | None:
    """Return how many replicas the cluster has, or is about to have; None if none were requested.

    Raises:
        UserError: they were requested and could not be started.
    """
    while (asked := serve.status().applications.get(APPLICATION)) is not None:
        if asked.deployments:
            return sum(sum(each.replica_states.values()) for each in asked.deployments.values())
        # An application just handed to Serve has no deployments until its code is read.
        if asked.status == "DEPLOY_FAILED":
            raise UserError.plain(f"Ray Serve could not start the replicas: {asked.message}")
        time.sleep(_LOOK_EVERY_S)
    return None


def _read(answers: Any, came: queue.SimpleQueue[Any]) -> None:
    """Put the events of a stream into a queue, and at last the error that it ends with, if any."""
    try:
        for event in answers:
            came.put(event)
        came.put(ReplicaLost("it stopped without a result"))
    except BaseException as error:  # noqa: BLE001 - it is raised where the events are read
        came.put(error)


def _end(replica: str) -> None:
    """Kill a replica that is stuck; Serve starts another.

    Raises:
        ReplicaLost: in any case.
    """
    with suppress(ValueError):  # it may have died meanwhile
        ray.kill(ray.get_actor(replica, namespace="serve"))
    raise ReplicaLost(f"{replica} was stuck, and was ended")


def _with_note(result: GenerateResult) -> GenerateResult:
    return replace(result, notes=(*result.notes, Message("cluster.drawn_anew")))
