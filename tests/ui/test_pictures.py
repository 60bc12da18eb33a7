"""Pictures a page loads while a later event, or another page, saves the same picture again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_app.ui.clearing import clear_away
from ipa_app.ui.pictures import keep_picture, keep_text
from tests.engine.conftest import noise_picture


def test_what_is_being_loaded_stays_whole_and_what_is_kept_again_is_another_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    picture = noise_picture(1)
    path = keep_picture(picture)
    whole = Path(path).read_bytes()
    with Path(path).open("rb") as loading:
        begun = loading.read(10)
        again = keep_picture(picture)
        assert begun + loading.read() == whole
    assert again != path
    for each in map(Path, (path, again)):
        with Image.open(each) as kept:
            assert np.array_equal(np.asarray(kept), np.asarray(picture))
        assert [file.name for file in each.parent.iterdir()] == ["image.png"]


def test_what_is_kept_is_cleared_away_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    kept = [keep_picture(noise_picture(1)), keep_text("a recipe", name="recipe.json")]
    clear_away(tmp_path, older_than_s=3600)
    assert all(Path(path).exists() for path in kept)
    clear_away(tmp_path, older_than_s=-60)
    assert list(tmp_path.iterdir()) == []
