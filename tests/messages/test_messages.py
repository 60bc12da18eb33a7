"""Every message has a key, and every key a sentence in every language."""

from __future__ import annotations

import ast
import copy
import json
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Formatter

import pytest

import ipa_app
from ipa_app.errors import UserError
from ipa_app.messages import FOLDER, Message, Sentence, as_data, english, in_html, languages
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.pose.body import JOINT_NAMES, joint_title
from ipa_app.pose.presets import preset_title, presets
from ipa_app.ui.language.switch import declared_texts

ROOT = Path(ipa_app.__file__).parent
KEY = re.compile(r"[a-z]\w*(?:\.\w+)+")
BEGINNING_OF_KEY = re.compile(r"[a-z]\w*\.")
TAG = re.compile(r"<[^>]+>")
OTHERS = [code for code in languages() if code != "en"]
# Prefixes of keys that all go to the page's script, whether or not the source names them.
OF_THE_SCRIPT = ("gradio.", "language.")


def test_a_message_is_its_english_sentence_and_knows_its_key_and_values() -> None:
    message = Message("model.unknown", name="'a'", names="toybox")
    assert message == "There is no model 'a'; choose from: toybox."
    assert (message.key, dict(message.values)) == ("model.unknown", {"name": "'a'", "names": "toybox"})
    assert json.dumps(message) == json.dumps(str(message))


def test_a_message_may_stand_in_another_one_and_several_things_in_a_list() -> None:
    joints = Message("joints.and", joints=[joint_title("nose"), joint_title("neck")], last=joint_title("left ear"))
    message = Message("keypoints.joints_left_out", person=2, why=Message("keypoints.why.outside"), joints=joints)
    assert message == "For person 2, this lies outside the picture and was left out: nose, neck and left ear."
    assert as_data(message)["values"]["joints"]["values"]["joints"] == [
        {"key": "joint.nose", "values": {}},
        {"key": "joint.neck", "values": {}},
    ]


def test_a_sentence_has_forms_for_one_and_for_more() -> None:
    assert Message("doing.requests_before", count=1) == "1 request ahead"
    assert Message("doing.requests_before", count=2) == "2 requests ahead"


def test_what_somebody_typed_breaks_no_sentence() -> None:
    message = Message("model.unknown", name="a\r\nb\u2028c\u202etxt\ud83d\0 👩\u200d🎨", names=["d\ne", "f"])
    assert message == "There is no model a  b c txt\N{REPLACEMENT CHARACTER}  👩\u200d🎨; choose from: d e, f."
    assert as_data(message)["values"]["names"] == ["d e", "f"]
    assert Message("model.unknown", name="a" * 10**6, names="b") == f"There is no model {'a' * 399}…; choose from: b."


def test_marks_of_a_sentence_are_for_the_page_and_values_never_are_markup() -> None:
    assert "<strong>" not in Message("page.nothing_yet")
    assert "<strong>Generate</strong>" in in_html(Message("page.nothing_yet"))
    message = Message("words.heading", title="<b>{title}</b>")
    assert message == "Words <b>{title}</b> knows"
    assert in_html(message) == "Words &lt;b&gt;{title}&lt;/b&gt; knows"


def test_a_message_begins_with_a_capital_where_a_sentence_says_so() -> None:
    assert Message("progress.alone", doing=Message("doing.decoding")) == "Developing the picture"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))])
def test_a_message_keeps_its_key_on_its_way_to_other_processes(copied: object) -> None:
    assert callable(copied)
    message = copied(Message("mask.turned"))
    assert (message, message.key) == (str(Message("mask.turned")), "mask.turned")
    error = copied(UserError("model.freed", name="a").blaming("model"))
    assert (str(error), error.message.key, error.field) == (
        str(Message("model.freed", name="a")),
        "model.freed",
        "model",
    )


def test_what_is_plain_has_no_key() -> None:
    error = UserError.plain("One value {too} many.")
    assert str(error) == "One value {too} many."
    assert as_data(error.message) == "One value {too} many."


