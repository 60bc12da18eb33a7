"""Where references count, as programs state it and as the page shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ipa_app.ui.references import Filling
from ipa_app.ui.regions import Regions
from tests.seen import text_of
from tests.ui.page_parts import Opened
from tests.ui.test_api import pixels


def test_each_reference_can_have_a_mask_of_its_own(client: Client, pictures: dict[str, str], tmp_path: Path) -> None:
    halves = {name: Image.new("L", (32, 32)) for name in ("left", "right")}
    halves["left"].paste(255, (0, 0, 16, 32))
    halves["right"].paste(255, (16, 0, 32, 32))
    for name, mask in halves.items():
        mask.save(tmp_path / f"{name}.png")
    one, two = (handle_file(pictures[name]) for name in ("plain.png", "rotated.jpg"))
    left, right = (handle_file(str(tmp_path / f"{name}.png")) for name in halves)
    wish: dict[str, Any] = {"reference": one, "reference_2": two, "weight_2": 0.5, "seed": 5, "api_name": "/variation"}
    painted: dict[str, Any] = {"region_mask": left, "region_mask_2": right}
    named: dict[str, Any] = {"region": "left", "region_2": "right"}
    (masked,), settings = client.predict(**wish, **painted)
    ((halved,), _), ((everywhere,), _) = client.predict(**wish, **named), client.predict(**wish)
    difference = np.abs(pixels(masked).astype(int) - pixels(halved)).max()
    assert difference <= 1
    assert not np.array_equal(pixels(masked), pixels(everywhere))
    noted = settings["references"]
    assert [each["region"] for each in noted] == ["painted"] * 2
    assert [each["weight"] for each in noted] == [1, 0.5]
    with pytest.raises(AppError, match="^region_mask_2: The mask of the region is black all over"):
        client.predict(**wish, region_mask_2=handle_file(pictures["empty_mask.png"]))


def test_each_reference_can_have_words_for_its_place(client: Client, pictures: dict[str, str]) -> None:
    one, two = (handle_file(pictures[name]) for name in ("plain.png", "rotated.jpg"))
    wish: dict[str, Any] = {"reference": one, "region": "left", "reference_2": two, "region_2": "right", "seed": 5}

    def drawn(**more: Any) -> tuple[np.ndarray, dict[str, Any]]:
        (file,), settings = client.predict(**wish, **more, api_name="/variation")
        return pixels(file), settings

    worded, settings = drawn(region_prompt_2="a blue zebra")
    plain, without = drawn()
    assert not np.array_equal(worded, plain)
    assert [each.get("region_prompt") for each in settings["references"]] == [None, "a blue zebra"]
    assert not any("region_prompt" in each for each in without["references"])
    assert any("does not know the word zebra" in note for note in settings["notes"])
    with pytest.raises(AppError, match="^region_prompt_3: There are words for a place but no reference"):
        drawn(region_prompt_3="a cat")
    with pytest.raises(AppError, match="^region_prompt: The reference has words for its place but counts everywhere"):
        client.predict(reference=one, region_prompt="a cat", api_name="/variation")


def test_words_are_seen_with_their_places_and_wait_while_there_is_none(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    Image.new("RGB", (30, 30), (200, 40, 40)).save(tmp_path / "a.png")
    sent: dict[str, Any] = {"reference": {"path": str(tmp_path / "a.png")}, "region_painted": None}
    sent |= {"width": 64, "height": 64, "model": "toybox", "region_prompt": "a <b>cat</b>"}
    regions = Regions({tab.task: tab for tab in parts.tabs}, studio=studio)
    shown = {region: text_of(regions.show("variation", **sent, region=region)) for region in ("left", "everywhere")}
    assert "Reference picture 1: a <b>cat</b>" in shown["left"]
    assert "cat" not in shown["everywhere"]
    words = parts.panel.references.slots[0].region
    assert words.words_box.visible is False
    for region, visible in (("left", True), ("everywhere", False)):
        update = parts.panel.references.fill([Filling(said={"region": region, "region_prompt": "a cat"})])
        assert update[words.words_box]["visible"] is visible
        assert update[words.words] == "a cat"


def test_what_is_painted_on_has_the_shape_of_the_next_picture(page: Opened, tmp_path: Path) -> None:
    parts, studio = page
    regions = Regions({tab.task: tab for tab in parts.tabs}, studio=studio)
    sent: dict[str, Any] = {"width": 0, "height": 96, "model": "other", "image": None}
    sent |= {f"extend_{side}": 0 for side in ("left", "right", "up", "down")}
    entry = studio.entry("other")
    for task in ("variation", "mix", "pose", "inpaint"):
        assert regions.ground(task, sent).size == (entry.width, 96)
    Image.new("RGB", (60, 30), (200, 40, 40)).save(tmp_path / "photo.png")
    changed = {**sent, "height": 0, "image": {"path": str(tmp_path / "photo.png")}, "extend_right": 50}
    ground = regions.ground("inpaint", changed)
    assert ground.size == (90, 30)
    assert ground.getpixel((5, 5)) == (200, 40, 40)
    assert regions.ground("mix", changed).size == (entry.width, entry.height)


def test_a_size_that_cannot_be_drawn_is_said_and_leaves_something_to_paint_on(
    page: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, studio = page
    told: list[str] = []
    monkeypatch.setattr(gr, "Warning", told.append)
    regions = Regions({tab.task: tab for tab in parts.tabs}, studio=studio)
    entry = studio.entry("other")
    assert regions.canvas("mix", {"width": 7, "height": 96, "model": "other"}).size == (entry.width, entry.height)
    assert "width" in text_of(told[0]).lower()
    assert regions.canvas("mix", {"width": 64, "height": 96, "model": "other"}).size == (64, 96)
    assert len(told) == 1
