"""What the page and the API do with an upload before the engine sees it, and the messages about it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from PIL import Image, ImageChops, ImageCms

from ipa_app.errors import UserError
from ipa_app.ui.form import build_request
from ipa_app.ui.pictures import show_anywhere
from ipa_app.ui.references import seen_html
from tests.picture_files import COLOURS, encoded, in_p3, middles, p3_profile, patches
from tests.seen import paragraphs

SEVERAL = "has several frames or pages; the first is used."


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


def upload(folder: Path, data: bytes, name: str = "picture") -> dict[str, str]:
    path = folder / name
    path.write_bytes(data)
    return {"path": str(path)}


def frames() -> bytes:
    picture = Image.new("RGB", (40, 40), (200, 30, 40))
    return encoded(picture, "GIF", save_all=True, append_images=[Image.new("RGB", (40, 40), (20, 180, 60))])


def test_a_note_names_the_picture_it_is_about(tmp_path: Path) -> None:
    moving = upload(tmp_path, frames(), "moving.gif")
    still = upload(tmp_path, encoded(patches(COLOURS)), "still.png")
    one = build_request("variation", {"reference": moving, "reference_2": None})
    assert one.notes == (f"The reference {SEVERAL}",)
    two = build_request("variation", {"reference": still, "reference_2": moving})
    assert two.notes == (f"Reference picture 2 {SEVERAL}",)
    others = build_request(
        "mix", {"prompt": "a cat", "start_image": moving, "reference": still, "negative_reference": moving}
    )
    assert others.notes == (f"The start picture {SEVERAL}", f"The picture to avoid {SEVERAL}")


def test_no_value_is_left_out_for_its_name() -> None:
    with pytest.raises(TypeError, match="called guidance_scale, weight_5"):
        build_request("mix", {"prompt": "a cat", "guidance_scale": 3, "weight_5": 1})


def test_a_number_that_was_cleared_is_as_it_is_for_the_task() -> None:
    sent = {"prompt": "a cat", "scale": None, "centre_x": None, "steps": None}
    request = build_request("mix", sent)
    assert (request.scale, request.steps) == (0.6, 0)
    with pytest.raises(UserError, match=r"Crop: left \(0\) to right \(1\)” is 3"):
        build_request("mix", {**sent, "centre_x": 3})


def test_what_the_model_looks_at_is_shown_with_what_is_to_be_said_of_it(tmp_path: Path) -> None:
    shown = seen_html(upload(tmp_path, frames()), view="crop", centre=(0.5, 0.5))
    assert "<img" in shown
    assert paragraphs(shown) == [f"This picture {SEVERAL}"]
    refused = seen_html(upload(tmp_path, b"<b>words</b>"), view="crop", centre=(0.5, 0.5))
    assert "<img" not in refused
    assert "cannot be opened as a picture" in refused


@pytest.mark.parametrize(
    ("share", "swapped", "told"),
    [
        (0.3, False, []),
        (0.6, False, ["The mask marks 60 % of the picture; if the rest was meant, tick “Swap”."]),
        (1.0, False, ["The mask is white all over, so all of the picture is redrawn."]),
        (0.6, True, []),
    ],
)
def test_a_mask_of_most_of_the_picture_is_told(tmp_path: Path, share: float, swapped: bool, told: list[str]) -> None:
    mask = Image.new("L", (100, 60))
    mask.paste(255, (0, 0, round(100 * share), 60))
    uploads = {
        "image": upload(tmp_path, encoded(Image.new("RGB", (100, 60))), "image.png"),
        "mask": upload(tmp_path, encoded(mask), "mask.png"),
    }
    request = build_request("inpaint", {**uploads, "mask_invert": swapped})
    assert list(request.notes) == told


def test_what_was_painted_on_the_page_means_what_it_shows(tmp_path: Path) -> None:
    image = upload(tmp_path, encoded(Image.new("RGB", (100, 60))), "image.png")
    copy = upload(tmp_path, encoded(Image.new("RGBA", (768, 461), (0, 0, 0, 255))), "background.png")
    strokes = Image.new("RGBA", (768, 461))
    strokes.paste((255, 45, 120, 255), (0, 0, 384, 461))
    painted = {"background": copy, "layers": [upload(tmp_path, encoded(strokes), "layer_0.png")], "composite": None}
    request = build_request("inpaint", {"image": image, "painted": painted})
    assert request.notes == ()
    assert request.mask is not None
    assert request.mask.getbbox() == (0, 0, 50, 60)
    assert request.mask.crop((0, 0, 50, 60)).getextrema() == (255, 255)


def test_what_is_painted_beside_a_file_is_added_to_its_mask(tmp_path: Path) -> None:
    ground = upload(tmp_path, encoded(Image.new("RGB", (100, 60))), "image.png")
    file, strokes = Image.new("L", (100, 60)), Image.new("RGBA", (100, 60))
    file.paste(255, (0, 0, 20, 60))
    strokes.paste((255, 45, 120, 255), (50, 0, 70, 60))
    mask = upload(tmp_path, encoded(file), "mask.png")
    painted = {"background": ground, "layers": [upload(tmp_path, encoded(strokes), "layer_0.png")], "composite": None}
    both = ImageChops.lighter(file, strokes.getchannel("A")).tobytes()
    inpaint = build_request("inpaint", {"image": ground, "mask": mask, "painted": painted})
    assert inpaint.mask is not None
    assert inpaint.mask.tobytes() == both
    place = {"reference": ground, "region": "painted", "region_mask": mask, "region_painted": painted}
    (reference,) = build_request("variation", place).references
    assert reference.region_mask is not None
    assert reference.region_mask.tobytes() == both


@pytest.mark.parametrize("layers", [[], [Image.new("RGBA", (768, 461))]], ids=["no strokes yet", "all wiped away"])
def test_a_page_on_which_nothing_is_painted_asks_for_a_mask(tmp_path: Path, layers: list[Image.Image]) -> None:
    image = upload(tmp_path, encoded(Image.new("RGB", (100, 60))), "image.png")
    files = [upload(tmp_path, encoded(layer), f"{layer}.png") for layer in layers]
    with pytest.raises(UserError, match="There is no mask"):
        build_request("inpaint", {"image": image, "painted": {"background": image, "layers": files}})


@pytest.mark.parametrize("name", ["mask", "painted"])
def test_a_bare_path_is_no_upload(tmp_path: Path, name: str) -> None:
    image = upload(tmp_path, encoded(Image.new("RGB", (100, 60))), "image.png")
    path = image["path"]
    sent = path if name == "mask" else {"background": path, "layers": [path]}
    with pytest.raises(UserError, match="must be an image file"):
        build_request("inpaint", {"image": image, name: sent})


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize("kind", ["HEIF", "TIFF"])
def test_what_browsers_do_not_show_is_exchanged_for_what_they_do(tmp_path: Path, kind: str) -> None:
    wide = encoded(patches(in_p3()), kind, icc_profile=p3_profile(), **({"quality": 95} if kind == "HEIF" else {}))
    shown = show_anywhere(upload(tmp_path, wide))
    assert Path(shown).suffix == ".png"
    with Image.open(shown) as picture:
        assert np.abs(middles(picture) - COLOURS).max() <= 6
        assert "icc_profile" not in picture.info


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF"])
def test_what_browsers_show_stays_the_file_that_it_is(tmp_path: Path, kind: str) -> None:
    left = show_anywhere(upload(tmp_path, encoded(patches(COLOURS), kind)))
    assert left == {"__type__": "update"}
    assert show_anywhere(upload(tmp_path, b"words")) == {"__type__": "update"}


def inpainted(client: Client, folder: Path, image: bytes, mask: bytes, **values: Any) -> tuple[Path, dict[str, Any]]:
    files = {
        name: handle_file(upload(folder, data, f"{name}.png")["path"])
        for name, data in {"image": image, "mask": mask}.items()
    }
    pictures, settings = client.predict(**files, prompt="a cat", seed=1, api_name="/inpaint", **values)
    return Path(pictures[0]), settings


def test_outside_of_the_mask_a_wide_gamut_picture_looks_as_it_did(client: Client, tmp_path: Path) -> None:
    wide = encoded(patches(in_p3()), icc_profile=p3_profile())
    mask = Image.new("L", (96, 16))
    mask.paste(255, (0, 0, 16, 16))
    path, settings = inpainted(client, tmp_path, wide, encoded(mask))
    with Image.open(io.BytesIO(wide)) as picture:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        seen = ImageCms.profileToProfile(picture, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    with Image.open(path) as result:
        assert "icc_profile" not in result.info
        unlike = np.abs(np.asarray(result).astype(int) - np.asarray(seen))
    assert unlike[:, 16:].max() <= 2
    assert settings["notes"] == []


def test_the_api_says_how_a_mask_was_understood_and_asks_where_it_was_not(client: Client, tmp_path: Path) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8))
    copy = picture.copy()
    alpha = Image.new("L", picture.size, 255)
    alpha.paste(0, (20, 15, 50, 40))
    copy.putalpha(alpha)
    path, settings = inpainted(client, tmp_path, encoded(picture), encoded(copy))
    assert settings["notes"] == ["What is transparent in the mask is redrawn."]
    with Image.open(path) as result:
        changed = (np.asarray(result) != np.asarray(picture)).any(axis=2)
    assert changed[15:40, 20:50].mean() > 0.9
    assert changed.sum() == changed[15:40, 20:50].sum()
    with pytest.raises(Exception, match="a different shape"):
        inpainted(client, tmp_path, encoded(picture), encoded(Image.new("L", (60, 60), 255)))


def test_uploads_that_cannot_be_used_are_named_as_the_page_names_them(tmp_path: Path) -> None:
    clear = upload(tmp_path, encoded(Image.new("RGBA", (20, 20))))
    for field, task in (("image", "inpaint"), ("start_image", "mix"), ("pose", "pose")):
        with pytest.raises(UserError, match="transparent all over"):
            build_request(task, {"prompt": "a cat", field: clear})
