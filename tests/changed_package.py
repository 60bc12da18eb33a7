"""A copy of the package that a test may change, and a script that runs with it in place of the package itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def changed_package(folder: Path) -> Path:
    """Copy what the app needs of the package into a folder, and return where the copy lies."""
    package = folder / "ipa_app"
    shutil.copytree(ROOT / "ipa_app", package, ignore=shutil.ignore_patterns("__pycache__", "toybox", "training"))
    shutil.copytree(ROOT / "assets" / "poses", folder / "assets" / "poses")
    return package


def run_with(folder: Path, script: str, bundle: Path) -> None:
    """Run a script of the tests with a folder's package, and make sure that it ends well."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / script), str(bundle), str(folder / "temporary")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(folder), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
