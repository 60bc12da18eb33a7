"""The named points for how much of the picture counts."""

from __future__ import annotations

from itertools import pairwise

import pytest

from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.options import options
from ipa_app.ui.amounts import NAMES, amounts_of


@pytest.mark.parametrize("task", TASKS)
def test_the_usual_point_is_the_default_and_each_is_more_than_the_one_before(task: str) -> None:
    amounts, declared = amounts_of(task), options(GenerateRequest)
    assert tuple(amounts) == NAMES
    usual = amounts["usual"]
    assert usual.scale == TASKS[task].default_of(declared["scale"])
    assert (usual.start, usual.end) == (declared["start"].default, declared["end"].default)
    assert all(less.scale < more.scale for less, more in pairwise(amounts.values()))
    for amount in amounts.values():
        assert GenerateRequest(task="mix", prompt="a cat", **vars(amount)).scale == amount.scale
