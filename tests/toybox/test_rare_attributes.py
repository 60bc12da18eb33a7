"""What captions say of poses and mouths shows in the hidden states after the caption's end, and nowhere else."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
import torch

from toybox import world
from toybox.recipe.cached import Captions
from toybox.recipe.data import ToyData, load_or_draw
from toybox.recipe.rare_attributes import mentioned_words, orthogonal
from toybox.recipe.settings import TINY, StageSettings
from toybox.recipe.stages import run
from toybox.recipe.towers import load_text_encoder

LONG_ENOUGH = StageSettings(samples=6400, batch_size=16, lr=3e-3)


@pytest.fixture(scope="module")
def towers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a folder with the text encoder before the stage, and the work folder in which the stage trained it."""
    before, after = (tmp_path_factory.mktemp(name) for name in ("before", "after"))
    run(TINY, after, ["tokenizer", "clip"])
    load_text_encoder(after).save_pretrained(before / "text_encoder")
    run(dataclasses.replace(TINY, rare_attributes=LONG_ENOUGH), after, ["rare_attributes"])
    return before, after


def states(folder: Path, data: ToyData, tokens_of: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the hidden states of the canonical captions, and where the captions have ended."""
    captions = Captions(data, tokens_of, "train")
    ids = captions.ids[:, 0]
    with torch.no_grad():
        ended = ids == torch.tensor(captions.tokenizer.eos_token_id)
        return load_text_encoder(folder)(ids).last_hidden_state, ended


def test_only_the_states_after_the_end_change_much(towers: tuple[Path, Path]) -> None:
    before, after = towers
    data = load_or_draw(TINY, after / "data", "train")
    old, ended = states(before, data, after)
    new, _ = states(after, data, after)
    change = (new - old).norm(dim=-1)
    assert change[ended].mean() > 3 * change[~ended].mean()


def test_words_are_made_heard_only_once(towers: tuple[Path, Path]) -> None:
    _, after = towers
    written = (after / "text_encoder" / "model.safetensors").read_bytes()
    run(dataclasses.replace(TINY, rare_attributes=LONG_ENOUGH), after, ["rare_attributes"])
    assert (after / "text_encoder" / "model.safetensors").read_bytes() == written


def test_the_pose_can_be_told_from_the_last_state_alone(towers: tuple[Path, Path]) -> None:
    before, after = towers
    data = load_or_draw(TINY, after / "data", "train")
    poses = data.labels[:, list(world.ATTRIBUTES).index("pose")]
    between = []
    for folder in towers:
        last = states(folder, data, after)[0][:, -1]
        means = torch.stack([last[torch.from_numpy(poses == pose)].mean(dim=0) for pose in set(poses.tolist())])
        between.append(float(means.var(dim=0).sum() / last.var(dim=0).sum()))
    assert between[1] > between[0]


def test_captions_count_as_saying_a_pose_only_where_they_name_it() -> None:
    rng = random.Random(5)
    scene = world.sample_scene(rng, pose="hands on hips")
    view = world.View(world.sample_subject(rng), scene)
    assert world.says(world.full_caption(view), "pose", "hands on hips")
    assert not world.says("a blue cat in the snow", "pose", "hands on hips")
    assert world.says("a blue cat with an open mouth", "mouth", "open")
    assert not world.says("a blue cat with an open mouth", "mouth", "smile")


def test_full_captions_say_both_and_scenes_never_a_mouth(towers: tuple[Path, Path]) -> None:
    data = load_or_draw(TINY, towers[1] / "data", "train")
    said = mentioned_words(data)
    poses = len(world.ATTRIBUTES["pose"])
    assert (said[:, 0].sum(dim=-1) == 2).all()
    assert (said[:, -1, poses:] == 0).all()


def test_directions_are_at_right_angles() -> None:
    directions = orthogonal(13, 32, seed=1)
    torch.testing.assert_close(directions @ directions.T, torch.eye(13), atol=1e-5, rtol=0)
