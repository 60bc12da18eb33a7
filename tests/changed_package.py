"""A copy of the package for a test to change, and a way to run scripts against that copy."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def copy_package(folder: Path) -> Path:
    """Copy what the page needs of the package into a folder, and return the path of the copy."""
    package = folder / "ipa_app"
    shutil.copytree(ROOT / "ipa_app", package, ignore=shutil.ignore_patterns("__pycache__", "toybox", "training"))
    shutil.copytree(ROOT / "assets" / "poses", folder / "assets" / "poses")
    return package


def run_with(package: Path, script: str, *arguments: Path) -> None:
    """Run a test script with a copy of the package; fail with its standard error if it fails."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(package.parent), str(ROOT)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
