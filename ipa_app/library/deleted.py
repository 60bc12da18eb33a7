"""Deleted files, which are kept for some time so that they can be restored: one folder per deletion."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

KEPT_DELETED_S = 30 * 86400.0
"""Seconds that deleted files are kept."""

_DELETION = re.compile(r"\d+-[0-9a-f]{32}")


def new_deletion() -> str:
    """Return a name for a deletion's folder, which contains the current time."""
    return f"{int(time.time())}-{uuid.uuid4().hex}"


def is_deletion(name: str) -> bool:
    """Whether a name has the form of a deletion's folder."""
    return _DELETION.fullmatch(name) is not None


def remove_for_good(deleted: Path) -> None:
    """Remove deletions older than `KEPT_DELETED_S`, and nothing else in the folder."""
    with suppress(OSError):  # nothing has been deleted yet
        for folder in list(deleted.iterdir()):
            is_old = is_deletion(folder.name) and int(folder.name.split("-")[0]) < time.time() - KEPT_DELETED_S
            if is_old and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
