"""The tabs, one per task: each in a module of its task's name, which says as `TAB` all that is to be known of it."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ipa_app.engine.tasks import TASKS

if TYPE_CHECKING:
    from ipa_app.ui.tabs.shared import Tab

OPENING = next(iter(TASKS))
"""The task whose tab the page opens with: new pictures after a picture."""


def tab_for(task: str) -> Tab:
    """Return what there is to know of the tab of a task."""
    return import_module(f"{__name__}.{task}").TAB
