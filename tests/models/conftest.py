from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hub_fixtures import cache, hub, hub_entry, real_entry  # noqa: F401 - fixtures are found by being here


@pytest.fixture
def copy(tiny_bundle_dir: Path, tmp_path: Path) -> Path:
    """Return a tiny model that the test may modify."""
    return shutil.copytree(tiny_bundle_dir, tmp_path / "copy")
