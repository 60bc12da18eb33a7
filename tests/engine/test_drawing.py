"""A batch that is stopped while it is drawn stops soon, and leaves no trace."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ipa_app.engine.batch import BatchItem
from ipa_app.engine.drawing import draw
from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import Cancelled
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.loaded import LoadedModel
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import TIMEOUT_S

STEPS = 3


@pytest.fixture(scope="module")
def model(tiny_bundle_dir: Path) -> LoadedModel:
    entry = entry_from_folder(tiny_bundle_dir, name="tiny")
    return ModelManager({"tiny": entry}, device="cpu").get("tiny", TIMEOUT_S)


class Drawing:
    """One picture, with a callback that may stop the drawing at a given place."""

    def __init__(self, model: LoadedModel, *, stop_at: tuple[int, int] | None = None) -> None:
        self.looks: Counter[int] = Counter()
        self._model, self._stop_at, self._step = model, stop_at, 0

    def bytes(self) -> bytes:
        plan = make_plan(GenerateRequest(task="mix", prompt="a cat", seed=3, steps=STEPS), self._model.entry)
        row = BatchItem(prompt="a cat", negative_prompt="", seed=3)
        (picture,) = draw(self._model, [row], plan=plan, on_step=self._on_step, check=self._check)
        assert picture is not None
        return picture.tobytes()

    def _on_step(self, step: int) -> None:
        self._step = step

    def _check(self) -> None:
        self.looks[self._step] += 1
        if self._stop_at == (self._step, self.looks[self._step]):
            raise Cancelled


def test_it_can_be_stopped_within_every_step_and_while_it_is_decoded(model: LoadedModel) -> None:
    drawing = Drawing(model)
    whole = drawing.bytes()
    # The decoder follows the last step.
    assert all(drawing.looks[step] > 2 for step in range(STEPS + 1))
    for step in range(STEPS + 1):
        stopped = Drawing(model, stop_at=(step, 2))
        with pytest.raises(Cancelled):
            stopped.bytes()
        assert Drawing(model).bytes() == whole


def test_nobody_is_asked_about_another_drawing(model: LoadedModel) -> None:
    first, stopped = Drawing(model), Drawing(model, stop_at=(1, 1))
    first.bytes()
    with pytest.raises(Cancelled):
        stopped.bytes()
    before = first.looks.total(), stopped.looks.total()
    Drawing(model).bytes()
    assert (first.looks.total(), stopped.looks.total()) == before
