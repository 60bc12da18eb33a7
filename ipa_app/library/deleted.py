"""What was deleted lies in a folder for some time, so that it can be brought back: each deletion in one of its own."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

KEPT_DELETED_S = 30 * 86400.0
"""How long what was deleted lies in its folder."""

_DELETION = re.compile(r"\d+-[0-9a-f]{32}")


def new_deletion() -> str:
    """Return the name of a deletion's folder, which says when it was."""
    return f"{int(time.time())}-{uuid.uuid4().hex}"


def is_deletion(name: str) -> bool:
    """Whether a name is that of a deletion's folder."""
    return _DELETION.fullmatch(name) is not None


def remove_for_good(deleted: Path) -> None:
    """Remove what was deleted long ago, and nothing else that lies there."""
    with suppress(OSError):  # nothing was deleted yet
        for folder in list(deleted.iterdir()):
            is_old = is_deletion(folder.name) and int(folder.name.split("-")[0]) < time.time() - KEPT_DELETED_S
            if is_old and folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)
