"""A processor that computes in bfloat16 draws the same picture every time, and nearly the one of float32."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, pixels, reference
from tests.sample_requests import OF_TASK

FAR = 12
"""Mean difference in levels of 255 that is allowed; pictures of different seeds differ by some 50."""
PLAIN = {"adapter": "base", "seed": 3, "steps": 4, "references": (reference(1),)}


@pytest.fixture(scope="module")
def fast(tiny_bundle_dir: Path) -> Iterator[Engine]:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
        engine = Engine(ModelManager({"toybox": entry}, device="cpu", exact=False))
        engine.manager.get("toybox", TIMEOUT_S)
    yield engine
    engine.close()


def drawn(engine: Engine, request: GenerateRequest) -> GenerateResult:
    return engine.submit(request).result(TIMEOUT_S)


@pytest.mark.parametrize("task", ["variation", "mix", "inpaint", "pose"])
def test_every_task_draws_the_same_each_time_and_says_in_what(task: str, fast: Engine, generate: Generate) -> None:
    own = {"variation": {}, "mix": {"prompt": "a cat"}}.get(task, OF_TASK[task])
    request = GenerateRequest(task=task, **PLAIN, **own)
    result = drawn(fast, request)
    assert pixels(result) == pixels(drawn(fast, request))
    assert result.settings["precision"] == "bfloat16"
    single = generate(**{field.name: getattr(request, field.name) for field in dataclasses.fields(request)})
    assert single.settings["precision"] == "float32"
    ours, theirs = (np.asarray(each.images[0], float) for each in (result, single))
    assert 0 < np.abs(ours - theirs).mean() < FAR


def test_what_runs_out_of_range_is_drawn_in_single_precision(
    fast: Engine, generate: Generate, monkeypatch: pytest.MonkeyPatch
) -> None:
    unet = fast.manager.get("toybox").pipelines["text_to_image"].unet
    spoil = unet.register_forward_hook(
        lambda _module, _inputs, output: tuple(
            each * float("inf") if each.dtype == torch.bfloat16 else each for each in output
        )
    )
    try:
        result = drawn(fast, GenerateRequest(task="mix", prompt="a cat", seed=1, references=(), steps=2))
    finally:
        spoil.remove()
    ours = np.asarray(result.images[0], float)
    single = np.asarray(generate(task="mix", prompt="a cat", seed=1, steps=2).images[0], float)
    assert np.abs(ours - single).mean() < FAR
