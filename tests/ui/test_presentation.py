"""The server side of presentation mode: nothing is kept, and visitors are forgotten."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from ipa_app.engine.keeping import KeptOrder, Order
from ipa_app.ui.controls import on_canvas
from ipa_app.ui.presentation import forget
from ipa_app.ui.running import Runner
from tests.engine.conftest import TIMEOUT_S
from tests.ui.page_parts import Opened, inputs_after


@pytest.mark.parametrize("presented", [False, True])
def test_what_is_drawn_while_the_app_is_shown_is_not_kept(
    page: Opened, runner: Runner, monkeypatch: pytest.MonkeyPatch, presented: bool
) -> None:
    parts, studio = page
    kept: list[Order] = []
    monkeypatch.setattr(studio._keeper, "keep", lambda order: (kept.append(order), KeptOrder(order))[1])
    inputs = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "steps": 1, "count": 1}
    *_, last = runner.run("mix")(presented=presented, **inputs)
    assert last[runner.results.gallery]["value"]
    assert len(kept) == (0 if presented else 1)


def test_a_page_that_is_shown_to_others_has_nothing_of_earlier_visits(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_from_library", lambda: ["earlier.png"])
    (shown,), (other,) = runner.resume(None, [], True), runner.resume(None, [], False)
    assert runner.results.history not in shown
    assert other[runner.results.history] == ["earlier.png"]


def test_a_picture_is_finished_in_the_mode_in_which_it_was_begun(page: Opened, runner: Runner) -> None:
    parts, studio = page
    inputs = {**inputs_after(parts, "mix", {}), "prompt": "a cat", "steps": 1, "count": 1}
    for presented in (False, True):
        updates = runner.run("mix")(presented=presented, **inputs)
        kept = next(json.loads(each[runner.results.running]) for each in updates if runner.results.running in each)
        updates.close()  # type: ignore[attr-defined]
        (untold,) = runner.resume(kept, ["mine.png"], not presented)
        assert runner.results.gallery not in untold
        *_, last = runner.resume(kept, [], presented)
        assert len(last[runner.results.gallery]["value"]) == 1


def test_what_a_visitor_brought_and_made_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    folder = Path(get_upload_folder()) / "visitor"
    folder.mkdir(parents=True, exist_ok=True)
    mine = [folder / name for name in ("photo.png", "result.png", "stroke.png")]
    beside, elsewhere = folder / "of_another.png", tmp_path / "example.png"
    for path in (*mine, beside, elsewhere):
        Image.new("RGB", (8, 8)).save(path)
    photo, result, stroke = map(str, mine)
    painted: Any = {"background": {"path": photo}, "layers": [{"path": stroke}], "composite": None}
    unlikely = folder / "folder.png"
    unlikely.mkdir()
    sent = [unlikely, folder / "gone.png", photo, elsewhere]
    told = [*({"path": str(path)} for path in sent), painted, None, "text"]
    forget(json.dumps(told), [result, str(elsewhere)])
    assert [path.exists() for path in (*mine, beside, elsewhere)] == [False, False, False, True, True]


@pytest.mark.parametrize("is_empty", [False, True])
def test_who_paints_on_the_same_picture_keeps_it_when_a_visitor_is_forgotten(is_empty: bool) -> None:
    picture = Image.new("RGB", (64, 48), "white") if is_empty else Image.effect_noise((64, 48), 50).convert("RGB")
    mine, of_another = (on_canvas(picture)["background"] for _ in range(2))
    forget(json.dumps([{"background": {"path": mine}, "layers": []}]), [mine])
    assert (Path(mine).exists(), Path(of_another).exists()) == (False, True)


def test_who_brought_the_same_picture_keeps_it_when_a_visitor_is_forgotten(app_url: str) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((64, 48), 50).save(buffer, format="PNG")

    def uploaded(**headers: str) -> Path:
        files = {"files": ("photo.png", buffer.getvalue())}
        answer = httpx.post(f"{app_url}gradio_api/upload", files=files, headers=headers, timeout=TIMEOUT_S)
        return Path(answer.raise_for_status().json()[0])

    page = {"origin": app_url.rstrip("/")}
    mine, of_another, by_a_program = uploaded(**page), uploaded(**page), uploaded()
    forget(json.dumps([{"path": str(mine)}]), None)
    assert [path.exists() for path in (mine, of_another, by_a_program)] == [False, True, True]
    assert of_another.read_bytes() == buffer.getvalue()
    assert uploaded() == by_a_program  # the same file with every call, so its space is taken only once
