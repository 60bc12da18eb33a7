"""Inpainting areas: which pixels change, how softly the change begins, and what the model sees of the picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ipa_app.engine.plan import make_plan
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks.area import Area, mark_area, show_area
from ipa_app.engine.tasks.inpaint import make_canvas
from ipa_app.errors import UserError
from ipa_app.imaging.masks import mask_box
from ipa_app.models.catalog import ModelEntry
from tests.effort import check_cpu_s
from tests.engine.conftest import Generate, noise_picture
from tests.mask_drawings import mask_with

Box = tuple[int, int, int, int]

RED = (255, 0, 0)
ROOT = Path(__file__).resolve().parents[3]


def entry_of(width: int, height: int) -> ModelEntry:
    return ModelEntry(
        name="toybox", title="M", location=Path("m"), adapters={}, controlnets={}, width=width, height=height
    )


def area_of(
    size: tuple[int, int],
    *boxes: Box,
    native: tuple[int, int] = (64, 64),
    picture: Image.Image | None = None,
    **fields: Any,
) -> Area:
    """Return the area of a request whose mask covers `boxes`; without boxes there is no mask."""
    mask = mask_with(*boxes, size=size) if boxes else None
    request = GenerateRequest(task="inpaint", image=picture or noise_picture(1, size), mask=mask, **fields)
    return mark_area(make_plan(request, entry_of(*native)))


def changed(area: Area) -> np.ndarray:
    return np.asarray(area.mask) > 0


def drawn_red(size: tuple[int, int], *boxes: Box, native: tuple[int, int] = (64, 64), **fields: Any) -> np.ndarray:
    """Return the red channel of the result where the model draws plain red over a black picture."""
    mask = mask_with(*boxes, size=size) if boxes else None
    request = GenerateRequest(task="inpaint", image=Image.new("RGB", size), mask=mask, **fields)
    canvas = make_canvas(make_plan(request, entry_of(*native)), cell=8)
    return np.asarray(canvas.finish(Image.new("RGB", native, RED)))[..., 0]


_IN_LITTLE_MEMORY = """
import resource
from PIL import Image
from tests.engine.tasks.test_area import drawn_red

