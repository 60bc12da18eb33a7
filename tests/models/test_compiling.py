"""UNets are compiled in the background: nobody waits, and the pictures stay the same."""

from __future__ import annotations

import gc
import logging
import shutil
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.compiling import _TRACING, UNetCompiler
from ipa_app.models.entry import ModelEntry
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.manager import ModelManager
from ipa_app.runtime import COMPILE_LOCK
from tests.engine.conftest import TIMEOUT_S, reference
from tests.sample_requests import OF_TASK
from tests.tiny_models import tiny_fast_way

SHARED: dict[str, Any] = {"steps": 3, "guidance_scale": 5.0, "guidance_start": 0.3, "seed": 3}
ASKED: dict[str, dict[str, Any]] = {
    "words": {"task": "mix", "prompt": "a red cat"},
    "a reference": {"task": "variation", "references": (reference(1),)},
    "fine-grained": {"task": "variation", "references": (reference(1),), "adapter": "fine", "scale": 0.4},
    "in two places": {
        "task": "variation",
        "references": (replace(reference(1), region="left"), replace(reference(2), region="right")),
    },
    "words for a place": {
        "task": "mix",
        "prompt": "a red cat",
        "references": (replace(reference(1), region="left", region_prompt="a dog"),),
    },
    "a pose": {"task": "pose", "references": (reference(1),), **OF_TASK["pose"]},
    "two pictures": {"task": "variation", "references": (reference(1),), "count": 2},
    "fast": {"task": "variation", "references": (reference(1),), "speed": "fast"},
}


