"""Models on the Hugging Face Hub: downloading them, checking them, and assembling their folders.

The parts go into huggingface_hub's own cache, shared with every other program. A model's folder, in the layout of any
other model here, consists of links into it, or of copies where links are not possible.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download, is_offline_mode, try_to_load_from_cache

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.entry import HubFiles, HubPart, ModelEntry
from ipa_app.models.fetching import (
    OFFLINE,
    RemoteFile,
    VerifiedFiles,
    check_cancel,
    fetch,
    has_digest,
    hub_errors,
    is_digest,
)
from ipa_app.models.state import Report
from ipa_app.models.units import Meter, size_text

logger = logging.getLogger(__name__)

_LIBRARY = "ip-adapter-studio"
_LISTING_TIMEOUT_S = 15.0
_SPARE_BYTES = 200 * 10**6


def model_folder(name: str) -> Path:
    """Return the folder where the parts of a model are assembled; it need not exist yet."""
    return Path(constants.HF_ASSETS_CACHE) / _LIBRARY / name


def is_downloaded(entry: HubFiles) -> bool:
    """Whether every part of a model is in the cache; always true for a model without parts."""
    return not any(_missing(part) for part in entry.parts)


def download(entry: HubFiles, *, report: Report, cancel: threading.Event) -> None:
    """Fetch the missing files of a model's parts; what an earlier try has fetched is not fetched again.

    Args:
        entry: of the model.
        report: called with the progress, several times a second.
        cancel: when set, ends it soon; what has arrived is kept.

    Raises:
        Cancelled: `cancel` was set.
        UserError: it is not possible, and why: no network, no permission, no disk space.
    """
    missing = [(part, paths) for part in entry.parts if (paths := _missing(part))]
    if missing and is_offline_mode():
        raise UserError("download.not_here", title=entry.title, reason=OFFLINE)
    report(0.0, Message("doing.asking_hub"))
    files: list[RemoteFile] = []
    for part, paths in missing:
        check_cancel(cancel)
        files += _listed(part, paths)
    _check_room(entry, files)
    meter = Meter(sum(file.size for file in files), done=sum(_arrived(file) for file in files))
    checked = _checked()

    def count(arrived: int) -> None:
        meter.add(arrived)
        report(meter.share, meter.text())

    for file in files:
        with hub_errors(file.repo):
            fetch(file, count=count, cancel=cancel)
            # With its content in place, this only creates the name under which the cache lists it.
            hf_hub_download(file.repo, file.path, revision=file.revision)
        checked.remember(file.blob)
        checked.save()


def discard_damaged(entry: HubFiles, *, cancel: threading.Event) -> list[str]:
    """Delete the cached files of a model whose content does not match the Hub's digest.

    A file that was verified before, and has not changed since, is not read again.

    Returns:
        The names of the deleted files.

    Raises:
        Cancelled: `cancel` was set.
    """
    checked, damaged = _checked(), []
    for name, link, blob in _blobs(entry):
        if checked.contains(blob):
            continue
        if has_digest(blob, blob.name, cancel=cancel):
            checked.remember(blob)
        else:
            logger.warning("%s is damaged and is deleted.", blob)
            checked.forget(blob)
            link.unlink()
            blob.unlink()
            damaged.append(name)
    checked.save()
    return damaged


def invalidate(entry: HubFiles) -> None:
    """Have a model's files verified again at the next check, as they may have been damaged unnoticed."""
    if not entry.parts:
        return
    checked = _checked()
    for _, _, blob in _blobs(entry):
        checked.forget(blob)
    checked.save()


def ensure_downloaded(entry: HubFiles, *, report: Report, cancel: threading.Event) -> dict[str, Path]:
    """Return the files of an entry, by their names; missing or damaged ones are fetched first.

    Args:
        entry: whose files to return.
        report: as for `download`, and called only if there is something to fetch.
        cancel: as for `download`.

    Raises:
        Cancelled: `cancel` was set.
        UserError: it is not possible, and why.
    """
    if discard_damaged(entry, cancel=cancel) or not is_downloaded(entry):
        download(entry, report=report, cancel=cancel)
    found = {place: _cached(part, path) for part in entry.parts for path, place in part.files.items()}
    return {place: path for place, path in found.items() if path is not None}


