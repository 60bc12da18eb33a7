"""What an observer sees of a running operation."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from ipa_app.engine.observable import Observable
from ipa_app.engine.results import Progress

FOR_EVER_S = 3600.0


def step(number: int) -> Progress:
    return Progress(phase="denoising", step=number, steps=4)


def test_whoever_rests_misses_no_end() -> None:
    work = Observable[str]()
    work.emit(step(1))
    events = work.events(newest=True, rest_s=FOR_EVER_S)
    assert next(events) == step(1)
    for number in (2, 3, 4):
        work.emit(step(number))
    work.finish("the result")
    assert list(events) == [step(4), "the result"]


def test_whoever_takes_their_time_sees_the_latest_picture_though_the_latest_step_has_none() -> None:
    work = Observable[str]()
    first, latest = (Image.new("RGB", (2, 2), colour) for colour in ("red", "blue"))
    for progress in (replace(step(1), preview=first), replace(step(2), preview=latest), step(3)):
        work.emit(progress)
    work.finish("the result")
    assert list(work.events(newest=True)) == [replace(step(3), preview=latest), "the result"]


def test_whoever_does_not_rest_sees_each_step() -> None:
    work = Observable[str]()
    for number in (1, 2, 3):
        work.emit(step(number))
    work.finish("the result")
    assert list(work.events()) == [step(1), step(2), step(3), "the result"]
