from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from ipa_app.engine.references import words_of_region
from ipa_app.engine.results import GenerateResult
from ipa_app.imaging.result_files import read_settings
from ipa_app.messages import Message
from ipa_app.pose.presets import preset_pictures
from ipa_app.ui import api
from tests.ui.promised_api import PROMISED, REQUIRED

Pictures = dict[str, str]


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def test_the_api_is_what_was_promised(client: Client) -> None:
    api: Any = client.view_api(return_format="dict", print_info=False)
    assert set(api["named_endpoints"]) == set(PROMISED)
    assert not api["unnamed_endpoints"]
    for name, promised in PROMISED.items():
        parameters = api["named_endpoints"][name]["parameters"]
        offered = {
            item["parameter_name"]: item["parameter_default"] if item["parameter_has_default"] else REQUIRED
            for item in parameters
        }
        assert offered == promised, name
        assert list(offered) == list(promised), name


def test_the_schema_names_every_view_that_can_be_asked_for(client: Client, pictures: Pictures) -> None:
    api: Any = client.view_api(return_format="dict", print_info=False)
    views = [item for item in api["named_endpoints"]["/mix"]["parameters"] if item["parameter_name"] == "view"]
    assert views[0]["type"]["enum"] == ["crop", "pad", "stretch", "tiles"]
    files, settings = client.predict(reference=handle_file(pictures["plain.png"]), view="tiles", api_name="/variation")
    assert len(files) == 1
    assert settings["references"][0]["view"] == "tiles"


def test_what_is_to_be_said_comes_as_notes(client: Client) -> None:
    _, settings = client.predict(prompt="a (red:1.3) zebra, red++", api_name="/mix")
    assert settings["notes"] == [
        "Tiny does not know the word zebra; it is ignored.",
        "“Words” has red++, read as plain text: weights are written (red:1.3) here, and commands of other "
        "programs do nothing.",
    ]
    assert client.predict(prompt="a (red:1.3) cat", api_name="/mix")[1]["notes"] == []


def test_what_counts_for_nothing_is_noted(client: Client, pictures: Pictures) -> None:
    def notes(**given: Any) -> list[str]:
        return client.predict(prompt="a cat", steps=2, api_name="/mix", **given)[1]["notes"]

    picture = handle_file(pictures["plain.png"])
    assert notes(region="left", weight=0.5) == ["weight, region had no effect, as there is no reference."]
    assert notes(adapter="fine", scale=0.9, start=0.1, end=0.9) == [
        "adapter, scale, start, end had no effect, as there is no reference."
    ]
    assert notes(scale=0.0) == []
    assert notes(reference_2=picture, adapter="fine", scale=0.9, start=0.1, end=0.9) == []
    assert notes(weight_2=0.5) == ["weight_2 had no effect, as there is no reference_2."]
    assert notes(strength=0.5) == ["strength had no effect, as there is no start_image."]
    (away,) = notes(negative_reference=picture)
    assert away.startswith("negative_reference had no effect")
    used = {"reference": picture, "negative_reference": picture, "region": "left", "start_image": picture}
    # In the shape of the start picture, of which nothing is cropped then.
    assert notes(**used, strength=0.6, width=128, height=96) == []


def test_a_note_names_parameters_and_says_what_somebody_wrote_as_it_was_written() -> None:
    unread = Message("prompt.too_long", prompt=words_of_region(2), title="A model", words="as in reference picture 1")
    shape = Message("region.stretched", reference=Message("region.reference", number=2), width=64, height=48)
    result = cast(GenerateResult, SimpleNamespace(notes=(unread, shape)))
    assert api._told(result, {"reference": "a picture", "reference_3": "another"}) == [
        "region_prompt_3 is longer than A model can use; these words are not used: “as in reference picture 1”.",
        "The region of reference_3 has a different shape from the new picture, and is stretched to 64 x 48 pixels.",
    ]


def test_notes_call_things_as_programs_know_them(client: Client, pictures: Pictures) -> None:
    plain, animated = handle_file(pictures["plain.png"]), handle_file(pictures["animated.gif"])
    notes = client.predict(prompt="a cat", reference=plain, reference_3=animated, api_name="/mix")[1]["notes"]
    assert [note.split()[0] for note in notes] == ["reference_3"]
    notes = client.predict(image=plain, mask=handle_file(pictures["mask.png"]), api_name="/inpaint")[1]["notes"]
    assert notes[0].startswith("surroundings: Nothing else was given")


@pytest.mark.parametrize("endpoint", [name for name in PROMISED if name != "/models"])
def test_every_endpoint_names_the_value_that_is_missing(app_url: str, endpoint: str) -> None:
    for given, missing in ((0, 0), (3, 3)):
        names = list(PROMISED[endpoint])
        call = f"{app_url}gradio_api/call{endpoint}"
        event = httpx.post(call, json={"data": [None] * given}).json()
        answer = httpx.get(f"{call}/{event['event_id']}", timeout=60).text
        assert f'"error": "{names[missing]} is missing; {endpoint} takes, in this order: {names[0]}' in answer


