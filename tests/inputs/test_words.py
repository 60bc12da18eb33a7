"""Every row of "Words" in docs/inputs.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ipa_app.engine.engine import Engine
from ipa_app.engine.results import GenerateResult
from ipa_app.errors import UserError
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.ui.form import build_request
from ipa_app.ui.studio import Studio
from tests.inputs.tables import rows
from tests.sample_requests import STYLES

ROWS = rows("Words")
# Words per chunk of the tiny text encoder; a prompt has room for ten chunks.
ROOM = 22
FULL = " ".join(["cat"] * ROOM * 10)

Said = tuple[str, str | None]


@pytest.fixture(scope="module")
def studio(tiny_bundle_dir: Path) -> Iterator[Studio]:
    """A studio with one model that knows the words of the bundled one, and one that reads any word."""
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    toybox = entry_from_folder(BUNDLED, name="toybox")
    entries = [
        replace(entry, title="Toybox", words=toybox.words, dictionaries=toybox.dictionaries),
        replace(entry, name="sd", title="Stable Diffusion 1.5", words={}, styles=STYLES),
    ]
    manager = ModelManager({each.name: each for each in entries}, device="cpu")
    engine = Engine(manager)
    yield Studio(engine=engine, manager=manager)
    engine.close()


def draw(
    studio: Studio, prompt: str, *, model: str = "sd", negative_prompt: str = "", guidance: float = 3, style: str = ""
) -> Said:
    """Draw from words alone; return the outcome and the message."""
    try:
        words = {"prompt": prompt, "negative_prompt": negative_prompt, "model": model, "style": style}
        request = build_request("mix", {**words, "steps": 1, "guidance": guidance, "width": 64, "height": 64})
        *_, result = studio.follow(studio.submit(request))
    except UserError as error:
        return "refused", str(error)
    assert isinstance(result, GenerateResult)
    return "taken", " ".join(result.notes) or None


def draw_by_both(studio: Studio, prompt: str, **words: str) -> Said:
    """Draw with either model, and the same is said; what became of it."""
    one, other = (draw(studio, prompt, model=model, **words) for model in ("sd", "toybox"))
    assert one == other
    return one


CASES: dict[str, Callable[[Studio], Said]] = {
    "Up to 2000 characters": lambda studio: draw(studio, "a red cat"),
    "More than 2000 characters": lambda studio: draw(studio, "a" * 100_000),
    "More words than the model's text encoder has tokens for": lambda studio: draw(studio, "cat " * ROOM + "dog"),
    "More than ten such chunks": lambda studio: draw(studio, f"{FULL} dog on a beach"),
    "The same in the negative prompt": lambda studio: draw(studio, "a cat", negative_prompt=f"{FULL} dog"),
    "A negative prompt at a guidance of 1": lambda studio: draw(studio, "a cat", negative_prompt="a dog", guidance=1),
    "Weights: `(red:1.3)`, `((red))`, `[red]`, 0 to 3": lambda studio: draw(
        studio, "(red:1.3) ((blue)) [hat]", negative_prompt="(dog:2)", model="toybox"
    ),
    "A weight above that: `(red:30)`": lambda studio: draw(studio, "a (red:30) cat"),
    "Unpaired brackets, or brackets after a backslash: `:)`, `\\(red\\)`": lambda studio: draw(
        studio, r"\(red\) cat :)", model="toybox"
    ),
    "Weights in other forms: `red++`, `(old)1.3`, `[red:blue:0.5]`": lambda studio: draw_by_both(
        studio, "red++ (old)1.3 [red:blue:0.5]"
    ),
    "A style that the model does not have": lambda studio: draw(studio, "a cat", style="ink"),
    "Commands: `BREAK`, `AND`, `<lora:ink:1>`": lambda studio: draw_by_both(studio, "BREAK AND <lora:ink:1>"),
    "Wildcards and choices: `__colour__`, `{cat}`": lambda studio: draw_by_both(studio, "a __colour__ {cat}"),
    "Names of textual inversions: `EasyNegative`": lambda studio: draw_by_both(
        studio, "a cat", negative_prompt="EasyNegative, badhandv4"
    ),
    "Full-width, mathematical or joined letters": lambda studio: draw(studio, "ｒｅｄ 𝓬𝓪𝓽, ﬁne"),
    "Control characters, direction marks, zero-width spaces": lambda studio: draw(studio, "a\u202e red\u200b cat\0"),
    "Nothing but such characters, without a reference": lambda studio: draw(studio, "\u200b\u202e \0"),
    "Emoji, accents, any script": lambda studio: draw(studio, "é 🐱 猫"),
    "Half a character": lambda studio: draw(studio, "a \ud83d cat"),
    "Words that Toybox does not know": lambda studio: draw(
        studio, "a purple zebra", negative_prompt="a hat, moon", model="toybox"
    ),
    "Chinese words that it knows: `戴着(红色:1.3)帽子的猫，在海滩上`": lambda studio: draw(
        studio, "戴着(红色:1.3)帽子的猫，在海滩上", model="toybox"
    ),
    "Others among these: `红色斑马和猫`": lambda studio: draw(studio, "红色斑马和猫", model="toybox"),
    "Signs alone, with Toybox: `!!! ---`, `🙂`": lambda studio: draw(studio, "!!! --- 🙂", model="toybox"),
}


def test_every_row_is_tried() -> None:
    assert list(CASES) == list(ROWS)


@pytest.mark.parametrize("given", ROWS)
def test_what_is_typed_is_taken_as_the_table_says(given: str, studio: Studio) -> None:
    assert CASES[given](studio) == (ROWS[given].outcome.split(":")[0], ROWS[given].sentence)
