"""When references apply: each in its own range of steps, within the range of all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ipa_app.engine.plan import make_plan
from ipa_app.engine.references import Reference, spans
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import Generate, noise_picture, pixels, reference


def ranged(seed: int, start: float, end: float, **more: Any) -> Reference:
    return Reference(image=noise_picture(seed), start=start, end=end, **more)


def test_at_every_moment_those_count_together_whose_ranges_have_it() -> None:
    a, b, c = ranged(0, 0, 0.5), ranged(1, 0.25, 1), ranged(2, 0.9, 1, weight=0)
    assert list(spans([a, b, c], 0, 1)) == [
        (0, 0.25, (a,)),
        (0.25, 0.5, (a, b)),
        (0.5, 0.9, (b,)),
        (0.9, 1, (b, c)),
    ]
    assert list(spans([a, b], 0.3, 0.4)) == [(0.3, 0.4, (a, b))]
    assert list(spans([a], 0.6, 1)) == []
    assert list(spans([c], 0, 1)) == []


def test_a_reference_with_a_range_of_its_own_draws_what_the_range_of_all_does(generate: Generate) -> None:
    def draw(references: tuple[Reference, ...], **more: Any) -> Any:
        return pixels(generate(task="mix", prompt="a cat", references=references, steps=4, seed=3, **more))

    own = draw((ranged(0, 0.25, 0.75),))
    assert own == draw((reference(0),), start=0.25, end=0.75)
    assert own != draw((reference(0),))
    assert draw((ranged(0, 0, 1), ranged(1, 0, 1))) == draw((reference(0), reference(1)))


def test_references_take_turns(generate: Generate) -> None:
    def draw(*references: Reference) -> Any:
        return pixels(generate(task="mix", prompt="a cat", references=references, steps=4, seed=3))

    turns = draw(ranged(0, 0, 0.5), ranged(1, 0.5, 1))
    assert turns not in (draw(reference(0)), draw(reference(1)), draw(reference(0), reference(1)))
    # The order of the list does not matter.
    assert turns == draw(ranged(1, 0.5, 1), ranged(0, 0, 0.5))


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(UserError, match="The reference's strength begins at 0.5 and ends at 0.5") as refused:
        ranged(0, 0.5, 0.5)
    assert refused.value.field == "reference_end"


@pytest.mark.parametrize(("number", "field"), [(0, "reference_end"), (1, "reference_end_2")])
def test_a_reference_that_would_never_count_is_named(manager: ModelManager, number: int, field: str) -> None:
    references = [reference(0), reference(1)]
    references[number] = replace(references[number], start=0.6, end=1)
    request = GenerateRequest(task="mix", references=tuple(references), end=0.5, steps=10)
    with pytest.raises(UserError, match="From 0.6 to 0.6 of 10 steps there is no whole step") as refused:
        make_plan(request, manager.entry("toybox"))
    assert refused.value.field == field
