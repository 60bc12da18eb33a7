"""What cannot be saved yet is held, within limits of memory."""

from __future__ import annotations

import pytest
from PIL import Image

from ipa_app.engine import saving
from ipa_app.engine.results import GenerateResult
from ipa_app.engine.saving import Unsaved, result_size


def test_what_is_held_is_limited_by_its_size_and_the_oldest_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "MOST_BYTES", 100)
    unsaved: Unsaved[str] = Unsaved()
    assert [unsaved.hold(f"small {number}", size=1) for number in range(70)] == [[]] * 70
    assert unsaved.hold("large", size=98) == [f"small {number}" for number in range(68)]
    assert unsaved.hold("larger than all", size=101) == ["small 68", "small 69", "large"]
    assert list(unsaved) == ["larger than all"]


def test_what_is_taken_is_no_longer_held_nor_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving.time, "monotonic", lambda: 50.0)
    unsaved: Unsaved[str] = Unsaved()
    unsaved.hold("one", size=1)
    assert (unsaved.due, bool(unsaved)) == (50.0 + saving.AGAIN_S, True)
    assert unsaved.take() == ["one"]
    assert (unsaved.due, bool(unsaved)) == (float("inf"), False)


def test_the_pictures_that_a_result_was_made_from_count_too() -> None:
    picture = Image.new("RGB", (10, 20))
    result = GenerateResult(images=(picture,) * 2, seeds=(1, 2), settings={}, inputs={"reference": picture})
    assert result_size(result) == 3 * 10 * 20 * 4
