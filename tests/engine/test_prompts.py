"""What goes beyond a text encoder's tokens changes nothing, and that is said."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import CLIPTokenizer

from ipa_app.engine.plan import make_plan
from ipa_app.engine.prompts import prompt_notes, unread
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.manager import ModelManager
from tests.engine.conftest import Generate, pixels
from tests.tiny_models import tiny_tokenizer

# The tokens that the tiny text encoder has room for besides those of beginning and end.
ROOM = 22
FULL = " ".join(["cat"] * ROOM)


def spelling_tokenizer() -> CLIPTokenizer:
    """One that spells every word."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"{letter}</w>" for letter in tokens[2:]]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=24)


def notes(manager: ModelManager, *tokenizers: Any, **fields: Any) -> list[str]:
    plan = make_plan(GenerateRequest(task="mix", **fields), manager.entry("toybox"))
    return prompt_notes(plan, tokenizers)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("a red cat", ""),
        (FULL, ""),
        (f"{FULL} dog", "dog"),
        (f"{FULL}, .", ""),
        (f"{FULL}\n dog on the beach.", "dog on the beach"),
        # Where a word is spelled, it may be cut in its middle: then it is not read as it was meant.
        (f"{' '.join(['cat'] * (ROOM - 2))} zebra dog", "zebra dog"),
    ],
)
def test_what_is_cut_off_is_found_from_the_beginning_of_the_word(text: str, rest: str) -> None:
    assert unread(text, tiny_tokenizer()) == rest


def test_what_is_said_to_be_unused_changes_nothing_and_what_comes_before_does(generate: Generate) -> None:
    def draw(prompt: str) -> Any:
        return generate(task="mix", prompt=prompt, negative_prompt=f"{FULL} frog", seed=3)

    told, other, earlier = draw(f"{FULL} dog"), draw(f"{FULL} hat"), draw(f"{FULL[4:]} dog hat")
    assert pixels(told) == pixels(other)
    assert pixels(told) != pixels(earlier)
    assert told.notes == (
        "The prompt is longer than Tiny can read; these words are not used: “dog”.",
        "The negative prompt is longer than Tiny can read; these words are not used: “frog”.",
    )


def test_two_text_encoders_are_asked_both(manager: ModelManager) -> None:
    tokenizers = tiny_tokenizer(), spelling_tokenizer()
    short = "a red cat on the green beach with a hat"
    assert notes(manager, tokenizers[0], prompt=short) == []
    assert notes(manager, *tokenizers, prompt=short) == [
        "The prompt is longer than one text encoder of Tiny can read; it misses: “with a hat”."
    ]
    both = notes(manager, *tokenizers, prompt=f"{FULL} dog")
    assert both[0] == "The prompt is longer than Tiny can read; these words are not used: “dog”."
    assert both[1].startswith("The prompt is longer than one text encoder of Tiny can read; it misses: “cat cat")


def test_of_many_words_the_first_and_the_last_are_named(manager: ModelManager) -> None:
    (note,) = notes(manager, tiny_tokenizer(), prompt=f"{FULL} frog {'dog ' * 200} hat")
    assert "“frog dog" in note
    assert "dog hat”." in note
    assert len(note) < 400


def test_a_negative_prompt_without_guidance_is_said_to_do_nothing(manager: ModelManager) -> None:
    said = notes(manager, tiny_tokenizer(), prompt="a cat", negative_prompt="a dog", guidance_scale=1)
    assert said == ["Without guidance the negative prompt has no effect: please set the guidance above 1."]
    assert notes(manager, tiny_tokenizer(), prompt="a cat", guidance_scale=1) == []
