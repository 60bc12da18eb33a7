"""What is used of a prompt of any length, and that the user is told what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from transformers import CLIPTokenizer

from ipa_app.engine.plan import make_plan
from ipa_app.engine.prompts import prompt_notes, read_prompts
from ipa_app.engine.requests import GenerateRequest
from ipa_app.messages import Message
from ipa_app.models.manager import ModelManager
from ipa_app.models.prompt_encoding import MOST_CHUNKS
from tests.engine.conftest import Generate, pixels, reference
from tests.sample_requests import STYLES
from tests.tiny_models import tiny_tokenizer

# The tokens per chunk of the tiny text encoder, without the begin and end tokens.
ROOM = 22
CHUNK = " ".join(["cat"] * ROOM)
FULL = " ".join([CHUNK] * MOST_CHUNKS)


def spelling_tokenizer() -> CLIPTokenizer:
    """Return a tokenizer that splits every word into letters."""
    tokens = ["<|startoftext|>", "<|endoftext|>", *"abcdefghijklmnopqrstuvwxyz"]
    tokens += [f"{letter}</w>" for letter in tokens[2:]]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=24)


def notes(manager: ModelManager, *tokenizers: Any, **fields: Any) -> list[Message]:
    plan = make_plan(GenerateRequest(task="mix", **fields), manager.entry("toybox"))
    return prompt_notes(plan, tokenizers)


def test_every_word_of_a_long_prompt_counts(generate: Generate) -> None:
    def draw(prompt: str, negative_prompt: str = "a frog") -> Any:
        return generate(task="mix", prompt=prompt, negative_prompt=negative_prompt, seed=3)

    told, other = draw(f"{CHUNK} dog"), draw(f"{CHUNK} hat")
    assert pixels(told) != pixels(other)
    assert pixels(draw("a dog", f"{CHUNK} dog")) != pixels(draw("a dog", f"{CHUNK} hat"))
    assert told.notes == ()


def test_what_is_said_to_be_unused_changes_nothing_and_what_comes_before_does(generate: Generate) -> None:
    def draw(prompt: str) -> Any:
        return generate(task="mix", prompt=prompt, negative_prompt=f"{FULL} frog", seed=3, steps=1)

    told, other, earlier = draw(f"{FULL} dog"), draw(f"{FULL} hat"), draw(f"{FULL[4:]} dog hat")
    assert pixels(told) == pixels(other)
    assert pixels(told) != pixels(earlier)
    assert told.notes == (
        "“Words” is longer than Tiny can use; these words are not used: “dog”.",
        "“Not in the picture” is longer than Tiny can use; these words are not used: “frog”.",
    )


@pytest.mark.parametrize("adapter", ["base", "fine"])
def test_a_weight_changes_the_picture_beside_a_reference_too(generate: Generate, adapter: str) -> None:
    def draw(prompt: str, negative_prompt: str = "a dog") -> list[bytes]:
        wish = {"task": "mix", "references": (reference(),), "adapter": adapter, "seed": 3}
        return pixels(generate(prompt=prompt, negative_prompt=negative_prompt, **wish))

    plain = draw("a red cat")
    assert draw("a (red:1) cat") == plain
    assert draw("a (red:1.5) cat") != plain
    assert draw("a red cat", "a (dog:1.5)") != plain
    assert draw("a (red:1.5) cat, " + CHUNK) != draw("a red cat, " + CHUNK)


def test_two_text_encoders_are_asked_both(manager: ModelManager) -> None:
    tokenizers = tiny_tokenizer(), spelling_tokenizer()
    short = " ".join(["a red cat on the green beach"] * MOST_CHUNKS) + " with a hat"
    assert notes(manager, tokenizers[0], prompt=short) == []
    assert notes(manager, *tokenizers, prompt=short) == [
        "“Words” is longer than one text encoder of Tiny can use; it misses: “with a hat”."
    ]
    both = notes(manager, *tokenizers, prompt=f"{FULL} dog")
    assert both[0] == "“Words” is longer than Tiny can use; these words are not used: “dog”."
    assert both[1].startswith("“Words” is longer than one text encoder of Tiny can use; it misses: “cat cat")


def test_a_style_is_read_as_if_its_words_were_typed(manager: ModelManager) -> None:
    entry = replace(manager.entry("toybox"), styles=STYLES)
    styled = GenerateRequest(task="mix", prompt=f"a (red:1.5) {CHUNK}", negative_prompt="a dog", style="night")
    typed = replace(styled, prompt=f"{styled.prompt}, on the beach", negative_prompt="a dog, a hat", style="")
    read, expected = (read_prompts(make_plan(each, entry), [tiny_tokenizer()]) for each in (styled, typed))
    assert read == expected
    assert read.chunks == 2


def test_words_of_another_language_draw_what_the_models_own_do(generate: Generate) -> None:
    def draw(prompt: str, negative_prompt: str) -> Any:
        return generate(task="mix", prompt=prompt, negative_prompt=negative_prompt, seed=3)

    chinese, english = draw("一只(红色:1.3)猫", "戴着帽子的狗"), draw("a (red:1.3) cat", "dog with hat")
    assert pixels(chinese) == pixels(english)
    assert chinese.settings["prompt"] == "一只(红色:1.3)猫"
    assert pixels(chinese) != pixels(draw("a cat", "dog with hat"))


def test_of_many_words_the_first_and_the_last_are_named(manager: ModelManager) -> None:
    (note,) = notes(manager, tiny_tokenizer(), prompt=f"{FULL} frog {'dog ' * 200} hat")
    assert "“frog dog" in note
    assert "dog hat”." in note
    assert len(note) < 400


def test_a_negative_prompt_without_guidance_is_said_to_do_nothing(manager: ModelManager) -> None:
    said = notes(manager, tiny_tokenizer(), prompt="a cat", negative_prompt="a dog", guidance_scale=1)
    assert said == ["Without guidance “Not in the picture” has no effect: please set the guidance above 1."]
    assert notes(manager, tiny_tokenizer(), prompt="a cat", guidance_scale=1) == []
