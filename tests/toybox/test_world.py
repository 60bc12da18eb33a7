from __future__ import annotations

import math
import random
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from toybox import world

LIMBS = range(1, 14)


def views(count: int, *, seed: int = 0) -> list[world.View]:
    rng = random.Random(seed)
    return [world.sample_view(rng) for _ in range(count)]


def pixels(view: world.View, size: int = 64) -> np.ndarray:
    return np.asarray(world.render(view, size), dtype=np.float32)


def test_the_same_view_gives_the_same_pixels() -> None:
    (view,) = views(1)
    assert world.render(view, 96).tobytes() == world.render(view, 96).tobytes()
    assert world.render(view, 96).mode == "RGB"
    assert world.render(view, 96).size == (96, 96)


def test_the_same_seed_samples_the_same_views() -> None:
    assert views(5, seed=3) == views(5, seed=3)
    assert views(5, seed=3) != views(5, seed=4)


def test_held_out_subjects_never_occur_in_training() -> None:
    rng = random.Random(1)
    trained = [world.sample_subject(rng) for _ in range(2000)]
    kept = [world.sample_subject(rng, held_out=True) for _ in range(200)]
    assert not any(world.is_held_out(subject) for subject in trained)
    assert all(world.is_held_out(subject) for subject in kept)


def test_about_one_combination_in_twenty_is_held_out() -> None:
    subject = world.sample_subject(random.Random(0))
    held = [
        world.is_held_out(replace(subject, species=species, fur=fur, shirt=shirt))
        for species in world.ATTRIBUTES["species"]
        for fur in world.ATTRIBUTES["fur"]
        for shirt in world.ATTRIBUTES["shirt"]
    ]
    assert 0.03 < sum(held) / len(held) < 0.08


