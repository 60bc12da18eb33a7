"""Process-wide matters: the locks for building networks, threads, environment variables and files."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import re
import signal
import stat
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from ipa_app.errors import UserError

BUILD_LOCK = threading.RLock()
"""Held while a network is built. While from_pretrained() runs, diffusers patches torch so that modules are built
without weights in every thread of the process; two overlapping loads would leave the patch in place for good."""
COMPILE_LOCK = threading.RLock()
"""Held while a network is compiled, which takes minutes, and by whatever must not run meanwhile. Where both locks are
taken, this one comes first; see `building`."""

_LOOK_EVERY_S = 0.2
_NICENESS = 5
_MOST_FILES = 65536
_ARENAS = 2
_DEVICE = re.compile(r"cpu|mps|cuda(?::(?:0|[1-9][0-9]?))?")
# Source: glibc's malloc.h.
_M_ARENA_MAX = -8


@contextmanager
def held(lock: threading.RLock, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold one of the locks above.

    Args:
        lock: the lock to hold.
        check: called several times a second while waiting for the lock; may raise to give up.
    """
    while not lock.acquire(timeout=_LOOK_EVERY_S):
        check()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def building(check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold both locks, to build networks with code that patches torch meanwhile, as from_pretrained() and peft do.

    Nothing is compiled while they are held.

    Args:
        check: as for `held`.
    """
    with held(COMPILE_LOCK, check), held(BUILD_LOCK, check):
        yield


def is_on(environment: Mapping[str, str], variable: str) -> bool:
    """Return whether a variable is on: "1" and "true" are on; "0", "false", empty and unset are off.

    Raises:
        UserError: the variable has another value.
    """
    text = environment.get(variable, "").strip()
    if text.lower() in ("1", "true"):
        return True
    if text.lower() in ("", "0", "false"):
        return False
    raise UserError.plain(f"{variable} is {text!r}; it must be 1 or 0.")


def compile_backend(environment: Mapping[str, str]) -> str | None:
    """Return the torch backend to compile UNets with if IPA_COMPILE is on, else None.

    Raises:
        UserError: IPA_COMPILE is neither on nor off; see `is_on`.
    """
    return "inductor" if is_on(environment, "IPA_COMPILE") else None


def device_name(environment: Mapping[str, str]) -> str | None:
    """Return the torch device that IPA_DEVICE names; None for the fastest.

    Whether the device exists is only found out when a model is loaded.

    Raises:
        UserError: it names no device that models can run on.
    """
    text = environment.get("IPA_DEVICE", "").strip()
    if text and not _DEVICE.fullmatch(text):
        raise UserError.plain(
            f"IPA_DEVICE is {text!r}; it must be cpu, cuda or mps, or one of several, such as cuda:1."
        )
    return text or None


def whole_number(environment: Mapping[str, str], variable: str, default: int) -> int:
    """Return a variable's number, or the default if it is unset or empty.

    Raises:
        UserError: it is not a whole number of at least 1.
    """
    text = environment.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise UserError.plain(f"{variable} is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def root_path(environment: Mapping[str, str]) -> str:
    """Return GRADIO_ROOT_PATH: the path or address under which a proxy serves the page; empty if there is none.

    Raises:
        UserError: it is neither a path nor an address; Gradio would start, but the page would stay empty.
    """
    text = bare(environment.get("GRADIO_ROOT_PATH", "")).rstrip("/")
    if text and not re.match(r"(?:https?:/)?/[^/\s]", text):
        raise UserError.plain(
            f"GRADIO_ROOT_PATH is {text!r}; it must be a path that begins with /, as /studio does, or a whole address, "
            "as https://example.org/studio is."
        )
    return text


def bare(text: str) -> str:
    """Return typed text without surrounding spaces and quotes, which some env files keep."""
    return text.strip().strip("\"'").strip()


def absolute(text: str) -> Path:
    """Return the absolute path of typed text. Links are not resolved: their targets may have other names."""
    path = Path(bare(text))
    with suppress(RuntimeError):  # there is no home folder for that user name
        path = path.expanduser()
    return Path(os.path.normpath(path.absolute()))


def named_folder(environment: Mapping[str, str], variable: str) -> Path | None:
    """Return the absolute path of the folder that a variable names; None if it is unset or empty.

    Raises:
        UserError: it begins with the home folder of an unknown user, as in "~name".
    """
    text = bare(environment.get(variable, ""))
    try:
        return absolute(str(Path(text).expanduser())) if text else None
    except RuntimeError:
        raise UserError.plain(f"{variable} is {text!r}, but there is no home folder for it to start from.") from None


def thread_count(processes: int = 1) -> int:
    """Return the number of threads for a model. One core is left to the browser and the page, or to other clients.

    The threads of a small model wait for one another thousands of times per picture, so one that gets no core holds
    them all up.

    Args:
        processes: how many processes draw on this machine and share the other cores.
    """
    return max(1, ((os.cpu_count() or 1) - 1) // processes)


def yield_to_others() -> None:
    """Lower the priority of this thread and of the threads that it starts from now on.

    Where threads have no niceness of their own, as on macOS, this affects the whole process. On Windows, which has no
    niceness, it does nothing.
    """
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def end_with_a_sentence() -> None:
    """Make an uncaught `UserError`, such as a wrong setting at start-up, print one sentence and no traceback."""

    def said(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, UserError):
            print(error, file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = said


def end_when_told() -> None:
    """Exit with code 0 on SIGTERM during start-up, until there is something to finish first.

    Without a handler the first process of a container would ignore the signal.
    """
    # Gradio's reload mode imports the app in another thread, where signal handlers cannot be set.
    if threading.current_thread() is threading.main_thread():
        # Exits without waiting for any thread: nothing has been started that this could break.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def begin_log() -> None:
    """Set up logging, without the URLs that HTTP libraries log, which may contain secrets."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def allow_many_files() -> None:
    """Raise the process's limit of open files as far as allowed; every open page needs one."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):  # macOS has a further limit of its own
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit_malloc_arenas() -> None:
    """Limit the number of glibc's malloc arenas, unless MALLOC_ARENA_MAX sets it.

    Each arena keeps its peak memory, and glibc makes up to eight per core: with a thread for each waiting request,
    memory would grow for hours. Drawing gets no slower. Call this at process start, before there are threads.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        # Other C libraries may lack this setting.
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_ARENA_MAX, _ARENAS)


