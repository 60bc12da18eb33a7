"""Entry point of `python -m ipa_app.training`."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    try:
        from ipa_app.training.cli import main  # takes seconds, in which people press Ctrl-C too

        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