NAMED = [
    (
        "/inpaint",
        {"mask_grow": "x"},
        "mask_grow: “Grow or shrink the mask” is 'x'; it must be a number from -20 to 20.",
    ),
    ("/inpaint", {"image": None}, "image: There is no picture: please add the one that you want to change."),
    ("/inpaint", {"extend_up": -1}, "extend_up: The extension upwards is -1; it must be a number from 0 to 100."),
    ("/mix", {"end": 0}, "end: The picture's strength begins at 0 and ends at 0; it must end later than"),
    ("/mix", {"part": "colour"}, "part: “What to use of the picture” is 'colour'; it must be all or style or layout."),
    ("/pose", {"pose_hands": 1}, "pose_hands: “In a photo: fingers, too” is 1; it must be true or false."),
    ("/pose", {"control_scale": [1]}, "control_scale: “Strength of the pose” is [1]; it must be a number from 0 to 2."),
]


@pytest.mark.parametrize(("endpoint", "values", "told"), NAMED)
def test_a_value_that_cannot_be_used_is_named_as_programs_know_it(
    client: Client, pictures: Pictures, endpoint: str, values: dict[str, Any], told: str
) -> None:
    picture, mask = handle_file(pictures["plain.png"]), handle_file(pictures["mask.png"])
    needed = {"/inpaint": {"image": picture, "mask": mask}, "/pose": {"pose": picture}, "/mix": {"prompt": "a cat"}}
    with pytest.raises(AppError) as refused:
        client.predict(**{**needed[endpoint], **values}, api_name=endpoint)
    assert str(refused.value).startswith(told)


def test_a_picture_that_cannot_be_opened_is_named(client: Client, pictures: Pictures) -> None:
    with pytest.raises(AppError, match="^negative_reference: This file cannot be opened as a picture"):
        client.predict(prompt="a cat", negative_reference=handle_file(pictures["text.png"]), api_name="/mix")


def test_variation_gives_png_files_with_their_settings(client: Client, pictures: Pictures) -> None:
    files, settings = client.predict(
        reference=handle_file(pictures["plain.png"]), adapter="fine", count=2, seed=7, api_name="/variation"
    )
    assert settings["seeds"] == [7, 8]
    assert settings["task"] == "variation"
    assert settings["adapter"] == "fine"
    assert settings["guidance"] > 1
    assert [Path(path).suffix for path in files] == [".png", ".png"]
    assert Image.open(files[0]).format == "PNG"
    noted = read_settings(files[1])
    assert noted is not None
    assert noted["seed"] == 8
    assert not np.array_equal(pixels(files[0]), pixels(files[1]))


