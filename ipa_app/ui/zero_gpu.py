"""Support for Spaces on ZeroGPU, which lends a GPU for one call at a time. The only module that uses `spaces`.

There, a function decorated with `spaces.GPU` runs in a process forked from this one, and only that process has CUDA.
Models are moved to "cuda" here all the same, before the page opens and in the main thread: `spaces` records them, and
moves them to the GPU in the forked process. Forked processes are reused, so a model loaded later would be missing
there.

Source: spaces 0.51.3, zero/wrappers.py, zero/client.py and zero/torch/patching.py.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from ipa_app.engine.cluster_settings import CLUSTER_VARIABLE, ClusterSettings
from ipa_app.engine.engine import Engine
from ipa_app.engine.observable import InternalError
from ipa_app.engine.plan import Plan, make_plan
from ipa_app.engine.queue import Limits
from ipa_app.engine.remote import Events, RemoteDevice, RemoteDraw, draw_remotely, with_adapter
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.adapter_set import ADAPTERS_VARIABLE, AdapterSet
from ipa_app.models.entry import AdapterEntry, ModelEntry
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detect import PoseDetector

if TYPE_CHECKING:
    from ipa_app.models.loaded import LoadedModel

VARIABLE = "SPACES_ZERO_GPU"

# Generous estimates for the share of an H200 that ZeroGPU lends: a call that takes longer is cut off, but a shorter
# request is scheduled earlier. Stable Diffusion 1.5 needs about a third of this, a first call a few seconds more.
_SECONDS_AT_FIRST = 10.0
_SECONDS_PER_PICTURE = 1.0
_SECONDS_PER_STEP_AND_MEGAPIXEL = 0.25

_VISITOR_LEFT = "Connection closed by visitor"
_AGAIN = re.compile(r"Try again in ((?:\d+ days?, )?\d[\d:]*)")
_SENTENCES = {
    "No GPU was available": "gpu.none_free",
    "GPU task aborted": "gpu.taken_back",
    "ZeroGPU illegal duration": "gpu.too_long",
    "ZeroGPU pending credits exceeded": "gpu.held",
}
"""Keys of sentences, by how the title or the message of an error from `spaces` begins."""


def is_zero_gpu() -> bool:
    """Whether this process runs on ZeroGPU, by the same check as in `spaces`."""
    return os.environ.get(VARIABLE, "").lower() in ("1", "t", "true")


def build_engine(
    catalog: Mapping[str, ModelEntry],
    *,
    device: str | None,
    exact: bool = True,
    compile_backend: str | None = None,
    limits: Limits | None = None,
) -> Engine:
    """Build the engine that suits the hardware: this process's device, ZeroGPU, or the cluster that IPA_CLUSTER names.

    On ZeroGPU this loads every model; call it in the main thread. A model that cannot be loaded there is left out.

    Args:
        catalog: the models that may be requested.
        device: a torch device; None takes the fastest there is.
        exact: as for `ModelManager`.
        compile_backend: as for `ModelManager`; not for ZeroGPU.
        limits: how much may wait.

    Raises:
        UserError: a required package is missing, there is no such cluster, or nothing can be compiled here.
    """
    adapters = AdapterSet(os.environ.get(ADAPTERS_VARIABLE, ""))
    cluster = ClusterSettings.from_environment(os.environ)
    if cluster.address:
        return _on_cluster(cluster, catalog, adapters=adapters, limits=limits)
    managed = partial(ModelManager, catalog, device, exact=exact, adapters=adapters)
    if not is_zero_gpu():
        return Engine(managed(compile_backend=compile_backend), limits=limits, batch_limit=cluster.batch or None)
    if compile_backend:
        raise UserError.plain(
            "Processes on ZeroGPU come and go, and each would compile again: please remove IPA_COMPILE."
        )
    return _on_zero_gpu(managed(max_resident=len(catalog), in_background=False), exact=exact, limits=limits)


def _on_zero_gpu(manager: ModelManager, *, exact: bool, limits: Limits | None) -> Engine:
    try:
        import spaces  # before torch, which comes in with the first model
    except ImportError:
        raise UserError.plain(
            f"{VARIABLE} says that this is ZeroGPU, but the package spaces is not installed: please add it to "
            "requirements.txt, or choose other hardware."
        ) from None
    models = {}
    for name in tuple(manager.catalog):
        try:
            models[name] = _load(manager, name)
        except UserError as error:
            manager.leave_out(name, error.message)
    return Engine(manager, limits=limits, device=RemoteDevice(drawing_on(models, gpu=spaces.GPU, exact=exact)))


def _on_cluster(
    settings: ClusterSettings, catalog: Mapping[str, ModelEntry], *, adapters: AdapterSet, limits: Limits | None
) -> Engine:
    settings.prepare(os.environ)
    try:
        from ipa_app.engine.cluster import build_cluster_engine
    except ImportError as error:
        if error.name != "ray":
            raise
        raise UserError.plain(
            f"{CLUSTER_VARIABLE} is {settings.address!r}, but the package ray is not installed: please install what "
            "requirements-cluster.txt lists."
        ) from None
    return build_cluster_engine(catalog, settings=settings, adapters=adapters, limits=limits)


def drawing_on(models: Mapping[str, LoadedModel], *, gpu: Callable[..., Any], exact: bool) -> RemoteDraw:
    """Return the function that draws on a GPU that is lent for each request.

    Args:
        models: all models that may be requested, by name; loaded.
        gpu: the decorator, `spaces.GPU`.
        exact: as for `usual_batch_limit`.
    """
    # Never used in this process: its lock must not be held when the other one is forked.
    detector = PoseDetector()

    def seconds(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> int:
        del previews  # they take at most a tenth of the time
        entry = with_adapter(models[request.model].entry, adapter, called=request.adapter)
        return estimated_seconds(make_plan(request, entry))

    @gpu(duration=seconds)
    def on_gpu(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        model = models[request.model]
        yield from draw_remotely(
            request, adapter=adapter, previews=previews, model=model, detector=detector, exact=exact
        )

    def draw(request: GenerateRequest, *, adapter: AdapterEntry | None, previews: bool) -> Events:
        yield Progress(phase="loading", message=Message("doing.waiting_for_gpu"))
        try:
            yield from on_gpu(request, adapter=adapter, previews=previews)
        except gr.Error as error:
            raise explained(error) from None
        except RuntimeError as error:
            if str(error).startswith(_VISITOR_LEFT):
                raise Cancelled from None
            raise

    return draw


def estimated_seconds(plan: Plan) -> int:
    """Estimate the seconds that a request needs a GPU; rather too many, as a longer call is cut off."""
    width, height = plan.canvas_size
    per_picture = _SECONDS_PER_PICTURE + plan.drawn_steps * _SECONDS_PER_STEP_AND_MEGAPIXEL * width * height / 10**6
    return math.ceil(_SECONDS_AT_FIRST + plan.request.count * per_picture)


def explained(error: gr.Error) -> UserError:
    """Return an error that says in one sentence why there was no GPU, or not for long enough."""
    title, message = str(error.title), str(error.message)
    for beginning, key in _SENTENCES.items():
        if message.startswith(beginning) or title.startswith(beginning):
            return UserError(key)
    if title.startswith("ZeroGPU quota exceeded"):
        again = _AGAIN.search(message)
        when = Message("gpu.again_in", time=again[1]) if again else Message("gpu.again_later")
        return UserError("gpu.used_up", when=when)
    if title.startswith("ZeroGPU worker error"):
        # A bug in the other process, whose traceback `spaces` has printed.
        return InternalError()
    return UserError("gpu.none")


def _load(manager: ModelManager, name: str) -> LoadedModel:
    manager.download(name)
    return manager.get(name)
