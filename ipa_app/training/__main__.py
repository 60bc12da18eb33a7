"""Entry point of ``python -m ipa_app.training``."""

from __future__ import annotations

import sys

from ipa_app.training.cli import main

if __name__ == "__main__":
    sys.exit(main())
