"""Settings of the whole process."""

from __future__ import annotations

import os
import platform
import re
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from ipa_app.errors import UserError
from ipa_app.runtime import compile_backend, device_name, is_on, named_folder, root_path, temporary_folder, whole_number

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), (" True ", True), ("0", False), ("false", False), ("", False)]
)
def test_a_variable_switches_on_and_off(text: str, expected: bool) -> None:
    assert is_on({"IPA_EXACT": text}, "IPA_EXACT") == expected
    assert not is_on({}, "IPA_EXACT")


def test_what_is_neither_is_refused() -> None:
    with pytest.raises(UserError, match="IPA_EXACT is 'yes please'; it must be 1 or 0"):
        is_on({"IPA_EXACT": "yes please"}, "IPA_EXACT")


@pytest.mark.parametrize("text", ["cpu", "cuda", "cuda:0", "cuda:12", "mps", " cpu "])
def test_a_device_is_named_as_torch_names_it(text: str) -> None:
    assert device_name({"IPA_DEVICE": text}) == text.strip()
    assert device_name({"IPA_DEVICE": ""}) is device_name({}) is None


@pytest.mark.parametrize("text", ["gpu7", "cuda:x", "cuda:-1", "cuda:07", "meta", "CUDA"])
def test_what_is_no_device_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(UserError, match=f"IPA_DEVICE is '{text}'; it must be cpu, cuda or mps"):
        device_name({"IPA_DEVICE": text})


def test_an_app_that_cannot_begin_says_why_in_a_sentence() -> None:
    code = "from ipa_app.runtime import *; end_with_a_sentence(); device_name({'IPA_DEVICE': 'gpu7'})"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "IPA_DEVICE is 'gpu7'; it must be cpu, cuda or mps, or one of several, such as cuda:1.\n"


def run(code: str) -> str:
    """Return what some code prints in a process of its own."""
    command = [sys.executable, "-c", f"from ipa_app.runtime import *\n{code}"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_addresses_that_others_are_asked_for_are_not_logged() -> None:
    code = """
import httpx, logging, sys
begin_log()
logging.getLogger().handlers[0].setStream(sys.stdout)
logging.getLogger("ipa_app").info("ours")
client = httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
client.get("https://bucket.example/anna.png?signature=secret")
"""
    assert run(code) == "INFO ipa_app: ours\n"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")
def test_as_many_files_may_be_open_as_the_system_allows() -> None:
    code = """
import resource
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
allow_many_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
    assert int(run(code)) > 256


def test_an_operator_has_unets_compiled() -> None:
    assert compile_backend({}) is None
    assert compile_backend({"IPA_COMPILE": "0"}) is None
    assert compile_backend({"IPA_COMPILE": "1"}) == "inductor"
    with pytest.raises(UserError, match="IPA_COMPILE is 'max'; it must be 1 or 0"):
        compile_backend({"IPA_COMPILE": "max"})


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5", "٣", "9" * 20])
def test_a_limit_that_is_no_number_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(UserError, match="IPA_MOST_WAITING is .*; it must be a whole number of at least 1"):
        whole_number({"IPA_MOST_WAITING": text}, "IPA_MOST_WAITING", 5)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/studio", "/studio"),
        (" '/studio/' ", "/studio"),
        ("https://example.org/studio/", "https://example.org/studio"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("/", ""),
        ("", ""),
    ],
)
def test_a_page_may_be_shown_under_a_path(text: str, path: str) -> None:
    assert root_path({"GRADIO_ROOT_PATH": text}) == path
    assert root_path({}) == ""


@pytest.mark.parametrize(
    "text", ["studio", "example.org/studio", "https://", "ftp://example.org", "//studio", "./studio"]
)
def test_what_is_no_path_to_a_page_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(UserError, match="GRADIO_ROOT_PATH is .*; it must be a path that begins with /, as"):
        root_path({"GRADIO_ROOT_PATH": text})


@pytest.mark.parametrize(
    ("text", "folder"),
    [
        ("'/quoted/by docker'", Path("/quoted/by docker")),
        (' "~/made" ', Path.home() / "made"),
        ("made/../here", Path.cwd() / "here"),
        ("''", None),
        (" ", None),
    ],
)
def test_a_folder_is_named_as_people_write_it(text: str, folder: Path | None) -> None:
    assert named_folder({"GRADIO_TEMP_DIR": text}, "GRADIO_TEMP_DIR") == folder
    assert named_folder({}, "GRADIO_TEMP_DIR") is None


def test_a_folder_in_the_home_of_nobody_is_refused() -> None:
    with pytest.raises(UserError, match="GRADIO_TEMP_DIR is '~nobody-of-that-name/x', but there is no home folder"):
        named_folder({"GRADIO_TEMP_DIR": "~nobody-of-that-name/x"}, "GRADIO_TEMP_DIR")


# Ten threads that allocate more than Python's small-object allocator takes, and glibc's report of its heaps then.
_THREADS = """
import ctypes, threading
from ipa_app.runtime import limit_malloc_arenas

limit_malloc_arenas()
together = threading.Barrier(10)

def take():
    together.wait()
    taken = [bytearray(50_000) for _ in range(20)]
    together.wait()

threads = [threading.Thread(target=take) for _ in range(10)]
[each.start() for each in threads]
[each.join() for each in threads]
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))
libc.fflush(None)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have heaps of another kind")
@pytest.mark.parametrize(("environment", "fewest", "most"), [({}, 1, 2), ({"MALLOC_ARENA_MAX": "5"}, 3, 5)], ids=str)
def test_threads_share_heaps_unless_somebody_says_how_many(environment: dict[str, str], fewest: int, most: int) -> None:
    before = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    command = [sys.executable, "-c", _THREADS]
    ended = subprocess.run(command, env=before | environment, capture_output=True, text=True, check=True, timeout=60)
    assert fewest <= len(re.findall("<heap nr", ended.stdout)) <= most


@pytest.mark.skipif(sys.platform == "win32", reason="the system's temporary folder is each user's own there")
class TestTemporaryFolder:
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return tmp_path

    def test_it_is_this_users_alone(self) -> None:
        folder = temporary_folder()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert temporary_folder() == folder

    def test_that_of_another_user_is_not_taken(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "getuid", lambda: 12345)
        (place / "gradio-12345").mkdir()
        with pytest.raises(UserError, match="gradio-12345 belongs to another user; please set GRADIO_TEMP_DIR"):
            temporary_folder()

    @pytest.mark.parametrize("points_nowhere", [True, False])
    def test_a_link_is_not_followed(self, points_nowhere: bool, place: Path) -> None:
        target = place / "elsewhere"
        if not points_nowhere:
            target.mkdir()
        (place / f"gradio-{os.getuid()}").symlink_to(target)
        with pytest.raises(UserError, match="belongs to another user"):
            temporary_folder()