@pytest.mark.parametrize(("output_format", "suffix"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_files_are_of_the_format_that_was_asked_for(client: Client, output_format: str, suffix: str) -> None:
    (file,), settings = client.predict(prompt="a red cat", seed=3, output_format=output_format, api_name="/mix")
    (exact,), _ = client.predict(prompt="a red cat", seed=3, api_name="/mix")
    assert settings["output_format"] == output_format
    assert Path(file).suffix == suffix
    assert Image.open(file).format == output_format.upper()
    assert read_settings(file) == {**(read_settings(exact) or {}), "output_format": output_format}
    difference = np.abs(pixels(file).astype(int) - pixels(exact))
    assert difference.max() == 0 if output_format != "jpeg" else 0 < difference.mean() < 8


def test_same_seed_same_bytes_and_scale_0_is_no_reference(client: Client, pictures: Pictures) -> None:
    def mix(**values: Any) -> bytes:
        files, _ = client.predict("a red cat", seed=3, api_name="/mix", **values)
        return Path(files[0]).read_bytes()

    plain = mix()
    assert plain == mix()
    reference = handle_file(pictures["plain.png"])
    assert plain == mix(reference=reference, scale=0)
    assert plain != mix(reference=reference, scale=1)


@pytest.mark.parametrize("mask_name", ["mask.png", "other_size_mask.png"])
def test_inpaint_leaves_everything_else_as_it_was(client: Client, pictures: Pictures, mask_name: str) -> None:
    files, settings = client.predict(
        image=handle_file(pictures["plain.png"]),
        mask=handle_file(pictures[mask_name]),
        reference=handle_file(pictures["plain.png"]),
        seed=1,
        api_name="/inpaint",
    )
    before, after = pixels(pictures["plain.png"]), pixels(files[0])
    with Image.open(pictures[mask_name]) as mask:
        painted = np.asarray(mask.resize((80, 60), Image.Resampling.NEAREST)) > 127
    assert settings["seeds"] == [1]
    assert np.array_equal(before[~painted], after[~painted])
    assert not np.array_equal(before[painted], after[painted])


def test_inpaint_swaps_the_mask_and_continues_the_picture(client: Client, pictures: Pictures) -> None:
    image, mask = handle_file(pictures["plain.png"]), handle_file(pictures["mask.png"])
    before = pixels(pictures["plain.png"])
    with Image.open(pictures["mask.png"]) as opened:
        painted = np.asarray(opened) > 127

    swapped, settings = client.predict(
        image=image, mask=mask, prompt="a cat", seed=1, mask_invert=True, mask_feather=0, api_name="/inpaint"
    )
    after = pixels(swapped[0])
    assert (settings["mask_invert"], settings["mask_feather"]) == (True, 0)
    assert np.array_equal(before[painted], after[painted])
    assert (before[~painted] != after[~painted]).any(axis=1).mean() > 0.9

    wider, settings = client.predict(
        image=image, mask=None, prompt="a cat", seed=1, extend_right=25, area="whole", api_name="/inpaint"
    )
    after = pixels(wider[0])
    assert (settings["mask"], settings["width"], settings["extend_right"]) == (None, 80, 25)
    assert after.shape == (60, 100, 3)
    assert np.array_equal(after[:, :80], before)

    both, _ = client.predict(
        image=image, mask=mask, prompt="a cat", seed=1, extend_up=50, mask_grow=-5, api_name="/inpaint"
    )
    after = pixels(both[0])
    assert after.shape == (90, 80, 3)
    assert np.array_equal(after[30:][~painted], before[~painted])
    assert not np.array_equal(after[30:], before)


@pytest.mark.parametrize("given", [{}, {"width": 64}, {"height": 104}])
def test_the_size_that_comes_back_can_be_sent(client: Client, tmp_path: Path, given: dict[str, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (75, 99, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "odd.png")
    image = {"image": handle_file(str(tmp_path / "odd.png")), "extend_right": 25, "prompt": "a cat", "seed": 1}
    first, settings = client.predict(**image, **given, api_name="/inpaint")
    size = {"width": settings["width"], "height": settings["height"]}
    second, again = client.predict(**image, **size, api_name="/inpaint")
    assert {**size, **given} == size == {"width": again["width"], "height": again["height"]}
    assert Path(first[0]).read_bytes() == Path(second[0]).read_bytes()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"mask_grow": 21}, "21"),
        ({"mask_grow": -20}, "shrink it less"),
        ({"mask_feather": -1}, "-1"),
        ({"mask_padding": "much"}, "much"),
        ({"mask_invert": "yes"}, "true or false"),
        ({"area": "half"}, "masked or whole"),
        ({"extend_up": 101}, "101"),
        ({"extend_down": 50, "height": 2048}, "3072 pixels high.*2048"),
    ],
    ids=str,
)
def test_a_mask_that_cannot_be_is_said_plainly(
    client: Client, pictures: Pictures, values: dict[str, Any], told: str
) -> None:
    image, mask = handle_file(pictures["plain.png"]), handle_file(pictures["mask.png"])
    with pytest.raises(AppError, match=told) as refused:
        client.predict(image=image, mask=mask, prompt="a cat", api_name="/inpaint", **values)
    assert str(refused.value).endswith(".")


def test_pose_follows_a_skeleton_and_says_what_a_photo_needs(client: Client, pictures: Pictures) -> None:
    skeleton = handle_file(str(preset_pictures()["waving"]))
    values = {"pose": skeleton, "prompt": "a cat", "seed": 5, "api_name": "/pose"}
    strict, _ = client.predict(**values)
    free, _ = client.predict(control_scale=0, **values)
    assert not np.array_equal(pixels(strict[0]), pixels(free[0]))
    with pytest.raises(AppError, match="OpenPose is not on this computer, and downloading is switched off"):
        client.predict(pose=handle_file(pictures["plain.png"]), api_name="/pose")


def test_a_skeleton_on_a_transparent_ground_is_a_skeleton(client: Client, tmp_path: Path) -> None:
    with Image.open(preset_pictures()["waving"]) as opened:
        skeleton = opened.convert("RGBA")
    drawn = np.asarray(skeleton).copy()
    drawn[drawn[..., :3].max(axis=2) == 0] = 0
    Image.fromarray(drawn).save(tmp_path / "skeleton.png")
    files, _ = client.predict(pose=handle_file(str(tmp_path / "skeleton.png")), prompt="a cat", api_name="/pose")
    assert len(files) == 1