# ---------------------------------------------------------------- the files


def placeholders(sentence: Sentence) -> set[str]:
    forms = [sentence] if isinstance(sentence, str) else sentence.values()
    return {name for form in forms for _, name, _, _ in Formatter().parse(form) if name is not None}


def marks(sentence: Sentence) -> list[str]:
    return TAG.findall(sentence) if isinstance(sentence, str) else []


def all_english() -> Mapping[str, Sentence]:
    """Return all sentences by key, including those declared in the code."""
    return {**english().sentences, **dict(declared_texts())}


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_has_every_key_and_no_other(code: str) -> None:
    assert set(languages()[code].sentences) == set(all_english())


@pytest.mark.parametrize("code", OTHERS)
def test_a_language_has_the_same_placeholders_and_marks(code: str) -> None:
    for key, sentence in languages()[code].sentences.items():
        assert placeholders(sentence) == placeholders(all_english()[key]), key
        assert marks(sentence) == marks(all_english()[key]), key


@pytest.mark.parametrize("code", languages())
def test_the_keys_of_a_file_are_in_order_and_each_stands_once(code: str) -> None:
    pairs = json.loads((FOLDER / f"{code}.json").read_text(encoding="utf-8"), object_pairs_hook=list)
    keys = [key for key, _ in pairs]
    assert keys == sorted(keys)


# ---------------------------------------------------------------- the source


def sources() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def literals() -> Iterator[str]:
    """Yield every string literal in the source; {} stands for what is only known at run time."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
    for path in sorted(ROOT.rglob("*.js")):
        yield from re.findall(r"[\"`]([a-z_.]+(?:\$\{.*\})?)[\"`]", path.read_text(encoding="utf-8"))


def used_keys() -> set[str]:
    """Return the keys the source names, and those it builds from a literal and a run-time value."""
    patterns = {re.escape(text).replace(r"\{\}", r"[\w.]+") for text in literals() if BEGINNING_OF_KEY.match(text)}
    patterns |= {r"joint\.\w+", r"page\.skeleton\.\w+"}
    whole = re.compile("|".join(sorted(patterns)))
    return {key for key in english().sentences if whole.fullmatch(key) or key.startswith(OF_THE_SCRIPT)}


def test_every_key_is_used() -> None:
    assert set(english().sentences) - used_keys() == set()


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in the source to functions or classes of these names, with its file and line."""
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
                yield f"{path.relative_to(ROOT)}:{node.lineno}", node


def test_every_key_that_the_source_names_has_a_sentence_with_the_values_that_it_gives() -> None:
    wrong = []
    for place, call in calls("Message", "UserError", "LayoutError"):
        key = call.args[0] if call.args else None
        if not isinstance(key, ast.Constant) or any(keyword.arg is None for keyword in call.keywords):
            continue
        given = {str(keyword.arg) for keyword in call.keywords} | (
            {"file"} if "LayoutError" in ast.dump(call.func) else set()
        )
        sentence = english().sentences.get(str(key.value))
        wanted = None if sentence is None else placeholders(sentence)
        if wanted is None or not wanted <= given or not given - wanted <= {"count"}:
            wrong.append((place, key.value, given, wanted))
    assert wrong == []


def test_no_error_is_written_out_in_place() -> None:
    wrong = []
    for place, call in calls("UserError"):
        said = call.args[0]
        if isinstance(said, ast.JoinedStr) or (isinstance(said, ast.Constant) and not KEY.fullmatch(str(said.value))):
            wrong.append(place)
    assert wrong == []


def test_joints_presets_and_groups_of_words_have_names() -> None:
    assert [joint_title(name) for name in JOINT_NAMES] == list(JOINT_NAMES)
    assert [preset_title(name) for name in presets()] == list(presets())
    shown = {f"words.group.{name}" for name in entry_from_folder(BUNDLED, name="toybox").words}
    assert {key for key in english().sentences if key.startswith("words.group.")} <= shown
