"""The page is available in every language with a file; a new file adds a language."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from gradio.route_utils import BUILD_PATH_LIB

from ipa_app.engine.references import MOST_REFERENCES
from ipa_app.messages import FOLDER, Message, english, languages
from ipa_app.pose.presets import preset_title, presets
from ipa_app.ui.form import reference_name
from ipa_app.ui.language.markup import attribute, known, said
from ipa_app.ui.language.switch import declared_texts, setup
from ipa_app.ui.references import weight_label


def test_english_comes_first_and_each_language_names_itself() -> None:
    assert [each.name for each in languages().values()] == ["English", "中文"]


def test_a_file_is_a_language_and_says_in_english_what_it_lacks(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "messages", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "eo.json").write_text(json.dumps({"language.name": "Esperanto", "page.stop": "Haltu"}), encoding="utf-8")
    offered = {each["code"]: each for each in setup(languages(folder), known=[])["languages"]}
    assert list(offered) == ["en", "eo", "zh"]
    assert offered["eo"]["name"] == "Esperanto"
    assert offered["eo"]["sentences"]["page.stop"] == "Haltu"
    assert offered["eo"]["sentences"]["page.generate"] == "Generate"
    assert offered["eo"]["sentences"].keys() == offered["zh"]["sentences"].keys()


def test_a_file_that_cannot_be_read_leaves_the_other_languages(tmp_path: Path) -> None:
    folder = shutil.copytree(FOLDER, tmp_path / "messages", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    (folder / "eo.json").write_text('{"page.stop": "Haltu"', encoding="utf-8")
    (folder / "fr.json").write_text("[]", encoding="utf-8")
    assert list(languages(folder)) == ["en", "zh"]


def looked_up() -> dict[str, Any]:
    return dict(setup(languages(), known=[])["texts"])


def test_texts_of_components_are_looked_up_by_what_they_are_in_english() -> None:
    assert looked_up()["Generate"] == "page.generate"
    assert looked_up()["How many pictures"] == "option.count.label"
    assert looked_up()["Left half"] == "option.region.shown.left"


def test_what_gradio_says_of_a_lost_connection_is_what_its_scripts_say() -> None:
    scripts = "".join(path.read_text(encoding="utf-8") for path in Path(BUILD_PATH_LIB).glob("[Bi]*.js"))
    for name in ("connection_errored_out", "connection_lost", "connection_lost_reconnecting", "currently_busy"):
        assert f"`{english().sentences[f'gradio.{name}']}" in scripts, name


def test_no_english_text_of_a_component_has_two_translations() -> None:
    sentences: dict[str, set[str]] = {}
    chinese = languages()["zh"].sentences
    of_components = ("page.", "style.", "gradio.")
    for key, text in {**english().sentences, **dict(declared_texts())}.items():
        if isinstance(text, str) and key.startswith(of_components) or key.endswith((".label", ".help")):
            sentences.setdefault(str(text), set()).add(str(chinese[key]))
    assert {text: said for text, said in sentences.items() if len(said) > 1} == {}


def test_what_is_laid_out_with_values_is_known_by_its_whole_text() -> None:
    numbers = range(1, MOST_REFERENCES + 1)
    told = [reference_name(2), *map(weight_label, numbers), *map(preset_title, presets())]
    texts = dict(setup(languages(), known=told)["texts"])
    assert texts["Reference picture 2"] == {"key": "upload.reference_number", "values": {"number": 2}}
    assert texts["Weight of picture 4"] == {"key": "option.weight.label", "values": {"number": 4}}
    assert texts["arms up"] == {"key": "preset.arms_up", "values": {}}


def test_html_knows_what_it_says() -> None:
    note = said(Message("model.unknown", name="<a>", names="b"), tag="p", css_class="ipa-note")
    assert note.startswith('<p class="ipa-note" data-message="[{&quot;key&quot;: &quot;model.unknown&quot;')
    assert note.endswith(">There is no model &lt;a&gt;; choose from: b.</p>")
    assert said("<plain>") == "<span>&lt;plain&gt;</span>"
    assert attribute("title", "<plain>") == ' title="&lt;plain&gt;"'
    assert 'data-message-title="' in attribute("title", Message("page.stop"))
    assert known(["plain"]) == ""
