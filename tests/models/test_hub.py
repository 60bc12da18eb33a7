from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from ipa_app.errors import Cancelled, UserError
from ipa_app.models import fetching
from ipa_app.models.entry import HubPart, ModelEntry
from ipa_app.models.hub import discard_damaged, download, invalidate, is_downloaded, link_snapshot
from tests.hub_fixtures import LARGE, SMALL, WEIGHTS
from tests.hub_server import FakeHub, etag

Make = Callable[..., ModelEntry]
Told = list[tuple[float, str]]


def fetch_all(entry: ModelEntry, *, cancel: threading.Event | None = None) -> Told:
    told: Told = []
    download(entry, report=lambda share, words: told.append((share, words)), cancel=cancel or threading.Event())
    return told


def blob_of(cache: Path, repo: str, path: str, content: bytes) -> Path:
    return cache / f"models--{repo.replace('/', '--')}" / "blobs" / etag(path, content)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.0)


def test_a_model_is_downloaded_and_put_together_in_the_ordinary_layout(
    hub: FakeHub, hub_entry: Make, cache: Path
) -> None:
    entry = hub_entry()
    assert not is_downloaded(entry)
    told = fetch_all(entry)
    assert is_downloaded(entry)
    link_snapshot(entry)
    files = {path.relative_to(entry.location).as_posix() for path in entry.location.rglob("*") if path.is_file()}
    assert files == {"model_index.json", "unet/w.safetensors", "adapters/a.safetensors"}
    assert (entry.location / "unet" / "w.safetensors").read_bytes() == LARGE
    assert (entry.location / "model_index.json").read_bytes() == SMALL
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert told[-1][1].startswith("6 of 6 MB")
    assert not list(cache.rglob("*.incomplete"))
    assert not [path for path in hub.asked if path.endswith(".bin")]


def test_what_is_there_is_not_asked_for_again(hub: FakeHub, hub_entry: Make) -> None:
    fetch_all(hub_entry({"maker/adapters": {"models/a.safetensors": "a.safetensors"}}))
    before = hub.sent["models/a.safetensors"]
    entry = hub_entry()
    fetch_all(entry)
    assert hub.sent["models/a.safetensors"] == before == len(LARGE)
    hub.asked.clear()
    fetch_all(entry)
    assert hub.asked == []


def test_a_cut_connection_is_taken_up_where_it_broke(hub: FakeHub, hub_entry: Make) -> None:
    hub.cut_after[WEIGHTS] = 2 * 2**20
    entry = hub_entry()
    fetch_all(entry)
    assert is_downloaded(entry)
    assert hub.sent[WEIGHTS] < len(LARGE) + 2**20 + 1


