"""The page's examples and poses can be regenerated, and match the shipped ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ipa_app.pose import presets
from toybox import assets


@pytest.fixture
def drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Path, Path]]:
    """Return the shipped and the regenerated folder of each kind."""
    shipped = {"examples": assets.FOLDER, "poses": presets.POSES_FOLDER}
    monkeypatch.setattr(assets, "FOLDER", tmp_path / "examples")
    for module in (assets, presets):
        monkeypatch.setattr(module, "POSES_FOLDER", tmp_path / "poses")
    monkeypatch.setattr("sys.argv", ["assets"])
    assets.main()
    return {kind: (folder, tmp_path / kind) for kind, folder in shipped.items()}


def test_what_is_shipped_is_what_is_drawn(drawn: dict[str, tuple[Path, Path]]) -> None:
    for shipped, anew in drawn.values():
        names = sorted(path.name for path in anew.iterdir())
        assert names == sorted(path.name for path in shipped.iterdir())
        for name in names:
            # Other versions of the renderer round differently.
            assert np.abs(_content(anew / name) - _content(shipped / name)).mean() < 0.1, name


def _content(path: Path) -> np.ndarray:
    if path.suffix == ".json":
        return np.frombuffer(path.read_bytes(), np.uint8).astype(int)
    with Image.open(path) as picture:
        return np.asarray(picture, int)
