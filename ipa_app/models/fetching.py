"""Fetching one file of the Hub into huggingface_hub's cache, so that nothing that has arrived is ever fetched twice.

The library's own download discards a file that it could not finish. Here the part that has arrived is kept under the
name that the library once used, `<etag>.incomplete`, however the program ends, and the next try resumes from there.
Errors of the Hub become one sentence that says what to do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import constants, get_session, hf_hub_url
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.utils import build_hf_headers, hf_raise_for_status

from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message

logger = logging.getLogger(__name__)

CHUNK_BYTES = 2**20
OFFLINE = Message("download.why.offline")

_FULL = (errno.ENOSPC, errno.EDQUOT)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)
_TIMEOUT_S = 10.0
_TRIES = 5
_PAUSE_S = 1.0
_DIGEST = re.compile("[0-9a-f]{64}|[0-9a-f]{40}")


@contextmanager
def hub_errors(repo: str) -> Iterator[None]:
    """Turn errors of the Hub's library and of the disk inside the block into a UserError about a repository.

    Raises:
        UserError: in place of every error of the Hub, the network or the disk.
    """
    try:
        yield
    # LocalEntryNotFoundError and HfHubHTTPError are OSErrors as well, and all of the Hub's are HTTPErrors.
    except (HfHubHTTPError, EntryNotFoundError) as error:
        raise UserError("download.failed", repo=repo, reason=_told_by_the_hub(error, repo)) from error
    except OfflineModeIsEnabled as error:
        raise UserError("download.failed", repo=repo, reason=OFFLINE) from error
    except HTTPError as error:
        raise UserError("download.failed", repo=repo, reason=_unreachable()) from error
    except OSError as error:
        raise UserError("download.failed", repo=repo, reason=_told_by_the_disk(error)) from error


def is_passing(error: HTTPError) -> bool:
    """Whether it is worth trying again at once: the connection broke, or the Hub is busy."""
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in (408, 429, 500, 502, 503, 504)


def _told_by_the_hub(error: Exception, repo: str) -> Message:
    if isinstance(error, LocalEntryNotFoundError):
        return _unreachable()
    if isinstance(error, GatedRepoError):
        page = f"{constants.ENDPOINT}/{repo}"
        return Message("download.why.licence", page=page)
    if isinstance(error, RepositoryNotFoundError):
        return Message("download.why.no_repository")
    if isinstance(error, RevisionNotFoundError | EntryNotFoundError):
        return Message("download.why.no_version")
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else 0
    if status in (401, 403):
        return Message("download.why.login")
    if status == 429:
        return Message("download.why.too_many_requests")
    return Message("download.why.hub_problem", status=status)


def _told_by_the_disk(error: OSError) -> Message:
    folder = constants.HF_HUB_CACHE
    if error.errno in _FULL:
        return Message("download.why.disk_full", folder=folder)
    if error.errno in _FORBIDDEN:
        return Message("download.why.cannot_write", folder=folder)
    return Message("download.why.disk", error=error.strerror or error, folder=folder)


def _unreachable() -> Message:
    return Message("download.why.unreachable", host=constants.ENDPOINT.partition("://")[2])


@dataclass(frozen=True, kw_only=True)
class RemoteFile:
    """A file as the Hub lists it.

    Attributes:
        repo: its repository.
        revision: its commit.
        path: in the repository.
        size: in bytes.
        digest: its etag: SHA-256 of the content, or for small files its git hash.
    """

    repo: str
    revision: str
    path: str
    size: int
    digest: str

    @property
    def blob(self) -> Path:
        """Path of its content in the cache."""
        folder = repo_folder_name(repo_id=self.repo, repo_type="model")
        return Path(constants.HF_HUB_CACHE) / folder / "blobs" / self.digest

    @property
    def partial(self) -> Path:
        """Path of its content while it is incomplete."""
        return self.blob.with_name(f"{self.digest}.incomplete")


def is_digest(text: str) -> bool:
    """Whether a text can be a file's digest."""
    return _DIGEST.fullmatch(text) is not None


def has_digest(path: Path, digest: str, *, cancel: threading.Event | None = None) -> bool:
    """Whether a file's content matches a digest.

    Raises:
        Cancelled: `cancel` was set meanwhile.
    """
    # Git's hash is the SHA-1 of the content after a header with the word "blob" and the size.
    is_git = len(digest) == 40
    state = hashlib.sha1(f"blob {path.stat().st_size}\0".encode()) if is_git else hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(8 * CHUNK_BYTES):
            check_cancel(cancel)
            state.update(chunk)
    return state.hexdigest() == digest


