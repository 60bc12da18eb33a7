"""A request that runs out of memory fails with a clear message, and the next one works."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, drawing, pixels
from tests.waiting import until

REQUEST = GenerateRequest(task="mix", prompt="a cat", seed=1)


def test_running_out_of_memory_is_told_and_over_with_the_request(
    tiny_bundle_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine = Engine(manager)
    unet = manager.get("toybox", timeout=TIMEOUT_S).pipelines["text_to_image"].unet
    greedy = unet.register_forward_pre_hook(lambda *_: torch.empty(2**50) and None)
    try:
        with caplog.at_level(logging.ERROR), pytest.raises(UserError, match="not enough memory .* smaller pictures"):
            engine.submit(REQUEST).result(TIMEOUT_S)
        assert caplog.text == ""  # not logged as a bug
        greedy.remove()
        assert engine.submit(REQUEST).result(TIMEOUT_S).images
    finally:
        engine.close()


def test_when_decoding_alone_is_short_of_memory_nothing_is_denoised_again(tiny_bundle_dir: Path) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine, model = Engine(manager), manager.get("toybox", timeout=TIMEOUT_S)
    unet, steps = model.pipelines["text_to_image"].components["unet"], [0]
    unet.register_forward_pre_hook(lambda *_: steps.__setitem__(0, steps[0] + 1))

    def greedy(*_: object) -> None:
        if not model.vae.use_tiling:
            torch.empty(2**50)

    request = GenerateRequest(task="mix", prompt="a cat", seed=1, steps=3, count=2)
    try:
        expected, usual = pixels(engine.submit(request).result(TIMEOUT_S)), steps[0]
        hook = model.vae.decoder.register_forward_pre_hook(greedy)
        # At this size each picture is a single tile.
        assert pixels(engine.submit(request).result(TIMEOUT_S)) == expected
        assert steps[0] == 2 * usual
        hook.remove()
        assert not model.vae.use_tiling, "the next picture is decoded whole"
    finally:
        engine.close()


def test_what_a_decoder_that_was_short_of_memory_had_taken_is_given_back_before_it_is_tried_in_tiles(
    tiny_bundle_dir: Path,
) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine, model = Engine(manager), manager.get("toybox", timeout=TIMEOUT_S)
    taken: list[weakref.ref[torch.Tensor]] = []
    left: list[bool] = []

    def greedy(*_: object) -> None:
        if model.vae.use_tiling:
            left.append(taken[0]() is not None)
            return
        activations = torch.empty(1)
        taken.append(weakref.ref(activations))
        torch.empty(2**50)

    model.vae.decoder.register_forward_pre_hook(greedy)
    try:
        assert engine.submit(REQUEST).result(TIMEOUT_S).images
        assert left == [False]
    finally:
        engine.close()


def test_a_model_is_read_when_nobody_draws_with_the_one_that_made_room_for_it(
    tiny_bundle_dir: Path, other_bundle_dir: Path
) -> None:
    folders = {"toybox": tiny_bundle_dir, "other": other_bundle_dir}
    manager = ModelManager({name: entry_from_folder(each, name=name) for name, each in folders.items()}, device="cpu")
    engine = Engine(manager)
    first = weakref.ref(manager.get("toybox", timeout=TIMEOUT_S))
    job = drawing(engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=100, count=4, seed=1)))
    behind = engine.submit(REQUEST)
    manager.start("other")
    assert manager.get("other", timeout=TIMEOUT_S)
    assert job.done
    assert first() is None
    assert len(job.result(TIMEOUT_S).images) == 4
    assert behind.result(TIMEOUT_S).images, "for which the first one is read once more"
    engine.close()


def test_a_model_that_is_no_longer_wanted_is_not_waited_with(tiny_bundle_dir: Path, other_bundle_dir: Path) -> None:
    folders = {"toybox": tiny_bundle_dir, "other": other_bundle_dir}
    manager = ModelManager({name: entry_from_folder(each, name=name) for name, each in folders.items()}, device="cpu")
    engine = Engine(manager)
    job = drawing(engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=100, count=8, seed=1)))
    manager.start("other")
    until(lambda: manager.state("toybox").phase == "absent")
    manager.free("other")
    until(lambda: not any(thread.name == "load other" for thread in threading.enumerate()))
    assert not job.done
    job.cancel()
    engine.close()


def let_finish(job: Job) -> None:
    assert job.result(TIMEOUT_S).images


def stop(job: Job) -> None:
    next(event for event in job.events() if isinstance(event, Progress) and event.phase == "denoising")
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(TIMEOUT_S)


def run_out_of_memory(job: Job) -> None:
    with pytest.raises(UserError, match="not enough memory"):
        job.result(TIMEOUT_S)


@pytest.mark.parametrize("end", [let_finish, stop, run_out_of_memory])
def test_a_model_that_is_freed_is_held_by_nobody_who_drew_with_it(
    tiny_bundle_dir: Path, end: Callable[[Job], None]
) -> None:
    manager = ModelManager({"toybox": entry_from_folder(tiny_bundle_dir, name="toybox")}, device="cpu")
    engine = Engine(manager)
    try:
        model = weakref.ref(manager.get("toybox", timeout=TIMEOUT_S))
        if end is run_out_of_memory:
            unet = manager.get("toybox").pipelines["text_to_image"].components["unet"]
            unet.register_forward_pre_hook(lambda *_: torch.empty(2**50) and None)
            del unet
        job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=20))
        end(job)
        manager.free("toybox")
        # The job is done a moment before its thread lets go of it.
        until(lambda: gc.collect() >= 0 and model() is None)
        assert job.done  # the caller may still hold the job
    finally:
        engine.close()
