"""Find files by names that were written on another system."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath


def same_name(name: str) -> str:
    """Normalise a file name to a form shared by all of its spellings.

    macOS writes accents as separate characters (NFD), others do not (NFC); Windows and macOS ignore the case of
    letters.
    """
    return unicodedata.normalize("NFC", name).casefold()


class FileFinder:
    """Finds files by their names in the data, however its author's system spells them."""

    def __init__(self, root: Path) -> None:
        """Create a finder; no folder is read yet.

        Args:
            root: folder that relative names start from.
        """
        self._root = root
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._resolved: dict[Path, Path] = {}

    def find(self, name: str) -> Path | None:
        """Return the file of this name, or None. The path is the same whichever names and links lead to it.

        The name is tried as it stands, then with backslashes as separators, then with accents composed differently,
        and last ignoring case, if only one file can be meant.
        """
        for spelling in (name, name.replace("\\", "/")):
            path = self._root / spelling
            if _is_file(path):
                return self._one_path(path)
        found = self._search(PurePosixPath(name.replace("\\", "/")))
        return None if found is None else self._one_path(found)

    def _one_path(self, path: Path) -> Path:
        if path.is_symlink():
            return path.resolve()
        if path.parent not in self._resolved:  # once per folder: there may be a million files in it
            self._resolved[path.parent] = path.parent.resolve()
        return self._resolved[path.parent] / path.name

    def _search(self, name: PurePosixPath) -> Path | None:
        path = self._root
        for part in name.parts:
            if part in ("/", ".", ".."):
                path = path / part
                continue
            spelled = self._spelled(path, part)
            if spelled is None:
                return None
            path = path / spelled
        return path if _is_file(path) else None

    def _spelled(self, folder: Path, part: str) -> str | None:
        """Return the actual name of something in a folder."""
        if folder not in self._folders:
            names = self._folders[folder] = {}
            try:
                for path in folder.iterdir():
                    names.setdefault(same_name(path.name), []).append(path.name)
            except OSError:
                pass  # there is no such folder, so there is nothing to find
        composed = unicodedata.normalize("NFC", part)
        found = self._folders[folder].get(same_name(part), [])
        exact = [name for name in found if unicodedata.normalize("NFC", name) == composed]
        candidates = exact or found
        return candidates[0] if len(candidates) == 1 else None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or one that no system takes
        return False
