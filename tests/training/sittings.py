"""A training run in two sittings: what each process of test_processes does.

Imports take longest by far, so both sittings share them.
"""

from __future__ import annotations

import sys

from ipa_app.training.cli import main

if __name__ == "__main__":
    for steps in ("2", "4"):
        if code := main([*sys.argv[1:], "--max-steps", steps]):
            sys.exit(code)