def test_what_is_held_out_is_the_same_in_another_process() -> None:
    rng = random.Random(2)
    mine = [world.is_held_out(world.sample_view(rng, held_out=i % 2 == 0).subject) for i in range(20)]
    code = (
        "import random; from toybox import world; rng = random.Random(2);"
        "print([world.is_held_out(world.sample_view(rng, held_out=i % 2 == 0).subject) for i in range(20)])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == str(mine)


@pytest.mark.parametrize("pose", world.POSES)
def test_limb_keypoints_lie_on_the_figure(pose: str) -> None:
    rng = random.Random(5)
    for _ in range(6):
        view = world.View(world.sample_subject(rng), world.sample_scene(rng, pose=pose))
        mask = world.render_mask(view, 128)
        points = world.keypoints(view)
        assert len(points) == 18
        assert all(0 < x < 1 and 0 < y < 1 for x, y in points)
        for index in LIMBS:
            x, y = points[index]
            assert mask.getpixel((int(x * 128), int(y * 128))) > 200


def free_views(count: int) -> list[world.View]:
    rng = random.Random(6)
    return [world.View(world.sample_subject(rng), world.sample_scene(rng, is_free=True)) for _ in range(count)]


def test_free_limbs_lie_on_a_figure_that_is_inside_the_picture() -> None:
    for view in free_views(40):
        mask = world.render_mask(view, 128)
        left, top, right, bottom = mask.getbbox() or (0, 0, 0, 0)
        assert top > 0 and left > 0 and right < 128 and bottom < 126
        points = world.keypoints(view)
        for index in LIMBS:
            x, y = points[index]
            assert mask.getpixel((int(x * 128), int(y * 128))) > 200


def test_free_limbs_point_where_no_pose_has_them() -> None:
    def arms(view: world.View) -> list[float]:
        points = np.array(world.keypoints(view))
        ways = points[[3, 4, 6, 7]] - points[[2, 3, 5, 6]]
        return [math.degrees(math.atan2(x, y)) for x, y in ways]

    named = [arms(view) for view in views(300)]
    freed = [arms(view) for view in free_views(100)]
    nearest = [min(max(abs(a - b) for a, b in zip(one, other, strict=True)) for other in named) for one in freed]
    assert float(np.median(nearest)) > 20


def test_no_caption_names_the_pose_of_free_limbs() -> None:
    rng = random.Random(7)
    for view in free_views(30):
        texts = [world.full_caption(view), world.scene_caption(view, rng)]
        texts += [world.caption(view, rng) for _ in range(6)]
        assert not any(world.says(text, "pose", pose) for text in texts for pose in world.POSES)


def test_right_is_on_the_left_of_the_picture() -> None:
    for pose in world.POSES:
        points = world.pose_keypoints(pose)
        assert points[2][0] < points[5][0]  # shoulders
        assert points[14][0] < points[15][0]  # eyes


def test_an_unknown_pose_has_no_keypoints() -> None:
    with pytest.raises(KeyError):
        world.pose_keypoints("flying")


def test_the_figure_mask_is_where_the_picture_differs_from_its_background() -> None:
    for view in views(12, seed=7):
        other = world.View(world.sample_subject(random.Random(9)), view.scene)
        mask = np.asarray(world.render_mask(view, 128)) > 0
        union = mask | (np.asarray(world.render_mask(other, 128)) > 0)
        difference = np.abs(pixels(view, 128) - pixels(other, 128)).max(axis=2) > 8
        assert not (difference & ~union).any()


def test_the_figure_is_large_and_inside_the_picture() -> None:
    for view in views(80, seed=8):
        left, top, right, bottom = world.render_mask(view, 128).getbbox() or (0, 0, 0, 0)
        assert top > 0 and left > 0 and right < 128 and bottom < 126
        assert 0.62 < (bottom - top) / 128 < 0.96


def test_part_masks_lie_in_the_figure_and_apart() -> None:
    for view in views(10, seed=6):
        figure, head, shirt = (
            np.asarray(world.render_mask(view, 128, part=part)) > 127 for part in ("figure", "head", "shirt")
        )
        assert not (head & ~figure).any()
        assert not (shirt & ~figure).any()
        assert not (head & shirt).any()
        assert head.sum() > 0.25 * figure.sum()
        assert shirt.sum() > 0.08 * figure.sum()


def test_labels_are_the_attributes() -> None:
    for view in views(50):
        labels = world.labels(view)
        assert tuple(labels) == (*world.SUBJECT_ATTRIBUTES, *world.SCENE_ATTRIBUTES)
        for name, index in labels.items():
            owner = view.subject if name in world.SUBJECT_ATTRIBUTES else view.scene
            assert world.ATTRIBUTES[name][index] == getattr(owner, name)


def test_colors_of_nothing_are_none() -> None:
    for view in views(300):
        subject = view.subject
        assert (subject.pattern == "plain") == (subject.pattern_color == "none")
        assert (subject.accessory == "none") == (subject.accessory_color == "none")
        assert (view.scene.background == "wall") == (view.scene.background_color != "none")
        assert subject.pattern_color != subject.shirt


def test_a_second_view_keeps_the_subject_and_changes_the_picture() -> None:
    (view,) = views(1)
    second = world.View(view.subject, world.sample_scene(random.Random(4), pose="jumping"))
    first_labels, second_labels = world.labels(view), world.labels(second)
    assert all(first_labels[name] == second_labels[name] for name in world.SUBJECT_ATTRIBUTES)
    assert np.abs(pixels(view) - pixels(second)).mean() > 5


@pytest.mark.parametrize("name", world.SUBJECT_ATTRIBUTES)
def test_every_value_of_an_attribute_looks_different(name: str) -> None:
    subject = world.Subject(
        species="bear", fur="brown", eyes="round", mouth="smile", shirt="blue", pattern="heart",
        pattern_color="yellow", trousers="red", accessory="bow", accessory_color="pink",
    )  # fmt: skip
    scene = world.Scene(pose="standing", background="wall", background_color="green")
    values = [value for value in world.ATTRIBUTES[name] if value != "none"]
    drawn = [pixels(world.View(replace(subject, **{name: value}), scene), 128) for value in values]
    for i, one in enumerate(drawn):
        for other in drawn[:i]:
            assert (np.abs(one - other).max(axis=2) > 24).sum() >= 15
