"""The choice of adapters, including a visitor's own, as the page's handlers and the API answer it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from ipa_app.imaging.result_files import read_settings
from ipa_app.messages import Message
from ipa_app.models.adapter_set import AdapterSet
from ipa_app.models.hashing import file_hash
from ipa_app.ui.adapters import MOST_OWN, AdapterMenu, left_out_html
from ipa_app.ui.orders import SERIES
from ipa_app.ui.restore import Restorer
from ipa_app.ui.running import Runner
from tests.adapter_files import published_shapes, write_adapter, write_shapes
from tests.engine.conftest import noise_picture
from tests.seen import text_of
from tests.tiny_models import random_adapter_tensors, tiny_unet
from tests.ui.page_parts import Opened, inputs_after, value_after
from tests.ui.serving import served

USUAL = [("Base — overall look", "base"), ("Fine-grained — more detail", "fine")]


def written(path: Path, *, kind: str = "full", seed: int = 4) -> Path:
    return write_adapter(path, random_adapter_tensors(tiny_unet(), kind=kind, seed=seed))


@pytest.fixture
def menu(page: Opened) -> AdapterMenu:
    parts, studio = page
    return AdapterMenu(parts, studio=studio)


@pytest.fixture
def mine(page: Opened, menu: AdapterMenu, tmp_path: Path) -> Iterator[tuple[str, Path, dict[Any, Any]]]:
    """The key of a file a visitor has dropped, the file, and the update of the page that follows."""
    parts, studio = page
    file = written(tmp_path / "toys.safetensors")
    update = menu.add({"path": str(file)}, "toybox", [], "base")
    (key,) = update[parts.panel.adapters.own]
    yield key, file, update
    studio.manager.adapters.remove([key])


def test_the_page_opens_with_what_the_model_has(page: Opened) -> None:
    parts, _ = page
    assert [tuple(choice) for choice in parts.panel.adapters.choice.choices] == USUAL
    assert text_of(parts.panel.adapters.left_out.value) == ""
    assert not parts.tab_of("variation").compared.visible, "there is no choice between two"


def test_a_dropped_file_is_offered_to_its_visitor_and_chosen(
    page: Opened, menu: AdapterMenu, mine: tuple[str, Path, dict[Any, Any]]
) -> None:
    parts, studio = page
    key, _, update = mine
    panel = parts.panel.adapters
    assert update[panel.choice]["choices"] == [*USUAL, ("toys", key)]
    assert update[panel.choice]["value"] == key
    assert update[panel.file] is None
    assert "toys has been added and chosen." in update[panel.note]
    assert update[parts.tab_of("variation").compared]["visible"]
    stranger = menu.show("toybox", [], key)
    assert stranger[panel.choice] == gr.update(choices=USUAL, value="base")
    assert studio.models()["toybox"]["adapters"] == ["base", "fine"]


def test_it_is_drawn_with_restored_and_known_to_nobody_else(
    page: Opened,
    runner: Runner,
    mine: tuple[str, Path, dict[Any, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parts, studio = page
    key, file, update = mine
    noise_picture(3).save(tmp_path / "reference.png")
    entered = {
        parts.panel.references.slots[0].image: str(tmp_path / "reference.png"),
        parts.settings.inputs["count"]: 1,
    }
    *_, last = runner.run("variation")(**inputs_after(parts, "variation", {**update, **entered}))
    path = last[parts.results.gallery]["value"][0][0]
    noted = read_settings(path) or {}
    assert (noted["adapter"], noted["adapter_sha256"]) == ("toys", file_hash(file))
    assert key.partition("~")[2].encode() not in Path(path).read_bytes()

    restorer = Restorer(parts, studio=studio)
    restored = restorer.from_upload({"path": path}, [key])
    assert value_after(parts.panel.adapters.choice, restored) == key
    assert "Everything is set as it was. Press Generate" in restored[parts.restore.note]
    stranger = restorer.from_upload({"path": path})
    assert set(stranger) == {parts.restore.note, parts.restore.file}
    assert "no adapter 'toys' (it has base, fine)" in text_of(stranger[parts.restore.note])

    written(file, seed=5)
    told: list[str] = []
    monkeypatch.setattr("gradio.Info", told.append)
    restored = restorer.from_result(path, [key])
    assert "the adapter toys now has a different file" in restored[parts.restore.note]
    assert ["the adapter toys now has a different file" in each for each in told] == [True]


def test_what_cannot_be_used_is_said_and_changes_no_choice(page: Opened, menu: AdapterMenu, tmp_path: Path) -> None:
    parts, _ = page
    panel = parts.panel.adapters
    file = write_shapes(tmp_path / "sd15.safetensors", published_shapes("ip-adapter_sd15"))
    update = menu.add({"path": str(file)}, "toybox", [], "fine")
    assert "sd15.safetensors was made for Stable Diffusion 1.x" in update[panel.note]
    assert update[panel.choice] == gr.update(choices=USUAL), "the choice is the visitor's, who may have chosen anew"
    assert (update[panel.own], update[panel.file]) == ([], None)


def test_a_visitor_keeps_the_latest_few(page: Opened, menu: AdapterMenu, tmp_path: Path) -> None:
    parts, studio = page
    own: list[str] = []
    for number in range(MOST_OWN + 2):
        update = menu.add({"path": str(written(tmp_path / f"{number}.bin"))}, "toybox", own, "base")
        own = update[parts.panel.adapters.own]
    assert [key.partition("~")[0] for key in own] == [str(number) for number in range(2, MOST_OWN + 2)]
    assert sum("~" in name for name in studio.entry("toybox").adapters) == MOST_OWN
    studio.manager.adapters.remove(own)


def test_another_model_shows_its_own_and_what_fits_it(
    page: Opened, menu: AdapterMenu, mine: tuple[str, Path, dict[Any, Any]]
) -> None:
    parts, _ = page
    key, *_ = mine
    shown = menu.show("other", [key], key)
    assert "value" not in shown[parts.panel.adapters.choice], "it fits this one, too, and stays"
    shown = menu.show("other", [key, "gone~secret"], "gone~secret")
    assert shown[parts.panel.adapters.choice]["value"] == "base"


def test_what_is_ticked_to_compare_stays_as_long_as_it_is_there(
    page: Opened, menu: AdapterMenu, mine: tuple[str, Path, dict[Any, Any]]
) -> None:
    parts, _ = page
    key, *_ = mine
    box = parts.tab_of("variation").compared
    shown = menu.show("toybox", [key], "base", ["fine", key])
    assert [value for _, value in shown[box]["choices"]] == ["base", "fine", key]
    assert "value" not in shown[box]
    assert menu.show("toybox", [], "base", ["fine", key])[box]["value"] == ["base", "fine"]


def test_what_is_left_out_is_plain_text(page: Opened) -> None:
    _, studio = page
    entry = replace(studio.entry("toybox"), left_out=(Message.plain("<b>a</b>.bin is damaged."),))
    assert "&lt;b&gt;a&lt;/b&gt;.bin is damaged." in left_out_html(entry)
    assert "One adapter file cannot be used" in left_out_html(entry)
    assert "2 adapter files cannot be used" in left_out_html(
        replace(entry, left_out=(Message.plain("a"), Message.plain("b")))
    )


@pytest.mark.parametrize("chosen", [["base", "mine"], ["fine", "base", "mine"]])
def test_any_two_or_more_are_compared(
    page: Opened, runner: Runner, mine: tuple[str, Path, dict[Any, Any]], tmp_path: Path, chosen: list[str]
) -> None:
    parts, _ = page
    key, *_ = mine
    noise_picture(3).save(tmp_path / "reference.png")
    inputs = inputs_after(parts, "variation", {parts.panel.references.slots[0].image: str(tmp_path / "reference.png")})
    compared = [key if name == "mine" else name for name in chosen]
    *_, last = runner.run("variation", SERIES["both-adapters"])(**inputs, compared=compared)
    titles = {"base": "Base", "fine": "Fine-grained", "mine": "toys"}
    captions = [caption for _, caption in last[parts.results.gallery]["value"]]
    assert captions == [titles[name] for name in chosen]
    assert last[parts.results.compared]["visible"] == (len(chosen) == 2)
    assert last[parts.results.gallery]["columns"] == len(chosen)
    said = (
        "Left of the handle: Base; right of it: toys; both with seed" if len(chosen) == 2 else "One picture per adapter"
    )
    assert said in last[parts.results.status]


@pytest.mark.parametrize("compared", [[], ["base"]], ids=len)
def test_one_alone_is_not_compared(page: Opened, runner: Runner, tmp_path: Path, compared: list[str]) -> None:
    parts, _ = page
    noise_picture(3).save(tmp_path / "reference.png")
    inputs = inputs_after(parts, "variation", {parts.panel.references.slots[0].image: str(tmp_path / "reference.png")})
    with pytest.raises(gr.Error, match="at least two adapters"):
        list(runner.run("variation", SERIES["both-adapters"])(**inputs, compared=compared))


def test_the_api_takes_every_name_that_it_lists(
    tiny_bundle_dir: Path, tmp_path: Path, pictures: dict[str, str]
) -> None:
    written(tmp_path / "run" / "ip-adapter-plus.safetensors", kind="plus")
    adapters = AdapterSet(f"toys={tmp_path / 'run'}:{tmp_path / 'nowhere.bin'}")
    with served(tiny_bundle_dir, adapters=adapters) as url:
        client = Client(url, verbose=False, download_files=str(tmp_path))
        model = client.predict(api_name="/models")["toybox"]
        assert model["adapters"] == ["base", "fine", "toys"]
        assert model["adapters_left_out"] == ["IPA_ADAPTERS names nowhere.bin, which is not there."]
        wish = {"reference": handle_file(pictures["plain.png"]), "seed": 3, "api_name": "/variation"}
        drawn = {name: client.predict(**wish, adapter=name) for name in [*model["adapters"], "ip-adapter_toybox"]}
        pixels = {name: Path(files[0]).read_bytes() for name, (files, _) in drawn.items()}
        assert len(set(pixels.values())) == 3
        assert pixels["ip-adapter_toybox"] == pixels["base"], "a file's own name is one more of its names"
        assert [settings["adapter"] for _, settings in drawn.values()] == ["base", "fine", "toys", "base"]
        with pytest.raises(AppError, match=r"no adapter 'best' \(it has base, fine, toys\)"):
            client.predict(**wish, adapter="best")
