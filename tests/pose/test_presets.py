"""The poses that ship with the app, by name."""

from __future__ import annotations

import pytest

from ipa_app.messages import Message
from ipa_app.pose.presets import preset_file, preset_pictures, preset_sheets, preset_title, presets
from ipa_app.pose.sheet import PoseSheet


@pytest.mark.parametrize("name", presets())
def test_a_preset_lies_in_its_file_beside_its_picture(name: str) -> None:
    file = preset_file(name)
    assert PoseSheet.from_json(file.read_text("utf-8")) == preset_sheets()[name]
    assert preset_pictures()[name] == file.with_suffix(".png")


def test_a_preset_is_called_by_a_word_of_peoples_own() -> None:
    assert preset_title("arms up") == Message("preset.arms_up")
    assert str(preset_title("arms up")) == "arms up"
