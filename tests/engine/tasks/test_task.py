"""Tasks: code that carries out a request asks its task, and never names one."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.engine.tasks.task import OwnOptions
from ipa_app.options import options
from tests.changed_package import ROOT, copy_package, run_with
from tests.task_anew import REGISTERED, SENTENCES, TAB, TASK


def test_each_option_is_all_tasks_or_its_own() -> None:
    declared = options(GenerateRequest)
    for name, option in declared.items():
        takers = [task.name for task in TASKS.values() if task.takes(option)]
        owners = [task.name for task in TASKS.values() if option.declared_in is task.options]
        assert takers == (owners or list(TASKS)), name
    owned = [name for task in TASKS.values() if task.options is not OwnOptions for name in options(task.options)]
    assert len(owned) == len(set(owned))


def test_what_a_task_names_is_an_option() -> None:
    known = {each.api for each in options(GenerateRequest).values()} | {"reference"}
    for task in TASKS.values():
        assert {*task.required, *task.borrowed, *task.defaults} <= known


def test_no_task_is_named_but_where_it_is_declared() -> None:
    # An input picture may have the name of the task that it is for.
    names = TASKS.keys() - options(GenerateRequest).keys()
    own = {f"{name}.py" for name in TASKS}
    for path in (*(ROOT / "ipa_app" / "engine").rglob("*.py"), *(ROOT / "ipa_app" / "ui").rglob("*.py")):
        if path.name not in own:
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            assert not names & {node.value for node in nodes if isinstance(node, ast.Constant)}, path.name


@pytest.mark.slow
def test_a_fifth_task_is_its_module_a_line_and_a_tab(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "engine" / "tasks" / "redraw.py").write_text(TASK, encoding="utf-8")
    (package / "ui" / "tabs" / "redraw.py").write_text(TAB, encoding="utf-8")
    english = package / "messages" / "en.json"
    english.write_text(json.dumps({**json.loads(english.read_text(encoding="utf-8")), **SENTENCES}), encoding="utf-8")
    registry = package / "engine" / "tasks" / "__init__.py"
    text = registry.read_text(encoding="utf-8")
    for before, after in REGISTERED.items():
        assert before in text
        text = text.replace(before, after)
    registry.write_text(text, encoding="utf-8")
    run_with(package, "task_anew.py", tiny_bundle_dir, tmp_path / "temporary")
