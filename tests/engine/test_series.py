"""Series: one seed, one varying setting, one Stop for all."""

from __future__ import annotations

from typing import Any

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.engine.series import STRIP_SCALES, FailedPart, each_adapter, scale_strip
from ipa_app.errors import Cancelled, UserError
from ipa_app.models.entry import AdapterEntry
from ipa_app.models.loaded import ResidentAdapters
from tests.engine.conftest import TIMEOUT_S, Generate, pixels, reference

WISH = GenerateRequest(task="variation", prompt="a cat", references=(reference(),), count=4)
LONG = GenerateRequest(task="mix", prompt="a cat", steps=100, count=8)


def test_a_strip_is_one_picture_at_rising_strengths(engine: Engine, generate: Generate) -> None:
    parts = scale_strip(WISH)
    series = engine.submit_series(parts)
    results = [event for event in series.events() if isinstance(event, GenerateResult)]
    assert [result.settings["scale"] for result in results] == list(STRIP_SCALES)
    (seed,) = {result.seeds[0] for result in results}
    assert len({result.images[0].tobytes() for result in results}) == 5
    alone = generate(task="variation", prompt="a cat", references=(reference(),), scale=0.5, seed=seed)
    assert pixels(alone) == pixels(results[2])
    assert pixels(results[0]) == pixels(generate(task="mix", prompt="a cat", seed=seed))


def test_all_adapters_draw_on_one_seed(engine: Engine) -> None:
    parts = each_adapter(WISH, engine.manager.entry("toybox").adapters)
    results = [event for event in engine.submit_series(parts).events() if isinstance(event, GenerateResult)]
    assert [result.settings["adapter"] for result in results] == ["base", "fine"]
    assert results[0].seeds == results[1].seeds
    assert pixels(results[0]) != pixels(results[1])


def test_one_adapter_is_not_compared(engine: Engine) -> None:
    adapters = engine.manager.entry("toybox").adapters
    with pytest.raises(UserError, match="Please choose at least two adapters to compare"):
        each_adapter(WISH, {"base": adapters["base"]})


def test_progress_says_which_part_is_drawn_and_only_rises(engine: Engine) -> None:
    parts = each_adapter(WISH, engine.manager.entry("toybox").adapters)
    events = [event for event in engine.submit_series(parts).events() if isinstance(event, Progress)]
    drawing = [event for event in events if event.phase == "denoising"]
    assert list(dict.fromkeys(event.message for event in drawing)) == ["Base (1 of 2)", "Fine-grained (2 of 2)"]
    shares = [event.step / event.steps for event in events if event.phase in ("denoising", "decoding")]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    phases = [event.phase for event in events]
    assert "queued" not in phases[phases.index("denoising") :], (
        "the second has waited behind the first, and says nothing"
    )


def test_stop_ends_all_of_them(engine: Engine, generate: Generate) -> None:
    running = engine.submit(LONG)
    series = engine.submit_series(scale_strip(WISH))
    series.cancel()
    running.cancel()
    with pytest.raises(Cancelled):
        list(series.events())
    assert generate(task="mix", prompt="a cat").images


def test_a_part_that_fails_leaves_the_others_their_pictures(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    adapters, broken = engine.manager.entry("toybox").adapters, {"base"}
    get = ResidentAdapters.get

    def refused(resident: ResidentAdapters, adapter: AdapterEntry) -> Any:
        if adapter.name in broken:
            raise UserError.plain(f"The file of {adapter.name} is damaged.")
        return get(resident, adapter)

    monkeypatch.setattr(ResidentAdapters, "get", refused)
    events = list(engine.submit_series(each_adapter(WISH, adapters)).events())
    (failed,) = (event for event in events if isinstance(event, FailedPart))
    (result,) = (event for event in events if isinstance(event, GenerateResult))
    assert (failed.title, str(failed.error)) == ("Base", "The file of base is damaged.")
    assert result.settings["adapter"] == "fine"
    broken.add("fine")
    with pytest.raises(UserError, match="The file of base is damaged"):
        list(engine.submit_series(each_adapter(WISH, adapters)).events())


def test_what_had_ended_of_a_stopped_series_is_not_drawn_again(engine: Engine) -> None:
    parts = scale_strip(WISH)
    series = engine.submit_series(parts)
    watched = series.events()
    first = next(event for event in watched if isinstance(event, GenerateResult))
    series.cancel()
    with pytest.raises(Cancelled):
        list(watched)
    again = engine.submit_series(parts, stopped=series)
    results = [event for event in again.events() if isinstance(event, GenerateResult)]
    assert [result.settings["scale"] for result in results] == list(STRIP_SCALES)
    assert results[0] is first
    (*_, whole) = engine.submit_series(parts).events()
    assert isinstance(whole, GenerateResult)
    assert pixels(whole) == pixels(results[-1])


def test_a_series_that_does_not_fit_into_the_queue_leaves_nothing_there(engine: Engine) -> None:
    running = engine.submit(LONG)
    next(event for event in running.events() if isinstance(event, Progress) and event.phase == "denoising")
    waiting = [engine.submit(LONG) for _ in range(3)]
    with pytest.raises(UserError, match="busy"):
        engine.submit_series(scale_strip(WISH))
    last = engine.submit(LONG)
    assert last.position == 4
    for job in (last, *waiting, running):
        job.cancel()
    with pytest.raises(Cancelled):
        running.result(TIMEOUT_S)