def test_what_was_added_later_counts(client: Client, pictures: Pictures) -> None:
    picture, other = handle_file(pictures["plain.png"]), handle_file(pictures["mask.png"])
    wish = {"reference": picture, "seed": 5, "api_name": "/variation"}
    changes = [
        {},
        {"start": 0.5},
        {"end": 0.5},
        {"view": "pad"},
        {"centre_x": 0.0},
        {"region": "left"},
        {"negative_reference": other},
    ]
    drawn = [pixels(client.predict(**wish, **change)[0][0]).tobytes() for change in changes]
    assert len(set(drawn)) == len(changes)
    files, settings = client.predict(prompt="a cat", start_image=picture, strength=0.5, seed=5, api_name="/mix")
    assert settings["strength"] == 0.5
    assert len(files) == 1


def test_models_says_what_there_is_and_its_state(client: Client) -> None:
    models = client.predict(api_name="/models")
    assert set(models) == {"toybox"}
    assert models["toybox"]["state"] in {"loading", "ready"}
    assert models["toybox"]["adapters"] == ["base", "fine"]
    assert models["toybox"]["parts"] == ["all"]
    assert (models["toybox"]["fast"], models["toybox"]["fast_left_out"]) == (None, "")
    least, most = models["toybox"]["least_side"], models["toybox"]["most_side"]
    with pytest.raises(AppError, match=f"from {least} to {most}"):
        client.predict("a cat", width=most + 8, api_name="/mix")


def test_what_is_said_of_a_further_reference_is_about_that_one(client: Client) -> None:
    api: Any = client.view_api(return_format="dict", print_info=False)
    told = {each["parameter_name"]: each["label"] for each in api["named_endpoints"]["/mix"]["parameters"]}
    assert told["reference_end"].endswith("later than reference_start")
    assert told["reference_end_3"].endswith("later than reference_start_3")
    assert "which region_mask_2 implies" in told["region_2"]


def test_two_clients_at_once_get_what_each_gets_alone(client: Client, app_url: str, pictures: Pictures) -> None:
    reference = handle_file(pictures["plain.png"])
    wishes = [{"adapter": "base", "scale": 0.5, "seed": 1}, {"adapter": "fine", "scale": 1.0, "seed": 2}]

    def ask(one: Client, wish: dict[str, Any]) -> np.ndarray:
        files, _ = one.predict(reference=reference, api_name="/variation", **wish)
        return pixels(files[0])

    alone = [ask(client, wish) for wish in wishes]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(ask, [client, Client(app_url, verbose=False)], wishes))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("name", ["cmyk.jpg", "animated.gif", "rotated.jpg", "transparent.webp"])
def test_odd_pictures_are_welcome(client: Client, pictures: Pictures, name: str) -> None:
    files, _ = client.predict(reference=handle_file(pictures[name]), api_name="/variation")
    assert len(files) == 1


BAD = [
    ("text.png", {}, "picture"),
    ("cut.png", {}, "picture"),
    ("one_pixel.png", {}, "small|1 x 1"),
    ("huge.png", {}, "50 million pixels"),
    ("plain.png", {"count": 10_000}, "10000"),
    ("plain.png", {"count": 1.5}, "1.5"),
    ("plain.png", {"scale": 9}, "9"),
    ("plain.png", {"scale": "strong"}, "strong"),
    ("plain.png", {"seed": -7}, "-7"),
    ("plain.png", {"width": 33}, "33"),
    ("plain.png", {"adapter": "best"}, "best"),
    ("plain.png", {"region": "corner"}, "everywhere or left or right or upper or lower"),
    ("plain.png", {"part": "colour"}, "all or style or layout"),
    ("plain.png", {"part": "style"}, "Tiny cannot separate a picture's style from the rest"),
    ("plain.png", {"model": "<b>dream</b>"}, "<b>dream</b>.*toybox"),
    ("plain.png", {"prompt": 12}, "12"),
]


@pytest.mark.parametrize(("name", "values", "told"), BAD)
def test_what_cannot_work_is_said_plainly_and_the_next_request_works(
    client: Client, pictures: Pictures, name: str, values: dict[str, Any], told: str
) -> None:
    with pytest.raises(AppError, match=told) as refused:
        client.predict(reference=handle_file(pictures[name]), api_name="/variation", **values)
    assert str(refused.value).endswith(".")
    assert "Traceback" not in str(refused.value)
    assert client.predict("a cat", api_name="/mix")[0]


def test_a_missing_picture_a_missing_prompt_and_an_empty_mask_are_named(client: Client, pictures: Pictures) -> None:
    with pytest.raises(AppError, match="reference"):
        client.predict(reference=None, api_name="/variation")
    with pytest.raises(AppError, match="write some words"):
        client.predict("", api_name="/mix")
    picture, empty = handle_file(pictures["plain.png"]), handle_file(pictures["empty_mask.png"])
    with pytest.raises(AppError, match="mask"):
        client.predict(image=picture, mask=empty, api_name="/inpaint")
