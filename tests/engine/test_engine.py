"""The queue and the worker: order, cancelling, failures, batches."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from ipa_app.engine.engine import Engine
from ipa_app.engine.job import Job, JobObserver
from ipa_app.engine.observable import InternalError, Left
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S, Generate, noise_picture, pixels, reference

LONG = {"task": "mix", "prompt": "a cat", "steps": 100, "width": 128, "height": 128}
SHORT = {"task": "mix", "prompt": "a cat", "seed": 1}


@contextmanager
def long_job(engine: Engine) -> Iterator[Job]:
    """Keep the worker busy with a job that is being drawn, and cancel it on exit."""
    job = engine.submit(GenerateRequest(**LONG))
    try:
        next(event for event in job.events() if isinstance(event, Progress) and event.phase == "denoising")
        yield job
    finally:
        job.cancel()


def test_a_random_seed_is_decided_when_a_request_is_submitted(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=1))
    assert job.plan.request.seed >= 0
    assert job.result(TIMEOUT_S).seeds == (job.plan.request.seed,)


def test_importing_the_engine_does_not_import_torch() -> None:
    code = (
        "import sys, ipa_app.engine.engine, ipa_app.models.manager, ipa_app.models.catalog, ipa_app.ui.about;"
        "print(sorted({'torch', 'diffusers', 'transformers', 'gradio', 'cv2'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.stdout.strip() == "[]", done.stderr


def test_progress_goes_through_the_phases_and_ends_with_the_result(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(**SHORT, count=2))
    *progress, result = job.events()
    assert isinstance(result, GenerateResult)
    phases = list(dict.fromkeys(event.phase for event in progress if event.phase != "loading"))
    assert phases == ["queued", "encoding", "denoising", "decoding"]
    drawing = [event for event in progress if event.phase in ("denoising", "decoding")]
    assert [event.step for event in drawing] == [0, 1, 2, 2, 3, 4]
    assert {event.steps for event in drawing} == {4}
    assert list(job.events())[-1] is result, "a page that was opened again sees it all once more"


def test_who_comes_late_may_leave_out_what_is_overtaken_but_not_the_last_look(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=12, count=2), previews=True)
    job.result(TIMEOUT_S)
    *every, _ = job.events()
    looks = [event.preview for event in every if isinstance(event, Progress) and event.preview is not None]
    last, result = job.events(newest=True)
    assert isinstance(last, Progress)
    assert (last.phase, last.step) == ("decoding", 24)
    assert result is job.result(0)
    assert looks
    assert last.preview is looks[-1]


def test_who_goes_away_is_told_no_more_and_the_job_goes_on(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(task="mix", prompt="a cat", steps=3))
    with pytest.raises(Left):
        list(job.events(lambda: False))
    assert job.result(TIMEOUT_S).images


def test_a_running_job_stops_at_the_next_step(engine: Engine, generate: Generate) -> None:
    with long_job(engine) as job:
        job.cancel()
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)
    with pytest.raises(Cancelled):
        list(job.events())
    assert generate(**SHORT).images


def test_a_waiting_job_is_dropped_at_once(engine: Engine) -> None:
    with long_job(engine) as running:
        waiting = [engine.submit(GenerateRequest(**SHORT)) for _ in range(3)]
        assert [job.position for job in waiting] == [1, 2, 3]
        waiting[0].cancel()
        with pytest.raises(Cancelled):
            waiting[0].result(timeout=1)
        assert [job.position for job in waiting[1:]] == [1, 2]
        assert not running.done
        running.cancel()
        assert waiting[1].result(TIMEOUT_S).images
    assert waiting[2].result(TIMEOUT_S).images


def test_cancelling_what_is_done_changes_nothing(engine: Engine) -> None:
    job = engine.submit(GenerateRequest(**SHORT))
    result = job.result(TIMEOUT_S)
    job.cancel()
    assert job.result() is result


def test_a_full_queue_turns_requests_away(engine: Engine, generate: Generate) -> None:
    with long_job(engine):
        waiting = [engine.submit(GenerateRequest(**SHORT)) for _ in range(6)]
        with pytest.raises(UserError, match="busy"):
            engine.submit(GenerateRequest(**SHORT))
        for job in waiting:
            job.cancel()
    assert generate(**SHORT).images


def test_an_unknown_model_is_refused_when_submitting(engine: Engine) -> None:
    with pytest.raises(UserError, match="no model '../../etc'; choose from: toybox"):
        engine.submit(GenerateRequest(**{**SHORT, "model": "../../etc"}))


def test_a_bad_input_fails_alone(engine: Engine) -> None:
    good = [engine.submit(GenerateRequest(**SHORT))]
    bad = engine.submit(GenerateRequest(task="pose", pose=Image.new("RGB", (64, 64))))
    good.append(engine.submit(GenerateRequest(**SHORT)))
    with pytest.raises(UserError, match="black"):
        bad.result(TIMEOUT_S)
    first, second = (pixels(job.result(TIMEOUT_S)) for job in good)
    assert first == second


class CursedPicture(Image.Image):
    """A picture that raises when it is looked at, as a bug would."""

    def convert(self, *args: object, **kwargs: object) -> Image.Image:
        raise ZeroDivisionError("cursed")


def test_a_bug_is_logged_and_the_next_request_works(
    engine: Engine, generate: Generate, caplog: pytest.LogCaptureFixture
) -> None:
    request = GenerateRequest(task="variation", references=(Reference(image=CursedPicture()),))
    with caplog.at_level(logging.ERROR), pytest.raises(InternalError, match="Something went wrong inside"):
        engine.submit(request).result(TIMEOUT_S)
    assert "ZeroDivisionError: cursed" in caplog.text
    assert generate(**SHORT).images


def test_closing_cancels_everything(manager: ModelManager) -> None:
    engine = Engine(manager)
    jobs = [engine.submit(GenerateRequest(**LONG)) for _ in range(2)]
    engine.close()
    for job in jobs:
        with pytest.raises(Cancelled):
            job.result(TIMEOUT_S)
    with pytest.raises(UserError, match="shutting down"):
        engine.submit(GenerateRequest(**SHORT))


def test_a_model_that_cannot_be_loaded_fails_its_requests_until_it_can(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_bundle_dir, tmp_path / "model")
    index = folder / "model_index.json"
    manager = ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu")
    engine = Engine(manager)
    index.rename(folder / "away")
    try:
        with pytest.raises(UserError, match="is missing"):
            engine.submit(GenerateRequest(**SHORT)).result(TIMEOUT_S)
        (folder / "away").rename(index)
        assert engine.submit(GenerateRequest(**SHORT)).result(TIMEOUT_S).images
    finally:
        engine.close()


@pytest.fixture(scope="module")
def batching_engine(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """Yield an engine that draws up to four pictures per batch; its fine adapter is broken and overflows."""
    folder = shutil.copytree(tiny_bundle_dir, tmp_path_factory.mktemp("batching") / "model")
    path = folder / "adapters" / "ip-adapter-plus_toybox.safetensors"
    save_file({key: value.float() * (1e38 if "to_v_ip" in key else 1) for key, value in load_file(path).items()}, path)
    engine = Engine(ModelManager({"toybox": entry_from_folder(folder, name="toybox")}, device="cpu"), batch_limit=4)
    yield engine
    engine.close()


def submit_together(engine: Engine, orders: list[dict]) -> list[Job]:
    """Submit while the worker is busy, so that it finds all of the orders queued."""
    with long_job(engine):
        return [engine.submit(GenerateRequest(**order)) for order in orders]


def test_unlike_requests_share_a_batch_and_get_what_they_get_alone(batching_engine: Engine, generate: Generate) -> None:
    orders = [
        {"task": "mix", "prompt": "a cat", "seed": 1},
        {"task": "variation", "references": (reference(1),), "seed": 2},
        {"task": "mix", "prompt": "a dog", "references": (reference(2), reference(3)), "scale": 0.4, "seed": 3},
    ]
    jobs = submit_together(batching_engine, orders)
    for job, order in zip(jobs, orders, strict=True):
        together, alone = job.result(TIMEOUT_S).images[0], generate(**order).images[0]
        difference = np.abs(np.asarray(together, dtype=int) - np.asarray(alone, dtype=int))
        assert difference.max() <= 1


class Seen(JobObserver):
    """Notes when each of some jobs begins and has its pictures."""

    def __init__(self, name: str, events: list[str]) -> None:
        self._name, self._events = name, events

    def begun(self) -> None:
        self._events.append(f"{self._name} begins")

    def finished(self, result: GenerateResult) -> None:
        self._events.append(f"{self._name} ends")


@pytest.mark.parametrize("names", [("suspect", "one", "two"), ("one", "suspect", "two")])
def test_while_one_is_drawn_alone_no_other_has_begun(batching_engine: Engine, names: tuple[str, ...]) -> None:
    events: list[str] = []
    with long_job(batching_engine):
        jobs = [
            batching_engine.submit(GenerateRequest(**SHORT), alone=name == "suspect", observer=Seen(name, events))
            for name in names
        ]
    for job in jobs:
        job.result(TIMEOUT_S)
    at = events.index("suspect begins")
    assert events[at + 1] == "suspect ends"
    assert sum(each.endswith("begins") for each in events[:at]) == sum(each.endswith("ends") for each in events[:at])
    others = [each for each in events if "suspect" not in each]
    assert others[:2] == ["one begins", "two begins"], "the others still share a batch"


def test_requests_that_a_batch_cannot_draw_together_are_drawn_as_alone(
    batching_engine: Engine, generate: Generate
) -> None:
    start = {**SHORT, "start_image": noise_picture(4)}
    orders = [
        SHORT,
        {**SHORT, "steps": 3},
        {**SHORT, "guidance_scale": 1},
        {**SHORT, "guidance_scale": 7},
        {**SHORT, "width": 72},
        {**start, "strength": 0.6},
        {**start, "strength": 1},
        {**SHORT, "task": "inpaint", "image": noise_picture(5), "mask": noise_picture(6).convert("L"), "area": "whole"},
    ]
    for job, order in zip(submit_together(batching_engine, orders), orders, strict=True):
        together, alone = job.result(TIMEOUT_S).images[0], generate(**order).images[0]
        assert together.size == alone.size
        assert np.abs(np.asarray(together, dtype=int) - np.asarray(alone, dtype=int)).max() <= 1


def test_prompts_of_other_lengths_share_no_batch_and_are_drawn_as_alone(
    batching_engine: Engine, generate: Generate
) -> None:
    long = " ".join(["a red cat on the beach"] * 5)
    orders = [
        SHORT,
        {**SHORT, "prompt": long, "count": 2},
        {**SHORT, "negative_prompt": f"{long} {long}"},
        {**SHORT, "prompt": f"{long} (hat:1.5)"},
        SHORT,
    ]
    for job, order in zip(submit_together(batching_engine, orders), orders, strict=True):
        together, alone = job.result(TIMEOUT_S).images, generate(**order).images
        assert len(together) == len(alone)
        for one, other in zip(together, alone, strict=True):
            assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1


def test_one_persons_range_of_steps_is_not_anothers(batching_engine: Engine, generate: Generate) -> None:
    base = {"task": "variation", "references": (reference(1),), "steps": 5}
    orders = [{**base, "seed": 1, "start": 0.2, "end": 0.8}, {**base, "seed": 2}, {**base, "seed": 1}]
    jobs = submit_together(batching_engine, orders)
    together = [np.asarray(job.result(TIMEOUT_S).images[0], dtype=int) for job in jobs]
    for drawn, order in zip(together, orders, strict=True):
        assert np.abs(drawn - np.asarray(generate(**order).images[0], dtype=int)).max() <= 1
    assert np.abs(together[0] - together[2]).max() > 1


def test_numbers_out_of_range_are_an_error_of_that_request_alone(batching_engine: Engine, generate: Generate) -> None:
    spoilt = {"task": "variation", "references": (reference(1),), "adapter": "fine", "seed": 2}
    jobs = submit_together(batching_engine, [SHORT, spoilt, SHORT])
    with pytest.raises(UserError, match="numbers ran out of range while denoising"):
        jobs[1].result(TIMEOUT_S)
    for job in (jobs[0], jobs[2]):
        difference = np.asarray(job.result(TIMEOUT_S).images[0], int) - np.asarray(generate(**SHORT).images[0], int)
        assert np.abs(difference).max() <= 1


def test_one_of_a_batch_can_be_cancelled_at_once(batching_engine: Engine) -> None:
    orders = [{**SHORT, "steps": 100}, {**SHORT, "steps": 100, "seed": 2}]
    jobs = submit_together(batching_engine, orders)
    next(event for event in jobs[1].events() if isinstance(event, Progress) and event.phase == "denoising")
    jobs[1].cancel()
    with pytest.raises(Cancelled):
        jobs[1].result(TIMEOUT_S)
    assert not jobs[0].done
    assert jobs[0].result(TIMEOUT_S).images


def test_waiting_for_a_result_ends_after_the_timeout(engine: Engine) -> None:
    with long_job(engine) as job:
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            job.result(timeout=0.05)
        assert time.monotonic() - begun < 5