def link_snapshot(entry: ModelEntry) -> None:
    """Assemble a model's folder from its downloaded parts.

    Raises:
        UserError: a part is missing, or the folder cannot be written.
    """
    wanted: dict[Path, Path] = {}
    for part in entry.parts:
        for path, place in part.files.items():
            found = _cached(part, path)
            if found is None:
                raise UserError("download.incomplete", title=entry.title, path=path, repo=part.repo)
            wanted[entry.location / place] = found
    try:
        for stale in _linked_before(entry.location) - wanted.keys():
            stale.unlink(missing_ok=True)
        for link, target in wanted.items():
            _link(link, target)
        names = [link.relative_to(entry.location).as_posix() for link in wanted]
        _contents_of(entry.location).write_text(json.dumps(names), "utf-8")
    except OSError as error:
        raise UserError("download.cannot_write", folder=entry.location, error=error.strerror) from error


def _contents_of(folder: Path) -> Path:
    """Return the path of the list of what was put into a folder; it is beside the folder."""
    return folder.with_name(f"{folder.name}.json")


def _linked_before(folder: Path) -> set[Path]:
    """Return what earlier calls have put into a folder: what its list names, and all symbolic links."""
    try:
        listed = json.loads(_contents_of(folder).read_text("utf-8"))
    except (OSError, ValueError):
        listed = []
    return {folder / name for name in listed} | {path for path in folder.rglob("*") if path.is_symlink()}


def _link(link: Path, target: Path) -> None:
    """Create a symbolic or hard link to a file, or a copy if the system refuses both.

    Windows lets only developers and administrators create symbolic links, and some file systems have none.
    """
    if _stands_for(link, target):
        return
    link.parent.mkdir(parents=True, exist_ok=True)
    new = link.with_name(f"{link.name}.{os.getpid()}.new")
    new.unlink(missing_ok=True)
    try:
        new.symlink_to(target)
    except OSError:
        try:
            new.hardlink_to(target.resolve())
        except OSError:
            shutil.copy2(target, new)
    new.replace(link)


def _stands_for(link: Path, target: Path) -> bool:
    if link.is_symlink():
        return link.readlink() == target
    if not link.is_file():
        return False
    ours, others = link.stat(), target.stat()
    return link.samefile(target) or (ours.st_size, ours.st_mtime_ns) == (others.st_size, others.st_mtime_ns)


def _cached(part: HubPart, path: str) -> Path | None:
    found = try_to_load_from_cache(part.repo, path, revision=part.revision)
    return Path(found) if isinstance(found, str) else None


def _missing(part: HubPart) -> list[str]:
    return [path for path in part.files if _cached(part, path) is None]


def _blobs(entry: HubFiles) -> Iterator[tuple[str, Path, Path]]:
    """Yield every cached file of a model that can be verified by a digest: its name, its link and its content."""
    for part in entry.parts:
        for path in part.files:
            link = _cached(part, path)
            if link is None or not link.is_symlink():
                continue
            # Follow one link only: the cache may keep the content of several repositories' files in one shared place.
            blob = link.parent / link.readlink()
            if is_digest(blob.name):
                yield path, link, Path(os.path.normpath(blob))


def _listed(part: HubPart, paths: list[str]) -> list[RemoteFile]:
    """Ask the Hub for the sizes and digests of files.

    Raises:
        UserError: the Hub cannot be reached, or no longer has one of them.
    """
    with hub_errors(part.repo):
        info = HfApi().model_info(part.repo, revision=part.revision, files_metadata=True, timeout=_LISTING_TIMEOUT_S)
    listed = {each.rfilename: each for each in info.siblings or ()}
    files = []
    for path in paths:
        known = listed.get(path)
        digest = known and (known.lfs.sha256 if known.lfs else known.blob_id)
        if known is None or known.size is None or not digest or not is_digest(digest):
            raise UserError("download.file_missing", repo=part.repo, path=path)
        files.append(
            RemoteFile(repo=part.repo, revision=part.revision, path=path, size=known.size, digest=digest),
        )
    return files


def _arrived(file: RemoteFile) -> int:
    """Return how many bytes of a file are on the disk."""
    for path in (file.blob, file.partial):
        if path.exists():
            return min(path.stat().st_size, file.size)
    return 0


def _check_room(entry: HubFiles, files: list[RemoteFile]) -> None:
    """Check that what is still to be fetched fits on the disk.

    Raises:
        UserError: it does not; the message says how much is needed and how much is free.
    """
    needed = sum(file.size - _arrived(file) for file in files)
    folder = Path(constants.HF_HUB_CACHE)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if needed and needed + _SPARE_BYTES > free:
        raise UserError(
            "download.no_room",
            title=entry.title,
            needed=size_text(needed),
            folder=constants.HF_HUB_CACHE,
            free=size_text(free),
        )


def _checked() -> VerifiedFiles:
    return VerifiedFiles(Path(constants.HF_ASSETS_CACHE) / _LIBRARY / "checked.json")
