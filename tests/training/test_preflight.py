"""Whether a run's results can be written is checked beforehand."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.training.config import TrainConfig
from ipa_app.training.preflight import Room, claimed, needed_room

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.mark.parametrize("where", ["taken", "taken/inside"])
def test_an_output_folder_that_cannot_be_made_is_refused(where: str, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with (
        pytest.raises(UserError, match=r"Nothing can be written to .*; name another --output"),
        claimed(tmp_path / where),
    ):
        pass


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="nothing keeps this user from writing")
def test_an_output_folder_that_may_not_be_written_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"), claimed(tmp_path / "out"):
        pass


def test_only_one_run_writes_to_a_folder(tmp_path: Path) -> None:
    with claimed(tmp_path / "out"):
        with pytest.raises(UserError, match=r"Another run is writing to .*out"), claimed(tmp_path / "out"):
            pass
    with claimed(tmp_path / "out"):
        pass


def test_room_is_needed_for_all_that_is_written(make_config: Callable[..., TrainConfig]) -> None:
    config = make_config(max_steps=1000, sample_steps=500, keep_checkpoints=2)
    room = needed_room(config, parameters=22_000_000, encoded=10**9, step=0, rows=6, side=512)
    assert room.checkpoints == 3 * 22_000_000 * 12
    assert room.results == pytest.approx(22_000_000 * 2 + 3 * 6 * 4 * 512 * 512 * 3 * 0.7)
    assert room.total > 10**9 + room.checkpoints + room.results
    assert str(room) == "1.0 GB of encoded pictures, 792 MB of checkpoints, 84 MB of results, 10 MB to spare"
    finished = needed_room(config, parameters=22_000_000, encoded=0, step=1000, rows=6, side=512)
    assert finished.checkpoints == 0


def test_too_little_room_is_refused_with_what_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 9 * 10**9, 10**9))
    Room(encoded=5 * 10**8, checkpoints=10**8, results=10**8).check(tmp_path)
    with pytest.raises(UserError) as refused:
        Room(encoded=0, checkpoints=10**9, results=0).check(tmp_path)
    assert str(refused.value) == (
        f"The run will write about 1.0 GB to {tmp_path} (1.0 GB of checkpoints, 10 MB to spare), but only 1.0 GB is "
        "free there; make room or name another --output."
    )
    with pytest.raises(UserError, match=", or keep no encoded pictures with --cache-gb 0"):
        Room(encoded=10**9, checkpoints=10**8, results=0).check(tmp_path)
