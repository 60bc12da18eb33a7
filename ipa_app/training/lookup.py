"""Finding files by names that were written on another system."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePosixPath


def same_name(name: str) -> str:
    """Bring a file name to the form that is the same for all spellings of it.

    macOS writes accents as characters of their own (NFD), others do not (NFC); Windows and macOS do not tell capital
    letters from small ones.
    """
    return unicodedata.normalize("NFC", name).casefold()


class FileFinder:
    """Finds files by the names that data gives them, however its author's system spells names."""

    def __init__(self, root: Path) -> None:
        """Look at nothing yet.

        Args:
            root: folder that names start from, unless they are absolute.
        """
        self._root = root
        self._folders: dict[Path, dict[str, list[str]]] = {}
        self._resolved: dict[Path, Path] = {}

    def find(self, name: str) -> Path | None:
        """Return the file of this name, or None: the same path whatever name and links lead to it.

        The name as it stands counts first, then with backslashes as separators, then with accents composed in another
        way, and at last in other capital letters, where only one file can be meant.
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
        """How something in a folder is really called."""
        if folder not in self._folders:
            names = self._folders[folder] = {}
            try:
                for path in folder.iterdir():
                    names.setdefault(same_name(path.name), []).append(path.name)
            except OSError:
                pass  # there is no such folder, so nothing is found in it
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
