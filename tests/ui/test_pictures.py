"""Pictures that the page loads while a later event keeps the same picture again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_app.ui.pictures import keep_picture
from tests.engine.conftest import noise_picture


def test_what_is_being_loaded_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    picture = noise_picture(1)
    path = keep_picture(picture)
    whole = Path(path).read_bytes()
    with Path(path).open("rb") as loading:
        begun = loading.read(10)
        assert keep_picture(picture) == path
        assert begun + loading.read() == whole
    with Image.open(path) as kept:
        assert np.array_equal(np.asarray(kept), np.asarray(picture))
    assert [each.name for each in Path(path).parent.iterdir()] == ["image.png"]
