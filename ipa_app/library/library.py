"""The library's folder: its location, and which process it belongs to."""

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
    """Results and waiting requests, in a folder that this process holds the lock of.

    Attributes:
        folder: the folder.
        pictures: the results.
        waiting: the waiting requests.
    """

    def __init__(self, folder: Path) -> None:
        """Open a folder, which is created if it is missing.

        Raises:
            OSError: it cannot be written to.
            Timeout: another process has it.
        """
        self.folder = folder.resolve()
        # If created here, no other user of the machine can read it.
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # The system releases the lock when the process ends, in whatever way.
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
        """Return the device and inode of the lock file; None if there is none."""
        try:
            found = (self.folder / "lock").stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _hold(self) -> None:
        """Check that this process still holds the folder, and lock it again if it has been replaced.

        Raises:
            OSError: it cannot be written to, or another process holds it now.
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
            logger.warning(
                "The library %s was away; it is locked again, and things are kept there as before.", self.folder
            )

    def named_files(self, folder: str, name_in: Callable[[bytes], str | None]) -> NamedFiles:
        """Return the named files in a folder of the library; `name_in` is as for `NamedFiles`."""
        return NamedFiles(self.folder / folder, deleted=self.folder / "deleted", name_in=name_in, hold=self._hold)

    def remove_deleted(self) -> None:
        """Remove old deletions for good."""
        remove_for_good(self.folder / "deleted")

    def close(self) -> None:
        """Close the index, and release the lock."""
        self.pictures.close()
        self._lock.release()


def open_library(environment: Mapping[str, str]) -> Library | None:
    """Open the folder from `chosen_folder`; return None without one, or with a warning if it cannot be used."""
    folder = chosen_folder(environment)
    if folder is None:
        return None
    try:
        return Library(folder)
    except Timeout:
        logger.warning("The library %s is in use by another process, so nothing made here is kept.", folder)
    except OSError as error:
        logger.warning("The library %s cannot be written to, so nothing made here is kept: %s", folder, error)
    return None


def chosen_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the library's folder: the one that `IPA_LIBRARY` names if it is set, None if that is empty.

    If it is not set: a folder in the user's home, but None if others can reach the app, or, with a warning, if there is
    no home folder.

    Raises:
        UserError: `IPA_LIBRARY` begins with the home folder of an unknown user, as in "~name".
    """
    if VARIABLE in environment:
        return named_folder(environment, VARIABLE)
    if others_can_come(environment):
        return None
    try:
        return Path.home() / _USUAL
    except RuntimeError:
        logger.warning("There is no home folder, so nothing made here is kept; %s can name a folder for it.", VARIABLE)
        return None


def is_shown(environment: Mapping[str, str]) -> bool:
    """Return whether every visitor may see, and delete, the results of all.

    Raises:
        UserError: `IPA_LIBRARY_SHARED` is neither 1 nor 0.
    """
    return is_on(environment, SHARED_VARIABLE) or not others_can_come(environment)


def others_can_come(environment: Mapping[str, str]) -> bool:
    """Return whether others can reach the app: on a Space, by a share link, or by a server name beyond loopback."""
    is_shared = environment.get("GRADIO_SHARE", "").strip().lower() == "true"
    return "SPACE_ID" in environment or is_shared or not is_loopback(environment.get("GRADIO_SERVER_NAME", ""))


def is_loopback(server_name: str) -> bool:
    """Return whether a server name or address is a loopback one; so is an empty one, Gradio's default."""
    name = server_name.strip().strip("[]")
    try:
        return name in ("", "localhost") or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
