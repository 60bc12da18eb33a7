from __future__ import annotations

import pytest

from ipa_app.models.entry import unknown_words

WORDS = {"animals": ["cat", "dog"], "clothes": ["top hat", "t-shirt"], "small": ["a", "in", "the"]}


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("", []),
        ("a cat in the top hat", []),
        ("A CAT, a dog!", []),
        ("the cat's t-shirt", []),
        ("a zebra in a zeppelin, a zebra", ["zebra", "zeppelin"]),
        ("a café 3000", ["café", "3000"]),
    ],
)
def test_names_the_unknown_words_once_and_in_order(prompt: str, unknown: list[str]) -> None:
    assert unknown_words(prompt, WORDS) == unknown


def test_a_model_without_a_word_list_knows_everything() -> None:
    assert unknown_words("a zebra", {}) == []