@contextmanager
def written_whole(path: Path, *, by_many: bool = False) -> Iterator[Path]:
    """Yield a path to write a file to, then move the file into place atomically, so that nobody reads half of it.

    It gets the usual permissions of new files, though some libraries write files that only their user may read.

    Args:
        path: the final path; an existing file is replaced.
        by_many: whether others may be writing the same file at the same time.
    """
    part = path.with_name(f"{uuid.uuid4().hex if by_many else path.name}.part")
    try:
        part.unlink(missing_ok=True)
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)
        yield part
        part.chmod(mode)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)  # half a file is useless, and takes space on a full disk


def temporary_folder() -> Path:
    """Return a folder for visitors' uploads and results that only this user of the machine can read.

    Gradio's default folder is the same for all users of a machine, so a second user could not write there.

    Raises:
        UserError: the path is taken by something that does not belong to this user.
    """
    if sys.platform == "win32":
        # On Windows each user has a temporary folder of their own.
        return Path(tempfile.gettempdir()) / "gradio"
    folder = Path(tempfile.gettempdir()) / f"gradio-{os.getuid()}"
    if not (folder.is_symlink() or folder.exists()):
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        raise UserError.plain(f"{folder} belongs to another user; please set GRADIO_TEMP_DIR to a folder of your own.")
    return folder


def give_back_unused() -> None:
    """Free the device memory that torch caches; torch is not imported for this."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
