"""Where the library lies, and who may read and use it."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest
from filelock import Timeout
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.library.library import Library, chosen_folder, is_shown, open_library, others_can_come
from ipa_app.library.waiting import WaitingRecord

USUAL = Path.home() / "IP-Adapter Studio"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, USUAL),
        ({"GRADIO_SERVER_NAME": "127.0.0.1"}, USUAL),
        ({"GRADIO_SERVER_NAME": "localhost"}, USUAL),
        ({"GRADIO_SERVER_NAME": "[::1]"}, USUAL),
        ({"GRADIO_SERVER_NAME": "0.0.0.0"}, None),
        ({"GRADIO_SERVER_NAME": "::"}, None),
        ({"GRADIO_SERVER_NAME": "studio.example.org"}, None),
        ({"GRADIO_SHARE": "True"}, None),
        ({"SPACE_ID": "somebody/studio"}, None),
        ({"SPACE_ID": "somebody/studio", "IPA_LIBRARY": "/data/library"}, Path("/data/library")),
        ({"GRADIO_SERVER_NAME": "0.0.0.0", "IPA_LIBRARY": " /data/library "}, Path("/data/library")),
        ({"IPA_LIBRARY": "~/made"}, Path.home() / "made"),
        ({"IPA_LIBRARY": "'/data/library'"}, Path("/data/library")),
        ({"IPA_LIBRARY": ""}, None),
        ({"IPA_LIBRARY": " "}, None),
    ],
)
def test_it_is_on_for_a_machine_of_ones_own_and_elsewhere_where_it_is_named(
    environment: dict[str, str], folder: Path | None
) -> None:
    assert chosen_folder(environment) == folder


def test_others_can_come_also_where_a_folder_is_named() -> None:
    assert others_can_come({"GRADIO_SHARE": "true", "IPA_LIBRARY": "/data"})
    assert not others_can_come({"IPA_LIBRARY": "/data"})


def test_what_all_have_made_is_shown_to_others_only_where_that_is_asked_for() -> None:
    assert is_shown({})
    assert not is_shown({"GRADIO_SERVER_NAME": "0.0.0.0", "IPA_LIBRARY": "/data"})
    assert is_shown({"GRADIO_SERVER_NAME": "0.0.0.0", "IPA_LIBRARY": "/data", "IPA_LIBRARY_SHARED": "1"})
    with pytest.raises(UserError, match="must be 1 or 0"):
        is_shown({"IPA_LIBRARY_SHARED": "perhaps"})


def test_a_home_folder_that_there_is_not_is_said_to_be_none(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UserError, match="IPA_LIBRARY is '~nobody-of-that-name/x', but there is no home folder"):
        chosen_folder({"IPA_LIBRARY": "~nobody-of-that-name/x"})

    def expanduser(_path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert chosen_folder({}) is None
    assert "nothing made here is kept; IPA_LIBRARY can name a folder" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="has no such modes")
def test_nobody_else_reads_a_folder_that_is_made_and_one_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o755)
    for name, mode in (("made", 0o700), ("shared", 0o755)):
        Library(tmp_path / name).close()
        assert (tmp_path / name).stat().st_mode & 0o777 == mode


def test_a_folder_is_one_process_s_at_a_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Library(tmp_path / "made")
    with pytest.raises(Timeout):
        Library(tmp_path / "made")
    with caplog.at_level(logging.WARNING):
        assert open_library({"IPA_LIBRARY": str(tmp_path / "made")}) is None
    assert "is in use by another process" in caplog.text
    first.close()
    second = open_library({"IPA_LIBRARY": str(tmp_path / "made")})
    assert second is not None
    second.close()


def waiting_record(letter: str) -> WaitingRecord:
    return WaitingRecord(
        id=letter * 32, asked=1.0, visitor=None, is_series=False, previews=False, parts=({},), pictures=(), begun=(0,)
    )


def test_a_folder_that_was_away_is_kept_in_and_locked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    library = Library(tmp_path / "made")
    shutil.rmtree(tmp_path / "made")
    picture = {"name": "a", "made": 1.0, "settings": {"output_format": "png"}, "inputs": {}}
    with caplog.at_level(logging.WARNING):
        library.waiting.put(waiting_record("a"))
        library.pictures.save(Image.new("RGB", (8, 8)), **picture)
    assert caplog.text.count("was away") == 1
    assert [each.id for each in library.waiting.records()] == ["a" * 32]
    with pytest.raises(Timeout):
        Library(tmp_path / "made")
    library.close()
    Library(tmp_path / "made").close()


def test_a_folder_that_another_process_took_meanwhile_is_that_ones_until_it_ends(tmp_path: Path) -> None:
    library = Library(tmp_path / "made")
    (tmp_path / "made").rename(tmp_path / "away")
    other = Library(tmp_path / "made")
    with pytest.raises(OSError, match="another process has it"):
        library.waiting.put(waiting_record("a"))
    with pytest.raises(OSError, match="another process has it"):
        library.named_files("sets", lambda _: "a").save("a", "{}")
    other.close()
    library.waiting.put(waiting_record("a"))
    library.close()


def test_a_folder_that_cannot_be_made_is_said_in_the_log_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        assert open_library({"IPA_LIBRARY": str(tmp_path / "file" / "made")}) is None
    assert "cannot be written to, so nothing made here is kept" in caplog.text
