"""Whatever the page says in English it can say in Chinese."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ipa_app.engine.references import Reference
from ipa_app.engine.requests import GenerateRequest
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.options import Option, options
from ipa_app.pose.body import JOINT_NAMES
from ipa_app.pose.openpose import OPENPOSE
from ipa_app.pose.presets import presets
from ipa_app.ui import texts
from ipa_app.ui.about import words_html
from ipa_app.ui.language.switch import dictionary, phrases
from tests.ui.said import PACKAGES, blank, said_in

FOLDER = Path(texts.__file__).parent / "language"
CHINESE = json.loads((FOLDER / "chinese.json").read_text(encoding="utf-8"))
PLACEHOLDER = re.compile(r"\{\w+(?::[^}]*)?\}")
TAG = re.compile(r"<[^>]+>")
ONLY_ENGLISH = {"TITLE"}

# Texts for people that are names, are found as part of a longer one, or are no part of the page.
NAMES = {"Stable Diffusion", "Stable Diffusion 1.5", "Stable Diffusion 1.x", "Stable Diffusion 2.x"} | {
    "Stable Diffusion XL", "FLUX or Stable Diffusion 3", "CLIP ViT-L/14", "OpenCLIP ViT-H/14", "OpenCLIP ViT-bigG/14"
}  # fmt: skip
JOINED = {"{} left", OPENPOSE.help}
IN_FILES = {"CFG scale", "IP-Adapter scale", "ControlNet scale", "Denoising strength", "Negative prompt: {}"}
UNSHOWN = {"blob {}\0", "load {}"}
TORCH_SAYS = {"MPS backend out of memory", "DefaultCPUAllocator: can't allocate memory"}
STAYS = NAMES | JOINED | IN_FILES | UNSHOWN | TORCH_SAYS


def shown_texts() -> dict[str, Any]:
    """All that people see."""
    return {name: text for name, text in vars(texts).items() if name.isupper() and name not in ONLY_ENGLISH}


def leaves(text: Any) -> list[str]:
    if isinstance(text, str):
        return [text]
    if isinstance(text, dict):
        return [leaf for key in sorted(text) for leaf in leaves(text[key])]
    return [leaf for item in text for leaf in leaves(item)]


def test_every_text_has_a_translation_and_no_translation_is_left_over() -> None:
    assert set(CHINESE) == set(shown_texts())


def test_every_option_has_a_translation_of_all_that_is_shown_of_it() -> None:
    chinese = json.loads((FOLDER / "options.json").read_text(encoding="utf-8"))
    declared = [option for kind in (GenerateRequest, Reference) for option in options(kind).values()]
    shown = {
        each.api: {name for name in ("title", "label", "help", "shown") if getattr(each, name)} for each in declared
    }
    assert {name: set(texts) for name, texts in chinese.items()} == shown
    assert all(len(chinese[each.api]["shown"]) == len(each.choices) for each in declared if each.shown)


def test_translations_have_the_same_placeholders_and_markup() -> None:
    for name, english in shown_texts().items():
        for here, there in zip(leaves(english), leaves(CHINESE[name]), strict=True):
            assert sorted(PLACEHOLDER.findall(here)) == sorted(PLACEHOLDER.findall(there)), name
            assert TAG.findall(here) == TAG.findall(there), name


def test_no_english_text_has_two_translations() -> None:
    pairs = dictionary()
    assert len({english for english, _ in pairs}) == len(pairs)


def translated() -> set[str]:
    """Whatever a sentence or a phrase has a translation for, its placeholders nameless."""
    sentences = json.loads((FOLDER / "sentences.json").read_text(encoding="utf-8"))
    shown = [text for kind in (GenerateRequest, Reference) for each in options(kind).values() for text in _shown(each)]
    said = (*sentences, *shown, *(each for pairs in phrases().values() for each, _ in pairs))
    return {blank(english) for english in said}


def _shown(option: Option) -> tuple[str, ...]:
    return option.label, option.help, *option.shown


def all_said(*packages: str) -> dict[str, str]:
    """All texts for people in packages, by default in all, with the file of each."""
    said = {text: file for package in packages or PACKAGES for text, file in said_in(package).items()}
    return {_with_name(text, file=file): file for text, file in said.items()}


def _with_name(text: str, *, file: str) -> str:
    # What is wrong with an adapter file is said there without its name, which comes before it.
    is_about_file = file == "adapter/layout.py" and text.startswith(("is ", "cannot "))
    return blank(f"{{}} {text}" if is_about_file else text)


@pytest.mark.parametrize("package", PACKAGES)
def test_whatever_the_engine_says_has_a_translation(package: str) -> None:
    said = all_said(package)
    assert len(said) > 5
    missing = {text: file for text, file in said.items() if text not in translated() | STAYS}
    assert missing == {}, "please add them to sentences.json or phrases.json, in ipa_app/ui/language"


def test_no_sentence_is_translated_that_nobody_says_any_more() -> None:
    said = all_said()
    sentences = json.loads((FOLDER / "sentences.json").read_text(encoding="utf-8"))
    # What the page puts together from a word and what the engine reports has no full stop.
    left = {blank(text) for text in sentences if text.endswith(".")} - said.keys()
    assert left == set()
    assert said.keys() >= STAYS


def test_sentences_and_phrases_have_the_same_placeholders() -> None:
    for english, chinese in [*dictionary(), *(pair for pairs in phrases().values() for pair in pairs)]:
        assert sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(chinese)), english


def test_joints_poses_and_groups_of_words_have_names() -> None:
    named = {kind: {english for english, _ in pairs} for kind, pairs in phrases().items()}
    assert named["joint"] == set(JOINT_NAMES)
    assert named["preset"] == set(presets())
    headings = re.findall("<h3>(.*?)</h3>", words_html(entry_from_folder(BUNDLED, name="toybox")))
    assert named["group"] == set(headings)
