"""Lists of files and folders in environment variables."""

from __future__ import annotations

import os
from pathlib import Path


def listed(text: str) -> list[str]:
    """Return the items of a list, separated as in PATH or by semicolons, each a path or name=path.

    Empty items are dropped, and spaces and quotes around items are stripped.
    """
    items = [_bare(item) for item in text.split(os.pathsep)]
    # A semicolon may be part of a name if it is not the system's path separator.
    parts = [_bare(part) for item in items for part in ([item] if _is_there(item) else item.split(";"))]
    return [part for part in parts if part]


def absolute(text: str) -> Path:
    """Return the absolute path of typed text. Links are not resolved: their targets may have other names."""
    text = _bare(text)
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # there is no home folder for that user name
        path = Path(text)
    return Path(os.path.normpath(path.absolute()))


def named_path(item: str) -> tuple[str, Path]:
    """Parse a path or name=path; a path may contain an equals sign, and a name anything but slashes.

    Returns:
        The name, empty if there is none, and the absolute path.
    """
    name, _, path = item.partition("=")
    if not _bare(path) or "/" in name or "\\" in name or _exists(item):
        return "", absolute(item)
    return _bare(name), absolute(path)


def _bare(text: str) -> str:
    return text.strip().strip("\"'").strip()


def _is_there(item: str) -> bool:
    return _exists(item) or _exists(item.partition("=")[2] or item)


def _exists(text: str) -> bool:
    try:
        return absolute(text).exists()
    except OSError:
        return False
