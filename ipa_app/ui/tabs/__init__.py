"""The tabs, one per task: each is a module with its task's name, which describes the tab in its constant `TAB`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ipa_app.engine.tasks import TASKS

if TYPE_CHECKING:
    from ipa_app.ui.tabs.shared import Tab

OPENING = next(iter(TASKS))
"""The task whose tab is open at first."""


def tab_for(task: str) -> Tab:
    """Return the description of a task's tab."""
    return import_module(f"{__name__}.{task}").TAB
