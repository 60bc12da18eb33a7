"""A training run in two sessions: what each process of test_processes runs.

Imports take by far the longest, so both sessions share them.
"""

from __future__ import annotations

import sys

from ipa_app.training.cli import main

if __name__ == "__main__":
    for steps in ("2", "4"):
        if code := main([*sys.argv[1:], "--max-steps", steps]):
            sys.exit(code)
