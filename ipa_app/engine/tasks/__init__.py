"""The tasks: the ways to ask for a picture.

A new one needs a module here, an entry in `TASKS` (its own options, if any, join `TaskOptions`), and a tab of the same
name in `ui/tabs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ipa_app.engine.tasks.inpaint import Inpaint, InpaintOptions
from ipa_app.engine.tasks.mix import Mix, MixOptions
from ipa_app.engine.tasks.pose import ControlOptions, Pose
from ipa_app.engine.tasks.task import Task
from ipa_app.engine.tasks.variation import Variation

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (Variation(), Mix(), Inpaint(), Pose())})
"""All tasks by name, in the order of their tabs."""


@dataclass(frozen=True, kw_only=True)
class TaskOptions(InpaintOptions, MixOptions, ControlOptions):
    """The options that only some of the tasks have."""