def test_a_download_killed_on_the_spot_goes_on_from_there(hub: FakeHub, hub_entry: Make, tmp_path: Path) -> None:
    code = (
        "import sys, threading; from pathlib import Path;"
        "from ipa_app.models.entry import HubPart, ModelEntry; from ipa_app.models.hub import download;"
        "part = HubPart(repo='maker/base', revision=sys.argv[1], files={sys.argv[2]: 'w.safetensors'});"
        "entry = ModelEntry(name='far', title='Far', location=Path('far'), parts=(part,));"
        "download(entry, report=lambda share, words: print(share, flush=True), cancel=threading.Event())"
    )
    hub.pause_s = 0.05
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    environment.pop("HF_HUB_CACHE", None)
    revision = hub_entry().parts[0].revision
    with subprocess.Popen(
        [sys.executable, "-c", code, revision, WEIGHTS],
        cwd=Path(__file__).parents[2],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        while 0 <= float(child.stdout.readline() or -1) < 0.3:
            pass
        child.send_signal(signal.SIGKILL)
    (partial,) = (tmp_path / "hub").rglob("*.incomplete")
    kept = partial.stat().st_size
    assert len(LARGE) / 3 <= kept < len(LARGE)
    hub.pause_s = 0.0
    hub.begun.clear()
    entry = hub_entry({"maker/base": {WEIGHTS: "w.safetensors"}})
    told = fetch_all(entry)
    assert is_downloaded(entry)
    assert hub.begun == [(WEIGHTS, kept)]
    assert told[1][0] > 0.3


def test_stopping_keeps_what_has_arrived(hub: FakeHub, hub_entry: Make, cache: Path) -> None:
    hub.pause_s = 0.01
    cancel = threading.Event()
    entry = hub_entry({"maker/base": {WEIGHTS: "w.safetensors"}})
    with pytest.raises(Cancelled):
        download(entry, report=lambda share, _: cancel.set() if share > 0.3 else None, cancel=cancel)
    assert not is_downloaded(entry)
    (partial,) = cache.rglob("*.incomplete")
    kept = partial.stat().st_size
    hub.begun.clear()
    fetch_all(entry)
    assert is_downloaded(entry)
    assert hub.begun == [(WEIGHTS, kept)]


def test_what_arrives_damaged_is_fetched_again_once(hub: FakeHub, hub_entry: Make, cache: Path) -> None:
    entry = hub_entry({"maker/base": {WEIGHTS: "w.safetensors"}})
    hub.spoiled[WEIGHTS] = 1
    fetch_all(entry)
    assert blob_of(cache, "maker/base", WEIGHTS, LARGE).read_bytes() == LARGE
    shutil.rmtree(cache)
    hub.spoiled[WEIGHTS] = 2
    with pytest.raises(UserError, match="arrived damaged twice"):
        fetch_all(entry)
    assert not is_downloaded(entry)
    fetch_all(entry)
    assert is_downloaded(entry)


def test_a_file_that_spoils_in_the_cache_is_found_and_fetched_again(hub: FakeHub, hub_entry: Make, cache: Path) -> None:
    entry = hub_entry()
    fetch_all(entry)
    assert discard_damaged(entry, cancel=threading.Event()) == []
    for path, content in ((WEIGHTS, LARGE), ("model_index.json", SMALL)):
        blob = blob_of(cache, "maker/base", path, content)
        blob.write_bytes(content[:-1] + b"?")
        assert discard_damaged(entry, cancel=threading.Event()) == [path]
        assert not is_downloaded(entry)
        fetch_all(entry)
        assert blob.read_bytes() == content


def test_a_file_that_spoils_without_a_trace_is_found_when_in_doubt(hub: FakeHub, hub_entry: Make, cache: Path) -> None:
    entry = hub_entry()
    fetch_all(entry)
    blob = blob_of(cache, "maker/base", WEIGHTS, LARGE)
    then = blob.stat()
    blob.write_bytes(LARGE[:-1] + b"?")
    os.utime(blob, ns=(then.st_atime_ns, then.st_mtime_ns))
    assert discard_damaged(entry, cancel=threading.Event()) == []
    invalidate(entry)
    assert discard_damaged(entry, cancel=threading.Event()) == [WEIGHTS]


def test_content_that_no_name_in_the_cache_stands_for_is_taken_only_if_it_is_whole(
    hub: FakeHub, hub_entry: Make, cache: Path
) -> None:
    entry = hub_entry({"maker/base": {WEIGHTS: "w.safetensors"}})
    fetch_all(entry)
    (link,) = cache.rglob(Path(WEIGHTS).name)
    for content, sent in ((LARGE, 0), (LARGE[:-1] + b"?", len(LARGE))):
        blob = blob_of(cache, "maker/base", WEIGHTS, LARGE)
        blob.write_bytes(content)
        link.unlink()
        hub.sent.clear()
        fetch_all(entry)
        assert blob.read_bytes() == LARGE
        assert hub.sent.get(WEIGHTS, 0) == sent


def test_a_full_disk_is_told_beforehand(hub: FakeHub, hub_entry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 3 * 10**6, 3 * 10**6))
    with pytest.raises(UserError, match=r"Far needs 6 MB on the disk of .*, but only 3 MB is free: please make room"):
        fetch_all(hub_entry())
    assert sum(hub.sent.values()) == 0


def test_a_disk_that_fills_up_meanwhile_is_told(hub: FakeHub, hub_entry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_stream", full)
    with pytest.raises(UserError, match="the disk of .* is full: please make room"):
        fetch_all(hub_entry())


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (
            401,
            "GatedRepo",
            "licence has to be accepted first: please accept it at http.*/maker/base and run `hf auth login`",
        ),
        (403, "GatedRepo", "licence has to be accepted first"),
        (404, "RepoNotFound", "there is no such repository, or it is private"),
        (404, "RevisionNotFound", "no longer has this version"),
        (429, "", "too many requests"),
        (503, "", r"has a problem \(error 503\): please try again later"),
    ],
)
def test_what_the_hub_refuses_is_one_sentence(hub: FakeHub, hub_entry: Make, status: int, code: str, told: str) -> None:
    hub.refusals["maker/base"] = (status, code)
    with pytest.raises(UserError, match=told) as refused:
        fetch_all(hub_entry())
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("maker/base could not be downloaded: ")
    del hub.refusals["maker/base"]
    entry = hub_entry()
    fetch_all(entry)
    assert is_downloaded(entry)


