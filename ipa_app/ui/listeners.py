"""How the page's listeners run; all are private to the page, the public API has its own."""

from __future__ import annotations

from typing import Any

PRIVATE: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""What every listener has."""
AT_ONCE: dict[str, Any] = {"queue": False, **PRIVATE}
"""For what cannot fail: without the queue an error reaches the page as a bare HTTP 500."""
CHECKED: dict[str, Any] = {"concurrency_limit": None, **PRIVATE}
"""For what may raise gr.Error, whose sentence only comes through the queue. Nobody waits there: the engine has the
queue of what is drawn."""
