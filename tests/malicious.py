"""A stand-in for what a hostile PyTorch file holds."""

from __future__ import annotations

import os
from pathlib import Path


class Malicious:
    """An object that makes a folder when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)
