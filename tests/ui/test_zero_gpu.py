"""Drawing on a GPU lent for one call: what is passed to the other process, and the messages when there is none."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.observable import InternalError
from ipa_app.engine.plan import make_plan
from ipa_app.engine.remote import RemoteDevice
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.worker import carry_out
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.loading import load_model
from ipa_app.models.manager import ModelManager
from ipa_app.pose.detect import PoseDetector
from ipa_app.ui.zero_gpu import build_engine, drawing_on, estimated_seconds, explained, is_zero_gpu
from tests.adapter_files import write_adapter
from tests.engine.conftest import TIMEOUT_S, noise_picture, pixels, reference
from tests.tiny_models import random_adapter_tensors, tiny_unet

VISITOR: ContextVar[str] = ContextVar("visitor", default="nobody")


class Lender:
    """A fake `spaces.GPU`: arguments and results of the decorated function are pickled, as between processes."""

    def __init__(self) -> None:
        self.seconds: list[int] = []
        self.visitors: list[str] = []
        self.closed = threading.Event()
        self.refusal: Exception | None = None

    def gpu(self, *, duration: Callable[..., int]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def decorate(task: Callable[..., Any]) -> Callable[..., Any]:
            def lent(*args: Any, **kwargs: Any) -> Iterator[Any]:
                self.seconds.append(duration(*args, **kwargs))
                self.visitors.append(VISITOR.get())
                if self.refusal:
                    raise self.refusal
                args, kwargs = pickle.loads(pickle.dumps((args, kwargs)))
                events = task(*args, **kwargs)
                try:
                    for event in events:
                        yield pickle.loads(pickle.dumps(event))
                finally:
                    events.close()
                    self.closed.set()

            return lent

        return decorate


@pytest.fixture(scope="module")
def manager(tiny_bundle_dir: Path) -> ModelManager:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    manager = ModelManager({"toybox": entry}, device="cpu", in_background=False)
    manager.start("toybox")
    return manager


@pytest.fixture
def model(manager: ModelManager) -> LoadedModel:
    return manager.get("toybox", timeout=0)


@pytest.fixture
def lender() -> Lender:
    return Lender()


@pytest.fixture
def engine(manager: ModelManager, model: LoadedModel, lender: Lender) -> Iterator[Engine]:
    engine = Engine(manager, device=RemoteDevice(drawing_on({"toybox": model}, gpu=lender.gpu, exact=True)))
    yield engine
    engine.close()


def request(**fields: Any) -> GenerateRequest:
    return GenerateRequest(**{"task": "mix", "prompt": "a cat", "steps": 3, **fields})


def failure(engine: Engine, **fields: Any) -> str:
    with pytest.raises(UserError) as raised:
        engine.submit(request(**fields)).result(TIMEOUT_S)
    return str(raised.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"references": (reference(2),), "scale": 0.8, "seed": 5, "count": 2},
        {
            "task": "inpaint",
            "image": noise_picture(3, (60, 44)),
            "mask": Image.new("L", (60, 44), 255),
            "references": (reference(1),),
            "seed": 1,
        },
    ],
)
def test_pictures_are_the_same_as_without_and_progress_comes_step_by_step(
    manager: ModelManager, engine: Engine, fields: dict[str, Any]
) -> None:
    here = Engine(manager)
    expected = here.submit(request(**fields)).result(TIMEOUT_S)
    here.close()
    *progress, result = engine.submit(request(**fields)).events()
    assert isinstance(result, GenerateResult)
    assert pixels(result) == pixels(expected)
    assert result.settings == expected.settings
    assert result.inputs.keys() == expected.inputs.keys()
    steps = [event.step for event in progress if isinstance(event, Progress) and event.phase == "denoising"]
    assert steps == sorted(steps)
    assert len(set(steps)) >= 3


def test_an_adapter_that_came_after_the_other_process_crosses_with_the_request(
    engine: Engine, manager: ModelManager, lender: Lender, tmp_path: Path
) -> None:
    file = write_adapter(tmp_path / "toys.safetensors", random_adapter_tensors(tiny_unet(), kind="full"))
    key = manager.adapters.add(file, entry=manager.entry("toybox"))
    wish = request(references=(reference(2),), seed=5, adapter=key)
    drawn = engine.submit(wish).result(TIMEOUT_S)
    assert drawn.settings["adapter"] == "toys"
    assert len(lender.seconds) == 1
    here = Engine(manager)
    assert pixels(here.submit(wish).result(TIMEOUT_S)) == pixels(drawn)
    here.close()


def test_a_random_seed_is_drawn_once(engine: Engine) -> None:
    job = engine.submit(request(seed=-1, count=2))
    result = job.result(TIMEOUT_S)
    assert result.seeds == job.plan.seeds
    assert result.settings["seeds"] == list(job.plan.seeds)


def test_the_gpu_is_asked_for_on_behalf_of_the_visitor(engine: Engine, lender: Lender) -> None:
    token = VISITOR.set("Ada")
    job = engine.submit(request())
    VISITOR.reset(token)
    job.result(TIMEOUT_S)
    engine.submit(request()).result(TIMEOUT_S)
    assert lender.visitors == ["Ada", "nobody"]


def test_stopping_ends_the_work_in_the_other_process(engine: Engine, lender: Lender) -> None:
    job = engine.submit(request(steps=100, count=8))
    for event in job.events():
        if isinstance(event, Progress) and event.phase == "denoising":
            break
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(TIMEOUT_S)
    assert lender.closed.wait(TIMEOUT_S)
    assert engine.submit(request()).result(TIMEOUT_S).images


def test_a_failure_there_keeps_its_words(engine: Engine, model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = type("", (), {"flags": lambda *_: True})()
    monkeypatch.setitem(vars(model), "safety", everything)
    assert "found what was drawn (seed 4) unsuitable" in failure(engine, seed=4)


@pytest.mark.parametrize(
    ("title", "message", "told"),
    [
        (
            "ZeroGPU quota exceeded",
            "You have exceeded your free ZeroGPU quota (60s requested vs. 2s left). Try again in 1 day, 3:20:11. ",
            "GPU time is used up: please try again in 1 day, 3:20:11, ask for less",
        ),
        ("ZeroGPU quota exceeded", "Space app has reached its GPU limit. Try", "used up: please try again later"),
        ("ZeroGPU quota exceeded", "No GPU was available after 60s. Try re-running", "No GPU is free at the moment"),
        ("ZeroGPU queue timeout", "No GPU was available after 60s. <a>", "No GPU is free at the moment"),
        ("ZeroGPU client error", "Expired ZeroGPU proxy token", "please reload the page"),
        ("ZeroGPU illegal duration", "The requested GPU duration (900s) is larger", "please ask for fewer pictures"),
        ("ZeroGPU worker error", "GPU task aborted", "longer than expected: please ask for fewer pictures"),
        ("ZeroGPU worker error", "RuntimeError", "Something went wrong inside the app"),
        ("ZeroGPU pending credits exceeded", "You have too many ZeroGPU", "please wait until they are done"),
    ],
)
def test_a_gpu_that_is_not_lent_is_explained_in_one_sentence(
    engine: Engine, lender: Lender, title: str, message: str, told: str
) -> None:
    lender.refusal = gr.Error(message, title=title, print_exception=False)
    said = failure(engine)
    assert told in said
    assert said.count(". ") == 0
    lender.refusal = None
    assert engine.submit(request()).result(TIMEOUT_S).images


def test_who_leaves_while_waiting_for_a_gpu_has_stopped(engine: Engine, lender: Lender) -> None:
    lender.refusal = RuntimeError("Connection closed by visitor while queueing")
    with pytest.raises(Cancelled):
        engine.submit(request()).result(TIMEOUT_S)
    lender.refusal = RuntimeError("Unexpected end of stream")
    assert "went wrong" in failure(engine)


def test_an_error_of_the_app_itself_is_no_sentence_for_people() -> None:
    assert isinstance(explained(gr.Error("ValueError", title="ZeroGPU worker error")), InternalError)


def test_more_work_asks_for_more_time(engine: Engine, lender: Lender, model: LoadedModel) -> None:
    engine.submit(request(steps=2)).result(TIMEOUT_S)
    assert 0 < lender.seconds[0] < 30
    large = replace(model.entry, width=512, height=512)
    seconds = [
        estimated_seconds(make_plan(request(steps=steps, count=count), large))
        for steps, count in ((10, 1), (50, 1), (50, 8))
    ]
    assert seconds == sorted(set(seconds))
    assert seconds[-1] < 120


@pytest.mark.parametrize(
    ("value", "is_there"), [(None, False), ("", False), ("false", False), ("true", True), ("1", True)]
)
def test_zero_gpu_is_told_by_the_environment(
    value: str | None, is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    if value is not None:
        monkeypatch.setenv("SPACES_ZERO_GPU", value)
    assert is_zero_gpu() == is_there


def test_everywhere_else_the_engine_draws_by_itself_and_loads_later(
    tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPACES_ZERO_GPU", raising=False)
    engine = build_engine({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    assert engine.manager.state("toybox").phase == "absent"
    assert engine.submit(request()).result(TIMEOUT_S).images
    engine.close()


def test_an_operator_says_how_many_pictures_go_into_a_batch(
    tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPA_BATCH", "2")
    engine = build_engine({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    events = list(engine.submit(request(count=3)).events())
    engine.close()
    told = [str(event.message) for event in events if isinstance(event, Progress) and event.phase == "denoising"]
    assert list(dict.fromkeys(told)) == ["pictures 1 to 2 of 3", "picture 3 of 3"]


def test_without_the_package_the_owner_of_the_space_is_told(
    tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", None)
    with pytest.raises(UserError, match=r"package spaces is not installed: please add it to requirements\.txt"):
        build_engine({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")


def test_what_compiles_is_refused_on_zero_gpu(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    with pytest.raises(UserError, match="please remove IPA_COMPILE"):
        build_engine({"toybox": entry}, device="cpu", compile_backend="inductor")


def test_without_ray_whoever_wants_a_cluster_is_told(tiny_bundle_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPA_CLUSTER", "local")
    for name in (
        "RAY_USAGE_STATS_ENABLED",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
        "RAY_AUTH_MODE",
        "RAY_worker_niceness",
    ):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ipa_app.engine.cluster", raising=False)
    monkeypatch.delitem(sys.modules, "ipa_app.engine.replica", raising=False)
    with pytest.raises(UserError, match=r"package ray is not installed: .* requirements-cluster\.txt lists"):
        build_engine({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")


def test_a_model_that_cannot_be_loaded_is_left_out_and_the_others_work(
    tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACES_ZERO_GPU", "true")
    monkeypatch.setitem(sys.modules, "spaces", SimpleNamespace(GPU=lambda **_: lambda function: function))
    good = entry_from_folder(tiny_bundle_dir, name="toybox")
    engine = build_engine(
        {"toybox": good, "gone": replace(good, name="gone", location=tmp_path / "gone")}, device="cpu"
    )
    try:
        assert list(engine.manager.catalog) == ["toybox"]
        assert "there is no" in engine.manager.catalog.left_out["gone"]
        with pytest.raises(UserError, match="there is no .*gone"):
            engine.submit(request(model="gone"))
        assert engine.submit(request()).result(TIMEOUT_S).images
    finally:
        engine.close()


@pytest.mark.slow
def test_with_the_real_package_and_a_played_gpu(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    """Its forked process, queues and packed tensors are real; see zero_gpu_rehearsal."""
    pytest.importorskip("spaces", reason="needs the package spaces")
    command = [sys.executable, "-m", "tests.ui.zero_gpu_rehearsal", str(tiny_bundle_dir)]
    environment = {**os.environ, "GRADIO_TEMP_DIR": str(tmp_path)}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["device"] == "cuda"
    assert told["settings"]["seeds"] == [5, 6]
    first = [np.asarray(Image.open(path)) for path in told["pictures"]]
    for path, picture in zip(told["again"] + told["after_stop"], first * 2, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), picture)
    # In half precision, as on a GPU.
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    half = load_model(entry, device="cpu", dtype=torch.float16, report=lambda *_: None)
    job = Job(make_plan(request(seed=5, count=2), entry), on_cancel=lambda _: None)
    carry_out([job], half, detector=PoseDetector(), batch_limit=1)
    for image, picture in zip(job.result(TIMEOUT_S).images, first, strict=True):
        assert np.abs(np.asarray(image).astype(int) - picture).mean() < 2
    assert told["stopped_after"] < 100
    assert "please try again in 1:02:03" in told["used_up"]
    asked = [(path, values) for path, values in told["asked"] if path in ("/schedule", "/allow")]
    assert [path for path, _ in asked].count("/allow") == 1
    allowed = next(values for path, values in asked if path == "/allow")
    assert int(allowed["pid"]) != told["parent"]
    # The third request did not come from a visitor.
    tokens = [values.get("token") for path, values in asked if path == "/schedule"]
    assert tokens == ["a.e30.c", "a.e30.c", None, "a.e30.c", "a.e30.c"]
