"""What a hostile PyTorch file holds."""

from __future__ import annotations

import os
from pathlib import Path


class Malicious:
    """Unpickling makes a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)
