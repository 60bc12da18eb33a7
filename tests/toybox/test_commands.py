"""The recipe's command line, and its commands in the documents."""

from __future__ import annotations

import re
import shlex

import pytest

from tests.test_project import DOCUMENTS
from toybox.__main__ import arguments_parser, main
from toybox.recipe.settings import FULL, TINY
from toybox.recipe.stages import STAGES

COMMANDS = [
    (name, " ".join(found.split()))
    for name, text in DOCUMENTS.items()
    for found in re.findall(r"-m toybox(?= )([^`\n]*(?:\n[^`\n]+)?)(?=`)|-m toybox(?= )([^`\n]*)\n", text)
    for found in [found[0] or found[1]]
]


def test_documents_name_commands() -> None:
    assert {name for name, _ in COMMANDS} >= {"docs/toybox.md", "assets/toybox/README.md"}


@pytest.mark.parametrize(("name", "command"), COMMANDS)
def test_a_command_in_a_document_can_be_typed(name: str, command: str) -> None:
    arguments = arguments_parser().parse_args(shlex.split(command))
    assert set(arguments.stages) <= set(STAGES)


@pytest.mark.parametrize("arguments", [["vea"], ["--budget", "0"]])
def test_what_there_is_not_is_refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["toybox", "--work", "nowhere", *arguments])
    with pytest.raises(SystemExit):
        main()


def test_a_smaller_budget_takes_as_many_steps_of_smaller_batches() -> None:
    less = FULL.limited(budget=1 / 16, minutes=5)
    assert (less.unet.samples, less.unet.batch_size) == (187_500, 32)
    assert less.unet.samples / less.unet.batch_size == pytest.approx(FULL.unet.samples / FULL.unet.batch_size, rel=0.01)
    assert less.student.minutes == 5
    assert less.trajectories == 1250


def test_a_larger_budget_takes_more_steps() -> None:
    more = TINY.limited(budget=3)
    assert (more.unet.samples, more.unet.batch_size) == (24, 4)
