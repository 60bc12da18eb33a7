"""What all tests share: an environment without network access, and tiny models on disk."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import signal
import ssl
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.ui.serving import WatchedEngine

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# The models are too small to split across cores: synchronising takes longer than the work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that runs the tests in the background makes them, and every process they start, ignore Ctrl+C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# One folder for uploads and results: Gradio reads the variable anew each time, for every app in the process.
os.environ["GRADIO_TEMP_DIR"] = tempfile.mkdtemp(prefix="gradio-")

# Each client would load all root certificates again, though the tests only talk plain HTTP to this machine.
ssl.create_default_context = functools.cache(ssl.create_default_context)

from pathlib import Path  # noqa: E402 - the environment is read when the libraries are imported

import httpx  # noqa: E402
import psutil  # noqa: E402
import pytest  # noqa: E402

# On a busy machine an answer may take longer than the five seconds HTTPX, and so Gradio's client, allows.
for _wait in ("connect", "read", "write", "pool"):
    setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _wait, 200.0)


def pytest_xdist_auto_num_workers() -> int:
    """Return 1.5 workers per core, as tests often wait for pages and processes, but at most one per 4 GB of memory."""
    return max(1, min((psutil.cpu_count() or 1) * 3 // 2, psutil.virtual_memory().total // 4_000_000_000))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With -n, put the files with the most slow tests first, so that no worker waits for another at the end.

    By default xdist begins with the files with the most tests, which are the quickest.
    """
    if hasattr(config, "workerinput"):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


def pytest_collection_finish() -> None:
    """Freeze the imported libraries, so that garbage collection on unloading a model skips them."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Wait for models still being loaded: Python cannot exit while a background thread is in PyTorch."""
    for thread in threading.enumerate():
        if thread.name.startswith("load "):
            thread.join(timeout=60)
    shutil.rmtree(os.environ["GRADIO_TEMP_DIR"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete random model in the layout of assets/toybox. Do not write into it."""
    from tests.tiny_models import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def other_bundle_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second random model of the same shape with different weights."""
    from tests.tiny_models import tiny_bundle

    return tiny_bundle(tmp_path_factory.mktemp("models") / "other", seed=7)


@pytest.fixture(scope="session")
def reading_bundle_dir(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the first random model whose own pose reader finds a pose in every picture."""
    from tests.tiny_models import tiny_toy_reader
    from toybox.recipe.training import save_halves

    folder = tmp_path_factory.mktemp("models") / "reading"
    shutil.copytree(tiny_bundle_dir, folder)
    save_halves(tiny_toy_reader(sees=True).state_dict(), folder / "pose_reader" / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def recipe_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which the tiny recipe of the bundled model has run once, completely. Do not write into it."""
    from filelock import FileLock

    from tests.precision import own_precision
    from toybox.recipe.settings import TINY
    from toybox.recipe.stages import run

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each worker has its own folder; they lie side by side
        folder = folder.parent
    with FileLock(folder / "recipe.lock"), own_precision():
        run(TINY, folder / "recipe", [])
    return folder / "recipe"


@pytest.fixture(scope="session")
def served_app(tiny_bundle_dir: Path) -> Iterator[tuple[str, WatchedEngine]]:
    """The address and engine of an app whose model is loaded; its job list may hold what earlier tests submitted."""
    from tests.engine.conftest import TIMEOUT_S
    from tests.ui.serving import served_engine

    with served_engine(tiny_bundle_dir) as (url, engine):
        engine.manager.get("toybox", TIMEOUT_S)
        yield url, engine


@pytest.fixture(scope="session")
def tiny_sdxl_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete random SDXL. Do not write into it."""
    from tests.tiny_sdxl import tiny_sdxl_bundle

    return tiny_sdxl_bundle(tmp_path_factory.mktemp("models") / "tiny-xl")
