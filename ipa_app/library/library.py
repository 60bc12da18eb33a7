"""The folder: where it is, and whose."""

from __future__ import annotations

import errno
import ipaddress
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from ipa_app.library.deleted import remove_for_good
from ipa_app.library.pictures import Pictures
from ipa_app.library.sets import NamedFiles
from ipa_app.library.waiting import WaitingRequests
from ipa_app.runtime import is_on, named_folder

logger = logging.getLogger(__name__)

VARIABLE = "IPA_LIBRARY"
SHARED_VARIABLE = "IPA_LIBRARY_SHARED"
_USUAL = "IP-Adapter Studio"


class Library:
    """Pictures that were made and requests that wait, in a folder that is this process's alone.

    Attributes:
        folder: it.
        pictures: what was made.
        waiting: what is to be drawn.
    """

    def __init__(self, folder: Path) -> None:
        """Open a folder, which is made where it is missing.

        Raises:
            OSError: it cannot be written to.
            Timeout: another process has it.
        """
        self.folder = folder.resolve()
        # Where it is made here, nobody else of the machine reads it.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The system lets go of it when the process ends, in whatever way.
        self._lock = FileLock(self.folder / "lock", timeout=0, thread_local=False)
        self._lock.acquire()
        self._locked, self._holding = self._lock_file(), threading.Lock()
        self.pictures = Pictures(
            self.folder / "pictures",
            index=self.folder / "index.sqlite",
            deleted=self.folder / "deleted",
            hold=self._hold,
        )
        self.waiting = WaitingRequests(self.folder / "waiting", hold=self._hold)

    def _lock_file(self) -> tuple[int, int] | None:
        """Return which file bears the lock's name; None where there is none."""
        try:
            found = (self.folder / "lock").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _hold(self) -> None:
        """Make sure that the folder is this process's still: one that was away, with its disk, has another lock.

        Raises:
            OSError: it cannot be written to, or another process has it by now.
        """
        with self._holding:
            if self._locked is not None and self._lock_file() == self._locked:
                return
            self._locked = None
            self._lock.release()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                raise OSError(errno.EBUSY, "another process has it", str(self.folder)) from None
            self._locked = self._lock_file()
            logger.warning("The library %s was away; it is locked anew, and things are kept there again.", self.folder)

    def named_files(self, folder: str, name_in: Callable[[bytes], str | None]) -> NamedFiles:
        """Return files that people keep under names, in a folder of the library; `name_in` is as for `NamedFiles`."""
        return NamedFiles(self.folder / folder, deleted=self.folder / "deleted", name_in=name_in)

    def remove_deleted(self) -> None:
        """Remove what was deleted long ago, for good."""
        remove_for_good(self.folder / "deleted")

    def close(self) -> None:
        """Let another process have it."""
        self.pictures.close()
        self._lock.release()


def open_library(environment: Mapping[str, str]) -> Library | None:
    """Open the folder that `chosen_folder` names; None without one, or where it cannot be used, which the log says."""
    folder = chosen_folder(environment)
    if folder is None:
        return None
    try:
        return Library(folder)
    except Timeout:
        logger.warning("The library %s is in use by another process, so that nothing made here is kept.", folder)
    except OSError as error:
        logger.warning("The library %s cannot be written to, so that nothing made here is kept: %s", folder, error)
    return None


def chosen_folder(environment: Mapping[str, str]) -> Path | None:
    """Return where things are kept: the folder that `IPA_LIBRARY` names, where it is set, none where that is empty.

    Otherwise it is one in the home folder of whoever runs the app for themselves, and none where others can reach it,
    or where there is no such folder, which the log says.

    Raises:
        UserError: it is named by somebody's home folder whom this machine does not know.
    """
    if VARIABLE in environment:
        return named_folder(environment, VARIABLE)
    if others_can_come(environment):
        return None
    try:
        return Path.home() / _USUAL
    except RuntimeError:
        logger.warning("There is no home folder, so that nothing made here is kept; %s may name a folder.", VARIABLE)
        return None


def is_shown(environment: Mapping[str, str]) -> bool:
    """Return whether everybody who opens the page may see, and delete, what all have made.

    Raises:
        UserError: `IPA_LIBRARY_SHARED` is neither 1 nor 0.
    """
    return is_on(environment, SHARED_VARIABLE) or not others_can_come(environment)


def others_can_come(environment: Mapping[str, str]) -> bool:
    """Return whether the app runs on a Space or listens beyond this machine, as Gradio's own variables say."""
    is_shared = environment.get("GRADIO_SHARE", "").strip().lower() == "true"
    return "SPACE_ID" in environment or is_shared or not is_loopback(environment.get("GRADIO_SERVER_NAME", ""))


def is_loopback(server_name: str) -> bool:
    """Return whether a name or an address, empty where none is given, leads to this machine from itself alone."""
    name = server_name.strip().strip("[]")
    try:
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
