"""What the whole process shares: the locks under which networks are built, its threads, variables and files."""

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
"""Held while a network is built. While from_pretrained() runs, diffusers has torch build every module of the process
without weights, whatever thread builds it; and two loads that overlap would leave it so for ever."""
COMPILE_LOCK = threading.RLock()
"""Held while a network is compiled, which takes minutes, and by what must not happen meanwhile. Taken before the other
one where both are; see `building`."""

_LOOK_EVERY_S = 0.2
_NICENESS = 5
_MOST_FILES = 65536
_ARENAS = 2
_DEVICE = re.compile(r"cpu|mps|cuda(?::(?:0|[1-9][0-9]?))?")
# Source: glibc's malloc.h.
_M_ARENA_MAX = -8


@contextmanager
def held(lock: threading.RLock, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold one of the locks of above.

    Args:
        lock: to be held.
        check: called several times a second while it is waited for; may raise to give up.
    """
    while not lock.acquire(timeout=_LOOK_EVERY_S):
        check()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def building(check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Build networks by what changes torch meanwhile, as from_pretrained() and peft do: nothing is compiled then.

    Args:
        check: as for `held`.
    """
    with held(COMPILE_LOCK, check), held(BUILD_LOCK, check):
        yield


def is_on(environment: Mapping[str, str], variable: str) -> bool:
    """Return whether a variable switches something on, by "1" or "true"; "0", "false" and nothing do not.

    Raises:
        UserError: it says something else.
    """
    text = environment.get(variable, "").strip()
    if text.lower() in ("1", "true"):
        return True
    if text.lower() in ("", "0", "false"):
        return False
    raise UserError.plain(f"{variable} is {text!r}; it must be 1 or 0.")


def compile_backend(environment: Mapping[str, str]) -> str | None:
    """Return what UNets are compiled with, where IPA_COMPILE says that they shall be, by torch's name.

    Raises:
        UserError: it says neither 1 nor 0.
    """
    return "inductor" if is_on(environment, "IPA_COMPILE") else None


def device_name(environment: Mapping[str, str]) -> str | None:
    """Return the torch device that IPA_DEVICE names; None for the fastest. Whether it is there, shows with a model.

    Raises:
        UserError: it names none that models can be drawn with.
    """
    text = environment.get("IPA_DEVICE", "").strip()
    if text and not _DEVICE.fullmatch(text):
        raise UserError.plain(f"IPA_DEVICE is {text!r}; it must be cpu, cuda or mps, or one of several, as cuda:1 is.")
    return text or None


def whole_number(environment: Mapping[str, str], variable: str, default: int) -> int:
    """Return a variable's number, the default where it is not set or empty.

    Raises:
        UserError: it is no whole number of at least 1.
    """
    text = environment.get(variable, "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise UserError.plain(f"{variable} is {text!r}; it must be a whole number of at least 1.")
    return int(text)


def root_path(environment: Mapping[str, str]) -> str:
    """Return the path or address, by GRADIO_ROOT_PATH, under which a proxy shows the page; empty for its own.

    Raises:
        UserError: it is neither; Gradio would begin all the same, and the page would stay empty.
    """
    text = bare(environment.get("GRADIO_ROOT_PATH", "")).rstrip("/")
    if text and not re.match(r"(?:https?:/)?/[^/\s]", text):
        raise UserError.plain(
            f"GRADIO_ROOT_PATH is {text!r}; it must be a path that begins with /, as /studio does, or a whole address, "
            "as https://example.org/studio is."
        )
    return text


def bare(text: str) -> str:
    """Return what somebody typed without spaces and quotes around it, which not everything that reads it takes off."""
    return text.strip().strip("\"'").strip()


def absolute(text: str) -> Path:
    """Return the whole path of what somebody typed. A link stays one: what is behind it may be called otherwise."""
    text = bare(text)
    try:
        path = Path(text).expanduser()
    except RuntimeError:  # nobody of that name has a home
        path = Path(text)
    return Path(os.path.normpath(path.absolute()))


def named_folder(environment: Mapping[str, str], variable: str) -> Path | None:
    """Return the whole path of the folder that a variable names; None where it is not set or empty.

    Raises:
        UserError: it is named by somebody's home folder whom this machine does not know.
    """
    text = bare(environment.get(variable, ""))
    try:
        return Path(os.path.normpath(Path(text).expanduser().absolute())) if text else None
    except RuntimeError:
        raise UserError.plain(f"{variable} is {text!r}; there is no home folder that this begins with.") from None


def thread_count(processes: int = 1) -> int:
    """Threads for a model: a core is left to the browser and the page, or to whatever else asks for pictures.

    The threads of a small model wait for one another thousands of times a picture, so that one that cannot run holds up
    all of them.

    Args:
        processes: that draw on this machine, and share the rest.
    """
    return max(1, ((os.cpu_count() or 1) - 1) // processes)


def yield_to_others() -> None:
    """Let others have a core first that this thread would take, and those which it begins from now on.

    Where there are no threads of their own niceness, as on macOS, that counts for the whole process; nothing is done on
    Windows, which has none.
    """
    if hasattr(os, "nice"):
        os.nice(_NICENESS)


def end_with_a_sentence() -> None:
    """Have this process, where it cannot begin by its settings, say why in one sentence and not by a traceback."""

    def said(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if isinstance(error, UserError):
            print(error, file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, traceback)

    sys.excepthook = said


def end_when_told() -> None:
    """Have this process end on SIGTERM from its beginning on, with code 0, until it has something to finish first.

    The first process of a container would go on: there the system drops a signal that nobody handles.
    """
    # Whoever loads the app anew does so in another thread, where no signal can be handled.
    if threading.current_thread() is threading.main_thread():
        # Without waiting for any thread: nothing has been begun that a kill would break.
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))


def begin_log() -> None:
    """Log what this app says, and no addresses that it asks others for, which may have secrets in them."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    for name in ("httpx", "httpcore", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)


def allow_many_files() -> None:
    """Let this process have as many files open as it may have, which every page that is open counts among."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
        if soft != resource.RLIM_INFINITY and soft < most:
            with suppress(ValueError, OSError):  # macOS has a limit of its own besides
                resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def limit_malloc_arenas() -> None:
    """Have the threads of this process share few of glibc's heaps, unless its MALLOC_ARENA_MAX says how many there are.

    Each heap keeps what its busiest moment took, and glibc makes eight for each core: with a thread for whoever waits,
    memory would grow for hours. Nothing is drawn more slowly. For the beginning of a process, before it has threads.
    """
    if sys.platform == "linux" and "MALLOC_ARENA_MAX" not in os.environ:
        # Another C library may have no such setting.
        set_option = getattr(ctypes.CDLL(None), "mallopt", None)
        if set_option is not None:
            set_option(_M_ARENA_MAX, _ARENAS)


@contextmanager
def written_whole(path: Path, *, by_many: bool = False) -> Iterator[Path]:
    """Yield where to write a file, which then takes its place in one step: half of one is never taken for all.

    Whoever may read new files here may read it, though some libraries write for their user alone.

    Args:
        path: where to; a file of that name is replaced.
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
        part.unlink(missing_ok=True)  # half a file helps nobody, least of all on a full disk


def temporary_folder() -> Path:
    """Return a folder for what visitors send and get, which is this user's own; nobody else of the machine reads it.

    Gradio's usual one is the same for all users of a machine, so that the second of them could not write there.

    Raises:
        UserError: something that is not this user's has its name.
    """
    if sys.platform == "win32":
        # There the system's folder is each user's own.
        return Path(tempfile.gettempdir()) / "gradio"
    folder = Path(tempfile.gettempdir()) / f"gradio-{os.getuid()}"
    if not (folder.is_symlink() or folder.exists()):
        folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or not folder.is_dir() or folder.stat().st_uid != os.getuid():
        raise UserError.plain(f"{folder} is not this user's; please set GRADIO_TEMP_DIR to a folder that is.")
    return folder


def give_back_unused() -> None:
    """Return to the device what torch merely keeps for later; torch is not imported for it."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif torch.backends.mps.is_available():
        torch.mps.empty_cache()
