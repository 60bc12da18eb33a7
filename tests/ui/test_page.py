from __future__ import annotations

import html
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest
from PIL import Image

from ipa_app.engine.engine import Engine
from ipa_app.engine.results import Progress
from ipa_app.errors import Cancelled, UserError
from ipa_app.messages import Message
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.manager import ModelManager
from ipa_app.models.state import ModelState
from ipa_app.ui.about import model_note, unknown_words_note, words_html
from ipa_app.ui.examples import read_examples
from ipa_app.ui.failures import explain, gradio_error
from ipa_app.ui.page import build_page
from ipa_app.ui.status import made_html, model_pill, progress_line, status_line
from ipa_app.ui.studio import Studio
from tests.engine.test_keeping import opened
from tests.seen import text_of

EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"


def test_the_page_is_built_without_importing_a_model_library(tiny_bundle_dir: Path) -> None:
    code = "import sys, app; print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    environment = {**os.environ, "IPA_MODELS": str(tiny_bundle_dir)}
    root = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert built.stdout.strip() == "[]"


def test_what_cannot_be_a_model_does_not_keep_the_app_from_starting(tiny_bundle_dir: Path, tmp_path: Path) -> None:
    """The page, the log and /models name it, and the other models work."""
    (tmp_path / "dream.ckpt").write_bytes(b"PK")
    code = """
import json, app
parts = {each["props"].get("elem_id"): each["props"] for each in app.demo.get_config_file()["components"]}
print(json.dumps([app.studio.models(), parts["models-left-out"]["value"], parts["model"]["choices"]]))
"""
    items = [tmp_path / "<gone>", tmp_path / "dream.ckpt", "", tiny_bundle_dir]
    environment = {**os.environ, "IPA_MODELS": os.pathsep.join(map(str, items))}
    root = Path(__file__).parents[2]
    built = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    models, page, choices = json.loads(built.stdout.splitlines()[-1])
    assert set(models) == {"toybox", "sd15", "sdxl", "tiny", "dream.ckpt", "<gone>"}
    assert {name for name, model in models.items() if model["state"] == "failed"} == {"dream.ckpt", "<gone>"}
    assert {frozenset(model) for model in models.values()} == {frozenset(models["tiny"])}
    for name in ("dream.ckpt", "<gone>"):
        sentence = models[name]["message"]
        assert str(tmp_path / name) in built.stderr
        assert html.escape(sentence) in page
        assert str(tmp_path) not in sentence + page
    assert "<gone>" not in page
    assert [name for _, name in choices] == ["toybox", "sd15", "sdxl", "tiny"]


def test_no_examples_and_broken_ones_do_no_harm(tmp_path: Path) -> None:
    assert read_examples(tmp_path) == ()
    Image.new("RGB", (8, 8)).save(tmp_path / "cat.png")
    entries = [
        {"file": "cat.png", "tab": "mix", "prompt": "on a beach", "seed": 3},
        {"file": "cat.png", "tab": "painting"},
        {"file": "gone.png", "tab": "mix"},
        {"tab": "mix"},
    ]
    (tmp_path / "examples.json").write_text(json.dumps(entries), encoding="utf-8")
    (example,) = read_examples(tmp_path)
    assert (example.prompt, example.seed, example.scale) == ("on a beach", 3, 0.6)
    assert example.file == (tmp_path / "cat.png").resolve()


def test_of_every_example_that_ships_with_the_app_it_is_said_what_it_shows(tmp_path: Path) -> None:
    shipped = read_examples(EXAMPLES)
    assert shipped
    assert all(isinstance(each.title, Message) for each in shipped)
    own = shutil.copy(shipped[0].file, tmp_path / "my toy.png")
    assert replace(shipped[0], file=Path(own)).title == "my toy.png"