def most(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
drawn_red((80, 60), (2, 3, 30, 40))
virtual = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (virtual + 10**9, -1))
before = most()
red = drawn_red(SIZE, *BOXES, extend_left=EXTENDED)
assert 255 in red[:, :8] and red.shape[::-1] == (SIZE[0] + (SIZE[0] if EXTENDED else 0), SIZE[1]), red.shape
assert not EXTENDED or red[:, 8:].max() == 0
print(most() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at its memory in Linux' own way")
@pytest.mark.parametrize(
    ("size", "boxes", "extended"), [((8, 60_000), (), 100), ((8, 60_000), ((0, 0, 8, 60_000),), 0)], ids=str
)
def test_a_long_thin_picture_takes_memory_for_its_pixels_alone(
    size: tuple[int, int], boxes: tuple[Box, ...], extended: int
) -> None:
    names = f"SIZE, BOXES, EXTENDED = {size!r}, {boxes!r}, {extended!r}\n"
    run = [sys.executable, "-c", names + _IN_LITTLE_MEMORY]
    ended = subprocess.run(run, capture_output=True, text=True, check=False, cwd=ROOT)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 200e6


@pytest.mark.parametrize("native", [(64, 64), (128, 128), (512, 512), (768, 512)], ids=str)
@pytest.mark.parametrize(
    "size_and_box", [((333, 222), (100, 100, 131, 161)), ((900, 700), (0, 500, 600, 700))], ids=str
)
def test_left_alone_it_is_a_quarter_of_surroundings_and_a_64th_of_softness(
    native: tuple[int, int], size_and_box: tuple[tuple[int, int], Box]
) -> None:
    size, box = size_and_box
    picture, aspect = Image.linear_gradient("L").resize(size).convert("RGB"), native[0] / native[1]
    area = area_of(size, box, native=native, picture=picture)
    left, top, right, bottom = mask_box(mask_with(box, size=size), padding=0.25, aspect=aspect, min_side=max(native))
    assert area.picture.tobytes() == picture.tobytes()
    assert area.mask.tobytes() == mask_with(box, size=size).tobytes()
    assert (area.window[2] - area.window[0]) / (area.window[3] - area.window[1]) == pytest.approx(aspect, abs=0.01)
    assert area.window[0] <= left <= right <= area.window[2]
    assert area.window[1] <= top <= bottom <= area.window[3]
    assert (area.window[0], area.window[2]) == (left, right) or (area.window[1], area.window[3]) == (top, bottom)

    window = np.arange(area.window[0], area.window[2]), np.arange(area.window[1], area.window[3])
    columns, rows = (line.clip(0, limit - 1) for line, limit in zip(window, size, strict=True))
    seen = Image.fromarray(np.asarray(area.mask)[np.ix_(rows, columns)])
    level = Image.fromarray(
        (np.asarray(seen.convert("F").resize(native, Image.Resampling.BOX)) > 0).astype(np.uint8) * 255
    )
    levels = [level]
    while len(levels) < native[0] // 64:
        levels.append(levels[-1].filter(ImageFilter.MinFilter(3)))
    expected = np.rint(np.mean([np.asarray(level) for level in levels], axis=0))
    assert np.array_equal(np.asarray(area.feather_mask), expected)


def test_settings_as_they_are_from_the_start_draw_the_same_bytes_as_none(generate: Generate) -> None:
    order = {"task": "inpaint", "image": noise_picture(1), "mask": mask_with((9, 9, 30, 20), size=(48, 40)), "seed": 3}
    spelled_out = {"mask_invert": False, "mask_grow": 0, "mask_feather": 1, "area": "masked", "mask_padding": 25}
    plain, same = generate(**order), generate(**order, **spelled_out, extend_left=0)
    assert plain.images[0].tobytes() == same.images[0].tobytes()
    assert plain.settings == same.settings


def test_a_swapped_mask_keeps_what_is_painted() -> None:
    painted = mask_with((10, 10, 30, 20), size=(60, 40))
    assert np.array_equal(changed(area_of((60, 40), (10, 10, 30, 20), mask_invert=True)), np.asarray(painted) == 0)
    with pytest.raises(UserError, match="Nothing of the mask is left"):
        area_of((60, 40), (0, 0, 60, 40), mask_invert=True)


def test_growth_is_in_percent_of_the_longer_side() -> None:
    box = (100, 40, 120, 60)
    assert area_of((200, 100), box, mask_grow=5).mask.getbbox() == (90, 30, 130, 70)
    assert area_of((200, 100), box, mask_grow=-2.5).mask.getbbox() == (105, 45, 115, 55)
    with pytest.raises(UserError, match="shrink it less"):
        area_of((200, 100), box, mask_grow=-20)
    # Growing applies to what remains to be changed.
    assert area_of((200, 100), box, mask_invert=True, mask_grow=2.5).mask.getbbox() == (0, 0, 200, 100)
    kept = ~changed(area_of((200, 100), box, mask_invert=True, mask_grow=2.5))
    assert (np.argwhere(kept).min(axis=0) == (45, 105)).all()


@pytest.mark.parametrize("softness", [0, 0.5, 1, 4, 8])
@pytest.mark.parametrize("growth", [0, 4])
def test_softness_never_reaches_beyond_the_mask(softness: float, growth: float) -> None:
    size, box = (700, 500), (200, 150, 500, 400)
    red = drawn_red(size, box, native=(128, 128), mask_feather=softness, mask_grow=growth)
    inside = changed(area_of(size, box, mask_grow=growth))
    assert (red[~inside] == 0).all()
    assert red[270, 350] == 255
    middle_row = red[270, 200 - round(7 * growth) : 350].astype(int)
    assert (np.diff(middle_row) >= 0).all()


def test_softer_is_wider_and_0_is_a_hard_cut() -> None:
    size, box = (700, 500), (200, 150, 500, 400)
    rims = []
    for softness in (0, 1, 2, 4, 8):
        red = drawn_red(size, box, native=(128, 128), mask_feather=softness)
        rims.append(int(((red > 0) & (red < 255)).sum()))
    assert rims[0] == 0
    assert rims == sorted(set(rims))


def test_the_whole_picture_is_seen_where_that_is_asked_for() -> None:
    box = (10, 10, 30, 30)
    assert area_of((600, 400), box, area="whole").window == (0, -100, 600, 500)
    near, far = (area_of((600, 400), box, mask_padding=padding).window for padding in (0, 200))
    assert near == (0, 0, 64, 64)
    assert far[2] - far[0] == 104
    # Growth and feathering hold there, too.
    red = drawn_red((600, 400), box, area="whole")
    assert (red[~changed(area_of((600, 400), box))] == 0).all()
    assert red[20, 20] == 255


@pytest.mark.parametrize("area", ["masked", "whole"])
def test_every_pixel_outside_the_mask_is_kept_whatever_is_set(generate: Generate, area: str) -> None:
    picture, size = noise_picture(1, (99, 141)), (99, 141)
    settings = {
        "area": area,
        "mask_grow": 6,
        "mask_feather": 8,
        "mask_invert": True,
        "extend_left": 15,
        "extend_down": 8,
    }
    order = {"task": "inpaint", "image": picture, "mask": mask_with((20, 30, 80, 100), size=size), "seed": 1}
    after = np.asarray(generate(**order, **settings).images[0])
    inside = changed(area_of(size, (20, 30, 80, 100), **settings))
    before = np.asarray(picture)
    assert after.shape == (141 + 11, 99 + 15, 3)
    kept = ~inside[:141, 15:]
    assert kept.sum() > 1000
    assert np.array_equal(after[:141, 15:][kept], before[kept])


@pytest.mark.parametrize(
    ("sides", "size", "place"),
    [
        ({"extend_right": 50}, (120, 60), (0, 0)),
        ({"extend_left": 25}, (100, 60), (20, 0)),
        ({"extend_up": 100}, (80, 120), (0, 60)),
        ({"extend_down": 10}, (80, 66), (0, 0)),
        ({"extend_left": 50, "extend_right": 50, "extend_up": 50, "extend_down": 50}, (160, 120), (40, 30)),
        ({"extend_left": 0.1}, (81, 60), (1, 0)),
    ],
    ids=str,
)
def test_an_extended_picture_keeps_every_pixel_it_had(
    generate: Generate, sides: dict[str, float], size: tuple[int, int], place: tuple[int, int]
) -> None:
    picture = noise_picture(1, (80, 60))
    result = generate(task="inpaint", image=picture, prompt="a cat", seed=2, **sides)
    (image,) = result.images
    assert image.size == size
    there = (*place, place[0] + 80, place[1] + 60)
    assert image.crop(there).tobytes() == picture.tobytes()
    assert result.settings["mask"] is None
    assert (result.settings["width"], result.settings["height"]) == (80, 60)
    area = area_of((80, 60), **sides)
    assert changed(area).sum() == size[0] * size[1] - 80 * 60
    assert image.tobytes() != area.picture.tobytes(), "something is drawn, not only continued"


def test_what_is_painted_changes_as_well_and_swapping_leaves_unpainted_pictures_alone() -> None:
    painted = changed(area_of((80, 60), (10, 20, 30, 40), extend_right=50))
    assert painted[:, 80:].all()
    assert np.array_equal(painted[:, :80], np.asarray(mask_with((10, 20, 30, 40), size=(80, 60))) > 0)
    assert not changed(area_of((80, 60), extend_right=50, mask_invert=True, mask_grow=10))[:, :80].any()
    gone = changed(area_of((80, 60), (10, 20, 30, 40), extend_right=50, mask_grow=-20))
    assert not gone[:, :80].any()
    assert gone[:, 80:].all()


def test_an_extension_is_seen_with_its_surroundings_and_no_more_beyond_the_edges() -> None:
    # A window of 200 x 400 pixels: the strip, and context of a quarter of its longer side. For "whole", made square.
    assert area_of((400, 400), extend_right=50).window == (200, 0, 600, 400)
    assert area_of((400, 400), extend_right=50, area="whole").window == (0, -100, 600, 500)


def test_an_extension_begins_as_the_picture_ends() -> None:
    picture = Image.linear_gradient("L").convert("RGB").rotate(90)
    size = picture.size
    request = GenerateRequest(task="inpaint", image=picture, extend_right=50)
    canvas = make_canvas(make_plan(request, entry_of(128, 128)), cell=8)
    after = np.asarray(canvas.finish(Image.new("RGB", (128, 128), RED))).astype(int)
    seam = np.abs(after[:, size[0]] - after[:, size[0] - 1])
    assert seam.max() < 150, "half way to what was drawn at most"
    assert (after[:, -1] == RED).all(), "no softness at the outer edge"


def test_a_picture_that_would_get_too_large_is_refused() -> None:
    with pytest.raises(UserError, match="2100 pixels wide, but at most 2048 are allowed"):
        area_of((1400, 40), extend_right=50)
    with pytest.raises(UserError, match="pixels high"):
        area_of((40, 1400), extend_up=25, extend_down=25)
    # A picture that is already larger stays allowed: only a side that is extended is checked.
    assert area_of((3000, 40), extend_up=50).picture.size == (3000, 60)
    assert area_of((3000, 40), extend_right=50, width=1000, height=16).picture.size == (1500, 16)


def test_a_mask_without_anything_painted_is_fine_where_the_picture_is_extended() -> None:
    assert area_of((80, 60), (0, 0, 0, 0), extend_up=50).mask.getbbox() == (0, 0, 80, 30)
    with pytest.raises(UserError, match="mask is empty"):
        area_of((80, 60), (0, 0, 0, 0))


def test_the_view_for_people_is_tinted_where_it_changes_and_nowhere_else() -> None:
    grey = Image.new("RGB", (800, 600), "grey")
    area = area_of((800, 600), (300, 200, 500, 400), picture=grey, extend_left=50, mask_padding=0)
    shown = np.asarray(show_area(area)).astype(int)
    assert shown.shape[1] == 1024
    scale = 1024 / 1200
    at = {name: shown[round(y * scale), round(x * scale)] for name, (x, y) in PLACES.items()}
    assert at["painted"][0] - at["painted"][1] > 60
    assert at["new"][0] - at["new"][1] > 60
    assert abs(at["kept"] - 128).max() < 3
    assert show_area(area_of((80, 60), (5, 5, 20, 20))).size == (80, 60)


PLACES = {"painted": (800, 300), "new": (150, 300), "kept": (600, 500)}


def test_a_huge_picture_is_quick_to_mark_and_to_show() -> None:
    size, box = (3000, 2500), (500, 500, 2500, 2000)
    picture = Image.new("RGB", size, "teal")

    def marked_and_shown() -> None:
        area = area_of(size, box, picture=picture, native=(512, 512), mask_grow=8, mask_feather=8)
        assert max(show_area(area).size) == 1024

    check_cpu_s(marked_and_shown, most=10)