def test_a_file_that_the_hub_does_not_have_is_named(hub: FakeHub, hub_entry: Make) -> None:
    with pytest.raises(UserError, match="its file unet/gone.safetensors is missing on the Hub"):
        fetch_all(hub_entry({"maker/base": {"unet/gone.safetensors": "gone.safetensors"}}))


def test_without_a_network_it_says_so(hub: FakeHub, hub_entry: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="127.0.0.1:9 cannot be reached: please check the internet connection"):
        fetch_all(hub_entry())


def test_switched_off_it_uses_what_is_there_and_else_says_so(cache: Path, hub_entry: Make) -> None:
    entry = hub_entry({"maker/base": {"model_index.json": "model_index.json"}})
    with pytest.raises(UserError, match="Far is not on this computer, and downloading is switched off here"):
        fetch_all(entry)
    with pytest.raises(UserError, match="Far is incomplete"):
        link_snapshot(entry)
    snapshot = cache / "models--maker--base" / "snapshots" / entry.parts[0].revision
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_bytes(SMALL)
    assert is_downloaded(entry)
    fetch_all(entry)
    assert discard_damaged(entry, cancel=threading.Event()) == []
    link_snapshot(entry)
    assert (entry.location / "model_index.json").read_bytes() == SMALL


def test_putting_together_again_follows_what_has_changed(hub: FakeHub, hub_entry: Make) -> None:
    entry = hub_entry()
    fetch_all(entry)
    link_snapshot(entry)
    fewer = hub_entry({"maker/base": {WEIGHTS: "unet/other.safetensors"}})
    link_snapshot(fewer)
    link_snapshot(fewer)
    files = {path.name for path in fewer.location.rglob("*") if path.is_symlink()}
    assert files == {"other.safetensors"}


@pytest.mark.parametrize("refused", [("symlink_to",), ("symlink_to", "hardlink_to")], ids=["hard links", "copies"])
def test_where_links_are_refused_it_is_put_together_all_the_same(
    hub: FakeHub, hub_entry: Make, monkeypatch: pytest.MonkeyPatch, refused: tuple[str, ...]
) -> None:
    entry = hub_entry()
    fetch_all(entry)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1314, "A required privilege is not held by the client")

    for name in refused:
        monkeypatch.setattr(Path, name, refuse)
    link_snapshot(entry)
    weights, own = entry.location / "unet" / "w.safetensors", entry.location / "ipa_studio.json"
    own.write_text("{}")
    before = weights.stat().st_ino
    link_snapshot(entry)
    assert not weights.is_symlink()
    assert weights.read_bytes() == LARGE
    assert weights.stat().st_ino == before, "what is there already is not copied again"
    fewer = hub_entry({"maker/base": {WEIGHTS: "unet/other.safetensors"}})
    link_snapshot(fewer)
    files = {path.name for path in fewer.location.rglob("*") if path.is_file()}
    assert files == {"other.safetensors", "ipa_studio.json"}


@pytest.mark.parametrize("path", ["unet/w.bin", "model.py", "../x.json", "/etc/x.json", "a.safetensors.pt"])
def test_nothing_that_could_run_code_or_lie_elsewhere_is_ever_a_part(path: str) -> None:
    with pytest.raises(ValueError, match="must not be downloaded"):
        HubPart(repo="maker/base", revision="main", files={path: "x.json"})
    with pytest.raises(ValueError, match="must not be downloaded"):
        HubPart(repo="maker/base", revision="main", files={"x.json": path})


def test_pickles_come_only_where_their_reader_refuses_code() -> None:
    weights = {"w.pth": "w.pth"}
    with pytest.raises(ValueError, match="w.pth must not be downloaded"):
        HubPart(repo="maker/base", revision="main", files=weights)
    assert HubPart(repo="maker/base", revision="main", files=weights, pickles=True).files == weights
    with pytest.raises(ValueError, match="must not be downloaded"):
        HubPart(repo="maker/base", revision="main", files={"model.py": "w.pth"}, pickles=True)


def test_two_programs_do_not_fetch_the_same_file_twice(hub: FakeHub, hub_entry: Make) -> None:
    hub.pause_s = 0.005
    entry = hub_entry({"maker/base": {WEIGHTS: "w.safetensors"}})
    threads = [threading.Thread(target=fetch_all, args=(entry,)) for _ in range(2)]
    for thread in threads:
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    assert hub.sent[WEIGHTS] == len(LARGE)


def test_an_error_of_the_disk_is_named() -> None:
    with pytest.raises(UserError, match="cannot be written to"), fetching.hub_errors("maker/base"):
        raise PermissionError(13, "Permission denied")