def fetch(file: RemoteFile, *, count: Callable[[int], None], cancel: threading.Event) -> None:
    """Fetch a file's content into the cache, resuming where an earlier try ended; a damaged one is fetched again once.

    Args:
        file: what to fetch.
        count: called with the number of bytes as they arrive, negative if some are discarded.
        cancel: when set, ends it soon; what has arrived is kept.

    Raises:
        Cancelled: `cancel` was set.
        UserError: the content arrived damaged twice.
        HTTPError, OSError: the Hub, the network or the disk failed, and retrying did not help.
    """
    file.blob.parent.mkdir(parents=True, exist_ok=True)
    with _alone(file, cancel=cancel):
        if _size(file.blob) == file.size:
            if has_digest(file.blob, file.digest, cancel=cancel):
                return
            logger.warning("%s is damaged and is downloaded again.", file.blob)
            count(-file.size)
            file.blob.unlink()
        for _ in range(2):
            _complete(file, count=count, cancel=cancel)
            if has_digest(file.partial, file.digest, cancel=cancel):
                file.partial.replace(file.blob)
                return
            logger.warning("%s of %s arrived damaged and is discarded.", file.path, file.repo)
            count(-_size(file.partial))
            file.partial.unlink()
    raise UserError("download.damaged_twice", path=file.path, repo=file.repo)


def _complete(file: RemoteFile, *, count: Callable[[int], None], cancel: threading.Event) -> None:
    """Fetch the missing part of a file, retrying after broken connections for as long as something arrives."""
    file.partial.touch()
    tries = 0
    while (had := _size(file.partial)) < file.size:
        try:
            _stream(file, count=count, cancel=cancel)
        except HTTPError as error:
            if _size(file.partial) > had:
                tries = 0
            tries += 1
            if tries >= _TRIES or not is_passing(error):
                raise
            logger.info("%s of %s: %s; trying again.", file.path, file.repo, type(error).__name__)
            cancel.wait(_PAUSE_S * tries)
        else:
            tries += _size(file.partial) <= had
            if tries >= _TRIES:
                raise OSError(f"{file.path} ends before its {file.size} bytes")


def _stream(file: RemoteFile, *, count: Callable[[int], None], cancel: threading.Event) -> None:
    check_cancel(cancel)
    had = _size(file.partial)
    headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
    if had:
        headers["Range"] = f"bytes={had}-"
    url = hf_hub_url(file.repo, file.path, revision=file.revision)
    with get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S) as response:
        if response.is_error:
            response.read()
        hf_raise_for_status(response)
        goes_on = response.status_code == 206
        if not goes_on:
            count(-had)
        with file.partial.open("ab" if goes_on else "wb") as target:
            for chunk in response.iter_bytes(CHUNK_BYTES):
                check_cancel(cancel)
                target.write(chunk)
                count(len(chunk))
                if target.tell() > file.size:
                    return


@contextmanager
def _alone(file: RemoteFile, *, cancel: threading.Event) -> Iterator[None]:
    """Wait until no other program fetches the same file; the lock is huggingface_hub's own."""
    folder = Path(constants.HF_HUB_CACHE) / ".locks" / repo_folder_name(repo_id=file.repo, repo_type="model")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{file.digest}.lock", mode=0o664)
    while not lock.is_locked:
        check_cancel(cancel)
        try:
            lock.acquire(timeout=0.5)
        except Timeout:
            logger.info("Another program is downloading %s of %s.", file.path, file.repo)
    try:
        yield
    finally:
        lock.release()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def check_cancel(cancel: threading.Event | None) -> None:
    """Stop here if `cancel` is set.

    Raises:
        Cancelled: it is set.
    """
    if cancel is not None and cancel.is_set():
        raise Cancelled


class VerifiedFiles:
    """Remembers verified files by name, size and modification time: one that has changed since counts as unknown."""

    def __init__(self, path: Path) -> None:
        """Read what was remembered; nothing if the file cannot be read.

        Args:
            path: the JSON file that it is kept in.
        """
        self._path = path
        self._known: dict[str, list[int]] = {}
        with contextlib.suppress(OSError, ValueError):
            content = json.loads(path.read_text(encoding="utf-8"))
            self._known = content if isinstance(content, dict) else {}

    def contains(self, file: Path) -> bool:
        """Whether a file was verified and has not changed since."""
        return self._known.get(str(file)) == _stamp(file)

    def remember(self, file: Path) -> None:
        """Record that a file has been verified."""
        self._known[str(file)] = _stamp(file)

    def forget(self, file: Path) -> None:
        """Have a file verified again the next time."""
        self._known.pop(str(file), None)

    def save(self) -> None:
        """Save what is remembered. If it cannot be written, files are merely verified once more."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            new = self._path.with_suffix(".new")
            new.write_text(json.dumps(self._known, indent=0), encoding="utf-8")
            new.replace(self._path)


def _stamp(file: Path) -> list[int]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]