class Backend:
    """A backend that runs graphs unchanged and counts the runs; compiling waits until it is released."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.graphs = 0
        self.runs = 0
        self.may_be_traced = False

    def __call__(self, graph: torch.fx.GraphModule, inputs: object) -> Any:
        del inputs
        assert self.may_go_on.wait(TIMEOUT_S)
        self.graphs += 1

        def run(*given: Any) -> Any:
            self.runs += 1
            self.may_be_traced |= not _TRACING.locked()
            return graph(*given)

        return run


@pytest.fixture(autouse=True)
def _nothing_compiled_before() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def entry(tiny_bundle_dir: Path) -> ModelEntry:
    return replace(entry_from_folder(tiny_bundle_dir, name="toybox"), fast=tiny_fast_way(tiny_bundle_dir))


@pytest.fixture(scope="module")
def plain(entry: ModelEntry) -> Iterator[Engine]:
    engine = Engine(ModelManager({"toybox": entry}, device="cpu"))
    yield engine
    engine.close()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def manager(entry: ModelEntry, backend: Any) -> ModelManager:
    return ModelManager({"toybox": entry}, device="cpu", compile_backend=backend)


@pytest.fixture
def model(manager: ModelManager) -> LoadedModel:
    return manager.get("toybox", TIMEOUT_S)


@pytest.fixture
def compiler(model: LoadedModel) -> UNetCompiler:
    assert model.compiler is not None
    return model.compiler


@pytest.fixture
def engine(manager: ModelManager) -> Iterator[Engine]:
    engine = Engine(manager)
    yield engine
    engine.close()


def draw(engine: Engine, **fields: Any) -> list[np.ndarray]:
    result = engine.submit(GenerateRequest(**SHARED, **fields)).result(TIMEOUT_S)
    return [np.asarray(image) for image in result.images]


def test_nobody_waits_for_the_compiler(engine: Engine, plain: Engine, backend: Backend, compiler: UNetCompiler) -> None:
    expected = draw(plain, **ASKED["words"])
    assert np.array_equal(draw(engine, **ASKED["words"]), expected)
    assert np.array_equal(draw(engine, **ASKED["words"]), expected)
    assert backend.runs == 0
    backend.may_go_on.set()
    compiler.wait()
    before = backend.runs
    assert np.array_equal(draw(engine, **ASKED["words"]), expected)
    assert backend.runs == before + SHARED["steps"]
    assert not backend.may_be_traced, "another compilation may begin while a compiled network is run"


def test_an_adapter_does_not_wait_for_the_compiler_and_what_has_to_can_be_stopped(
    entry: ModelEntry, plain: Engine, tmp_path: Path
) -> None:
    usual = entry.adapter("base")
    brought = replace(usual, name="brought", file=Path(shutil.copy(usual.file, tmp_path / "brought.safetensors")))
    entry = replace(entry, adapters={**entry.adapters, "brought": brought})
    engine = Engine(ModelManager({"toybox": entry}, device="cpu"))
    engine.manager.start("toybox")
    try:
        expected = draw(engine, **ASKED["a reference"])
        with COMPILE_LOCK:
            assert np.array_equal(draw(engine, **ASKED["a reference"], adapter="brought"), expected)
            job = engine.submit(GenerateRequest(**SHARED, **ASKED["fast"]))
            next(event for event in job.events() if isinstance(event, Progress) and event.phase == "loading")
            job.cancel()
            with pytest.raises(Cancelled):
                job.result(TIMEOUT_S)
        assert np.array_equal(draw(engine, **ASKED["fast"]), draw(plain, **ASKED["fast"]))
    finally:
        engine.close()


def test_what_would_have_to_wait_for_the_compiler_is_read_with_the_model(model: LoadedModel) -> None:
    assert model.fast.networks
    assert all(each in model.controlnets for each in model.entry.controlnets.values())


@pytest.mark.slow
def test_whatever_is_asked_for_is_the_same_picture(
    engine: Engine, plain: Engine, backend: Backend, compiler: UNetCompiler
) -> None:
    backend.may_go_on.set()
    for asked in ASKED.values():
        draw(engine, **asked)
        compiler.wait()
        before = backend.graphs, backend.runs
        drawn = draw(engine, **asked)
        assert np.abs(np.subtract(drawn, draw(plain, **asked), dtype=int)).max() <= 1
        assert backend.graphs == before[0]
        assert backend.runs > before[1]


def test_another_scale_another_picture_and_other_steps_compile_nothing_anew(
    engine: Engine, plain: Engine, backend: Backend, compiler: UNetCompiler
) -> None:
    backend.may_go_on.set()
    draw(engine, **ASKED["a reference"])
    compiler.wait()
    graphs = backend.graphs
    for number in range(1, 6):
        fields = {"task": "variation", "references": (reference(number),), "scale": number / 10}
        drawn = draw(engine, **fields)
        compiler.wait()
        assert np.abs(np.subtract(drawn, draw(plain, **fields), dtype=int)).max() <= 1
    assert backend.graphs == graphs


def test_what_cannot_be_compiled_is_drawn_as_it_is_and_the_log_says_so(
    entry: ModelEntry, plain: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(graph: object, inputs: object) -> Any:
        del graph, inputs
        raise OSError("there is no compiler")

    backend: Any = refuse
    manager = ModelManager({"toybox": entry}, device="cpu", compile_backend=backend)
    engine, compiler = Engine(manager), manager.get("toybox", TIMEOUT_S).compiler
    assert compiler is not None
    expected = draw(plain, **ASKED["words"])
    with caplog.at_level(logging.ERROR, logger="ipa_app.models.compiling"):
        for _ in range(2):
            assert np.array_equal(draw(engine, **ASKED["words"]), expected)
            compiler.wait()
    engine.close()
    said = [record for record in caplog.records if record.name == "ipa_app.models.compiling"]
    # A step without guidance has one row, the others have two; each size is tried once.
    assert sorted(record.getMessage().split(" for ")[1][0] for record in said) == ["1", "2"]
    assert all(record.exc_info and "there is no compiler" in str(record.exc_info[1]) for record in said)


def test_while_the_weights_are_in_another_precision_they_are_run_as_they_are(
    engine: Engine, model: LoadedModel, backend: Backend, compiler: UNetCompiler
) -> None:
    backend.may_go_on.set()
    unet: Any = compiler.applied_to(model.pipelines["text_to_image"]).components["unet"]
    given = torch.randn(2, 4, 8, 8), torch.tensor(3), torch.randn(2, 7, unet.config.cross_attention_dim)
    own: Any = model.pipelines["text_to_image"].components["unet"]
    own.double()
    try:
        with torch.inference_mode():
            unet(*(each.double() for each in given), return_dict=False)
        compiler.wait()
        assert backend.graphs == 0
    finally:
        own.float()
    del engine


def test_a_model_that_is_let_go_of_goes_with_all_that_was_compiled(
    engine: Engine, manager: ModelManager, backend: Backend
) -> None:
    backend.may_go_on.set()
    draw(engine, **ASKED["words"])
    model = manager.get("toybox", TIMEOUT_S)
    assert model.compiler is not None
    model.compiler.wait()
    unet = weakref.ref(model.pipelines["text_to_image"].components["unet"])
    del model
    manager.free("toybox")
    engine.close()
    gc.collect()
    assert unet() is None


@pytest.mark.long
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
@pytest.mark.parametrize("backend", ["inductor"])
def test_inductor_draws_the_same_pictures(engine: Engine, plain: Engine, compiler: UNetCompiler) -> None:
    for asked in ASKED.values():
        draw(engine, **asked)
        compiler.wait()
        assert np.abs(np.subtract(draw(engine, **asked), draw(plain, **asked), dtype=int)).max() <= 1
