"""The recipe's files on disk are complete, or are made again."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ipa_app.models.catalog import BUNDLED
from ipa_app.runtime import written_whole
from toybox.recipe.data import ToyData, load_or_draw
from toybox.recipe.settings import TINY
from toybox.recipe.tokenizer import load_tokenizer, token_ids


def test_a_file_that_could_not_be_finished_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    path.write_text("before", "utf-8")
    with pytest.raises(OSError, match="full"), written_whole(path) as part:
        part.write_text("half of", "utf-8")
        raise OSError("the disk is full")
    assert [(each.name, each.read_text("utf-8")) for each in tmp_path.iterdir()] == [("figures.json", "before")]


def test_token_ids_that_were_half_written_are_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = np.zeros((1, 1))
    data = ToyData(nothing, nothing, nothing, captions=[["a red bear", "a bear"]], scene_captions=["on the beach"])
    tokenizer = load_tokenizer(BUNDLED)

    def killed(_ids: object, file: Path) -> None:
        file.write_bytes(b"PK")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            token_ids(tokenizer, data, tmp_path, "train")
    captions, scenes = token_ids(tokenizer, data, tmp_path, "train")
    assert captions.shape[:2] == (1, 2)
    assert torch.equal(scenes[0], torch.tensor(tokenizer("on the beach", padding="max_length").input_ids))


def test_a_split_is_drawn_once(tmp_path: Path) -> None:
    recipe = dataclasses.replace(TINY, subjects=1)
    first = load_or_draw(recipe, tmp_path, "train")
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == [
        "captions.json",
        "images.npy",
        "keypoints.npy",
        "labels.npy",
    ]
    texts = tmp_path / "train" / "captions.json"
    texts.write_text(json.dumps({"captions": first.captions, "scene_captions": ["kept", "kept"]}), "utf-8")
    assert load_or_draw(recipe, tmp_path, "train").scene_captions == ["kept", "kept"]


def test_many_processes_draw_what_one_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = load_or_draw(TINY, tmp_path / "one", "heldout")
    monkeypatch.setattr("toybox.recipe.data.FEW", 1)
    many = load_or_draw(TINY, tmp_path / "many", "heldout")
    assert np.array_equal(many.images, one.images)
    assert np.array_equal(many.keypoints, one.keypoints)
    assert np.array_equal(many.labels, one.labels)
    assert (many.captions, many.scene_captions) == (one.captions, one.scene_captions)
