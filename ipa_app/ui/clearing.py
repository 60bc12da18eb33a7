"""Deletes visitors' uploads and results after a day, whichever process wrote them.

Gradio only deletes files of its own process, and never those of one that has ended.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

from ipa_app.ui.studio import JOB_FOLDER, ZIP_FOLDER

logger = logging.getLogger(__name__)

KEPT_S = 86400
_EVERY_S = 3600

# Gradio keeps each file in a folder named by the SHA-256 of its content, and `uploads` keeps those of pages in folders
# of as many random digits. Unfinished uploads are files beside these folders.
_FOLDER = re.compile(r"[0-9a-f]{64}")
_UPLOADING = re.compile(r"tmp[a-z0-9_]{8}")
# Folders of results, also beside these.
_MADE = re.compile(rf"(?:{JOB_FOLDER}|{ZIP_FOLDER})[0-9a-f]{{32}}(?:-[0-9]+)?")


def begin_clearing(page: gr.Blocks) -> None:
    """Delete old files now and then every hour, in a thread of its own."""

    def run() -> None:
        while True:
            try:
                clear_away(Path(get_upload_folder()), kept=_kept(page))
            except OSError as error:
                logger.warning("The folder of uploads cannot be cleared: %s", error)
            time.sleep(_EVERY_S)

    threading.Thread(target=run, name="clearing", daemon=True).start()


def clear_away(folder: Path, *, kept: Collection[str] = (), older_than_s: float = KEPT_S) -> None:
    """Delete old files from Gradio's and the studio's folders in a folder, and empty ones of these; all else stays.

    Args:
        folder: where Gradio keeps the files that it serves. Other processes may be using it.
        kept: files that this process needs as long as it runs; touched, so that other processes keep them too.
        older_than_s: minimum age in seconds, since a file was last written or touched.

    Raises:
        OSError: the folder cannot be read.
    """
    for path in kept:
        with suppress(OSError):
            os.utime(path)
    since = time.time() - older_than_s
    if not folder.is_dir():
        return
    for entry in _entries(folder):
        is_old, is_ours = _is_older(entry, since), not _is_for_all_programs(folder)
        if entry.is_dir(follow_symlinks=False):
            if _FOLDER.fullmatch(entry.name) or (is_ours and _MADE.fullmatch(entry.name)):
                with suppress(OSError):  # another process was faster, or it is another user's
                    _clear(Path(entry.path), since=since, is_old=is_old)
        elif is_old and is_ours and _UPLOADING.fullmatch(entry.name):
            _remove(entry)


def _clear(folder: Path, *, since: float, is_old: bool) -> None:
    for entry in _entries(folder):
        if _is_older(entry, since):
            _remove(entry)
    # A folder that has just changed stays, as more files may be about to come.
    if is_old:
        folder.rmdir()


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as found:
        yield from found


def _is_older(entry: os.DirEntry[str], since: float) -> bool:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return False
    # A copy may have the mtime of its original, but has a ctime of its own.
    return max(found.st_ctime, found.st_mtime) < since


def _remove(entry: os.DirEntry[str]) -> None:
    if entry.is_file(follow_symlinks=False):
        with suppress(OSError):
            Path(entry.path).unlink()


def _is_for_all_programs(folder: Path) -> bool:
    return folder.resolve() == Path(tempfile.gettempdir()).resolve()


def _kept(page: gr.Blocks) -> set[str]:
    """Return the files of the page itself, as opposed to its visitors'."""
    return {path for block in page.blocks.values() for path in getattr(block, "keep_in_cache", ())}