def test_unknown_words_are_named_and_never_become_markup(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    assert unknown_words_note("a red cat", entry=entry) == ""
    assert unknown_words_note(None, entry=entry) == ""
    assert unknown_words_note("red " * 500 + "purple", entry=entry) == "", "no such prompt is drawn"
    note = unknown_words_note("a purple cat <img src=x>", entry=entry)
    assert "purple" in note
    assert "<img" not in note


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("a red cat, (old)1.3 [red:blue:0.5] <lora:ink:1>", []),
        ("a zebra, (zebra)1.3", ["zebra"]),
        ("a (red:1.2)++ cat", []),
    ],
)
def test_what_is_told_of_as_a_command_is_not_named_word_by_word(
    prompt: str, unknown: list[str], tiny_bundle_dir: Path
) -> None:
    note = text_of(unknown_words_note(prompt, entry=entry_from_folder(tiny_bundle_dir, name="toybox")))
    assert "commands of other programs do nothing" in note
    assert ("does not know" in note) == bool(unknown)
    assert all(f"the word {word}" in note for word in unknown)


@pytest.mark.parametrize("prompt", ["!!! ---", "🙂", " ，。 ", "(!!!:1.3)"])
def test_of_a_prompt_of_signs_alone_it_is_said_that_none_is_a_word(prompt: str, tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    note = text_of(unknown_words_note(prompt, entry=entry))
    assert note == f"“Words” has no word that {entry.title} knows."
    assert text_of(unknown_words_note(prompt, entry=replace(entry, words={}))) == "", "it may know what signs mean"
    assert "has no word" not in unknown_words_note(f"{prompt} a cat", entry=entry)
    for silent in ("", "  ", None):
        assert unknown_words_note(silent, entry=entry) == ""


def test_the_page_lists_the_words_and_says_what_the_model_draws(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    assert "<li>frog</li>" in words_html(entry)
    assert "toy characters only" in model_note(entry)


def test_the_words_are_listed_in_the_languages_that_the_model_has_a_dictionary_of(tiny_bundle_dir: Path) -> None:
    words = words_html(entry_from_folder(tiny_bundle_dir, name="toybox"))
    assert '<ul data-besides="zh"><li>bear</li>' in words
    assert '<ul lang="zh" data-only="zh" hidden><li>猫</li><li>狗</li></ul>' in words


def test_chinese_words_that_the_model_knows_are_not_named(tiny_bundle_dir: Path) -> None:
    entry = entry_from_folder(tiny_bundle_dir, name="toybox")
    assert unknown_words_note("一只红色的猫", entry=entry) == ""
    assert "斑马" in unknown_words_note("红色斑马", entry=entry)


def test_the_status_line_is_plain_text_with_a_bar_while_busy() -> None:
    assert "<b>" not in status_line("<b>hello</b>", kind="busy")
    line = progress_line(
        Progress(phase="denoising", step=5, steps=20, message=Message("doing.picture", number=1, total=2))
    )
    assert "Drawing: picture 1 of 2" in line
    assert "width:25%" in line
    assert 'role="progressbar" aria-valuenow="25" aria-label="Progress"' in line
    assert "1 request ahead" in progress_line(
        Progress(phase="queued", message=Message("doing.requests_before", count=1))
    )


def test_a_model_that_failed_says_why() -> None:
    pill = model_pill(ModelState(phase="failed", message=Message.plain("no <unet> folder")), title="Toybox")
    assert "could not be loaded" in pill
    assert "no &lt;unet&gt; folder" in pill


def test_a_title_that_is_cut_off_is_whole_where_the_mouse_rests() -> None:
    title = "A model of some name " * 5
    for phase in ("loading", "ready", "failed"):
        tooltip = model_pill(ModelState(phase=phase), title=title).split('title="')[1].split('"')[0]
        assert title in tooltip


def test_only_sentences_for_people_leave_the_app() -> None:
    assert explain(UserError.plain("Add a picture.")) == "Add a picture."
    assert explain(Cancelled()) == "Stopped."
    assert "secret" not in explain(ValueError("secret path"))
    told = gradio_error(UserError.plain("a <b> c").message).message
    assert "a &lt;b&gt; c" in told
    assert "<b>" not in told


@pytest.fixture(scope="module")
def whole_page(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    """A page with all its listeners, a library and a second model, which knows every word."""
    toybox = entry_from_folder(tiny_bundle_dir, name="toybox")
    manager = ModelManager({"toybox": toybox, "other": replace(toybox, name="other", words={})}, device="cpu")
    engine = Engine(manager)
    with opened(tmp_path_factory.mktemp("kept") / "library") as (keeper, _):
        yield build_page(Studio(engine=engine, manager=manager, keeper=keeper))
    engine.close()


def test_no_choice_is_looked_for_among_those_of_before(whole_page: gr.Blocks) -> None:
    """Another model, adapter or picture changes the choices, and Gradio would check a new one against the old."""
    choices = (gr.Radio, gr.Dropdown, gr.CheckboxGroup)
    checked = [
        (listener.name, each.elem_id)
        for listener in whole_page.fns.values()
        if listener.fn is not None and listener.preprocess
        for each in listener.inputs
        if isinstance(each, choices)
    ]
    assert checked == []


def test_of_several_quick_acts_the_last_one_counts(whole_page: gr.Blocks) -> None:
    acts = {"select", "input", "change", "upload"}
    # Events of the page itself are too short to be triggered again meanwhile.
    asking = [each for each in whole_page.get_config_file().get("dependencies", ()) if each["backend_fn"]]
    told = [each for each in asking if acts & {name for _, name in each["targets"]}]
    by_inputs = [each for each in told if not each["collects_event_data"]]
    assert len(by_inputs) > 20
    assert {each["trigger_mode"] for each in by_inputs if each["outputs"]} == {"always_last"}
    # What changes nothing on the page may also be told each time.
    assert {each["trigger_mode"] for each in by_inputs} <= {"always_last", "multiple"}
    # With "always_last" Gradio would lose an event's data: it sends the first event's again.
    told_by_event = [each["id"] for each in told if each["collects_event_data"]]
    assert len(told_by_event) > 4
    assert {(whole_page.fns[each].trigger_mode, whole_page.fns[each].concurrency_limit) for each in told_by_event} == {
        ("multiple", 1)
    }


def test_with_another_model_other_words_are_unknown(whole_page: gr.Blocks) -> None:
    listener = next(each for each in whole_page.fns.values() if each.name == "note_all")
    assert isinstance(listener.inputs[0], gr.Dropdown)
    prompts = ["a purple cat", *[""] * (len(listener.inputs) - 2)]
    assert listener.fn is not None
    known, unknown = listener.fn("other", *prompts), listener.fn("toybox", *prompts)
    assert "purple" in unknown[0]
    assert not any([*known, *unknown[1:]])


def test_no_script_loses_what_it_is_given(whole_page: gr.Blocks) -> None:
    """Gradio drops the props of an HTML component that an event updates before the component's tab is opened."""
    named = {part._id: part for listener in whole_page.fns.values() for part in listener.outputs}
    assert [part.elem_id for part in named.values() if isinstance(part, gr.HTML) and part.props] == []


def test_how_a_picture_was_made_is_listed_in_the_pages_words() -> None:
    settings = {"task": "mix", "prompt": "a <b>cat</b>", "adapter": "fine", "references": [{}], "scale": 0.6, "seed": 7}
    settings |= {"speed": "fast", "steps": 8, "width": 256, "height": 128, "style": "Style", "negative_prompt": ""}
    listed = made_html(settings)
    assert text_of(listed) == (
        "Made on the tabText + imageWordsa <b>cat</b>What to take from itFine-grainedStyleStyleSpeedFast"
        "Strength of the picture0.6Seed7Steps8Size256 × 128"
    )
    assert "<b>" not in listed
    assert made_html({"task": ["x"], "adapter": {}, "speed": None}) == ""
    assert made_html({}) == ""
