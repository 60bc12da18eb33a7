"""Settings of AUTOMATIC1111, Forge, ComfyUI, Fooocus and InvokeAI are read wherever these write them in a picture."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ipa_app.errors import UserError
from ipa_app.imaging.formats import pixel_count
from ipa_app.imaging.opening import open_image
from ipa_app.imaging.other_programs import read_other
from ipa_app.imaging.result_files import read_settings
from tests.effort import check_cpu_s
from tests.other_programs import (
    COMFY,
    FOOOCUS,
    FOX,
    INFO,
    INFOTEXT,
    INVOKE,
    OF_COMFY,
    PICTURE,
    comfy,
    compare,
    exif,
    png,
    read,
    unicode_comment,
    without,
)

OF_A1111 = {**FOX, "steps": 24, "guidance_scale": 6.5, "model": "mymodel", "sampler": "Euler a (Karras)"}
OF_FOOOCUS = {**FOX, "steps": 30, "guidance_scale": 4, "model": "mymodelXL", "sampler": "dpmpp_2m_sde_gpu (karras)"}
OF_INVOKE = {**FOX, "steps": 30, "guidance_scale": 7.5, "model": "mymodel", "sampler": "euler"}

FORGE = INFOTEXT.replace("Version: v1.10.1", 'Distilled CFG Scale: 3.5, Version: f2.0.1, Module 1: "a, b: c"')
SAVED: dict[str, tuple[Callable[[Path], Path], str, dict[str, Any]]] = {
    "a1111 png": (lambda folder: png(folder / "a.png", parameters=INFOTEXT), "AUTOMATIC1111", OF_A1111),
    "notes behind the pixels": (
        lambda folder: png(folder / "a.png", parameters=INFOTEXT, behind=True),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "forge png": (lambda folder: png(folder / "a.png", parameters=FORGE), "AUTOMATIC1111", OF_A1111),
    "a1111 jpeg": (lambda folder: exif(folder / "a.jpg", unicode_comment(INFOTEXT)), "AUTOMATIC1111", OF_A1111),
    "a1111 webp": (lambda folder: exif(folder / "a.webp", unicode_comment(INFOTEXT)), "AUTOMATIC1111", OF_A1111),
    "other order of bytes": (
        lambda folder: exif(folder / "a.jpg", unicode_comment(INFOTEXT, "utf-16-le")),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "comment with an odd byte at its end": (
        lambda folder: exif(folder / "a.jpg", unicode_comment(INFOTEXT) + b"\0"),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "comment filled up with zeros": (
        lambda folder: exif(folder / "a.jpg", unicode_comment(INFOTEXT + "\0\0")),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "ascii comment written as a text": (
        lambda folder: exif(folder / "a.jpg", "ASCII\0\0\0" + INFOTEXT),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "unicode comment written as a text": (
        lambda folder: exif(folder / "a.jpg", unicode_comment(INFOTEXT).decode("latin-1")),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "comment of an encoding that is not known": (
        lambda folder: exif(folder / "a.jpg", bytes(8) + INFOTEXT.encode() + b"\0"),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "comment with a broken letter": (
        lambda folder: exif(folder / "a.jpg", INFOTEXT.encode() + b" \xff"),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "ascii comment": (
        lambda folder: exif(folder / "a.jpg", b"ASCII\0\0\0" + INFOTEXT.encode()),
        "AUTOMATIC1111",
        OF_A1111,
    ),
    "comment of no encoding": (lambda folder: exif(folder / "a.jpg", INFOTEXT.encode()), "AUTOMATIC1111", OF_A1111),
    "fooocus png": (lambda folder: png(folder / "a.png", parameters=FOOOCUS), "Fooocus", OF_FOOOCUS),
    "fooocus jpeg": (
        lambda folder: exif(folder / "a.jpg", json.dumps(FOOOCUS), whole=False, Software="Fooocus v2.5.5"),
        "Fooocus",
        OF_FOOOCUS,
    ),
    "comfy png": (
        lambda folder: png(folder / "a.png", prompt=COMFY, workflow={"nodes": [], "links": []}),
        "ComfyUI",
        OF_COMFY,
    ),
    "comfy without its page": (lambda folder: png(folder / "a.png", prompt=COMFY), "ComfyUI", OF_COMFY),
    "comfy webp": (
        lambda folder: exif(folder / "a.webp", Make="workflow:{}", Model=f"prompt:{json.dumps(COMFY)}"),
        "ComfyUI",
        OF_COMFY,
    ),
    "comfy webp, the graph first": (
        lambda folder: exif(folder / "a.webp", Make=f"Prompt:{json.dumps(COMFY)}", Model="workflow:{}"),
        "ComfyUI",
        OF_COMFY,
    ),
    "comfy in a comment": (
        lambda folder: exif(folder / "a.webp", json.dumps({"prompt": COMFY, "workflow": {}}).encode()),
        "ComfyUI",
        OF_COMFY,
    ),
    "comfy in a comment behind a line break": (
        lambda folder: exif(folder / "a.jpg", unicode_comment(f"\n {json.dumps({'prompt': COMFY})}")),
        "ComfyUI",
        OF_COMFY,
    ),
    "invoke without a choice of samplers": (
        lambda folder: png(folder / "a.png", invokeai_metadata=without(INVOKE, "scheduler")),
        "InvokeAI",
        {**OF_INVOKE, "sampler": None},
    ),
    "invoke png": (lambda folder: png(folder / "a.png", invokeai_metadata=INVOKE), "InvokeAI", OF_INVOKE),
}


@pytest.mark.parametrize("case", SAVED)
def test_each_program_is_read_from_each_file_it_writes(tmp_path: Path, case: str) -> None:
    make, program, expected = SAVED[case]
    compare(read(make(tmp_path)), program, expected)


def test_prompts_of_several_lines_and_the_marker_within_them(tmp_path: Path) -> None:
    text = f"a fox,\nin a coat (Negative prompt: dog)\nNegative prompt: blurry,\nNegative prompt: cat\n{INFO}"
    settings = read(png(tmp_path / "a.png", parameters=text))
    assert settings.prompt == "a fox,\nin a coat (Negative prompt: dog)"
    assert settings.negative_prompt == "blurry,\n cat"
    assert settings.seed == 4242


def test_letters_of_all_languages_are_read_in_either_order_of_bytes(tmp_path: Path) -> None:
    text = INFOTEXT.replace("fox", "狐 ❄ 🦊 \udc00")
    for encoding in ("utf-16-be", "utf-16-le"):
        written = b"UNICODE\0" + text.encode(encoding, "surrogatepass")
        assert read(exif(tmp_path / "a.jpg", written)).prompt == "a 狐 ❄ 🦊 � in a blue coat"


def test_a_comment_written_as_a_text_is_utf_8(tmp_path: Path) -> None:
    path = exif(tmp_path / "a.jpg", INFOTEXT)
    path.write_bytes(path.read_bytes().replace(b"fox", "狐".encode()))
    assert read(path).prompt == "a 狐 in a blue coat"


def test_what_stands_in_quotation_marks_of_the_last_line_ends_nothing(tmp_path: Path) -> None:
    quoted = 'Face prompt: "eyes, Seed: 5, Steps: 3, CFG scale: 1", Model: "my, \\"own\\": model"'
    text = f'a "red, Seed: 6" fox\nNegative prompt: blurry, Negative prompt: cat\n{INFO}'
    settings = read(png(tmp_path / "a.png", parameters=text.replace("Model: mymodel", quoted)))
    assert (settings.seed, settings.steps, settings.guidance_scale) == (4242, 24, 6.5)
    assert settings.prompt == 'a "red, Seed: 6" fox'
    assert settings.negative_prompt == "blurry, Negative prompt: cat"
    assert settings.model is not None
    assert settings.model.split() == ["my", '\\"own\\"', "model"]


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (20, 20),
        (20.0, 20),
        ("20", 20),
        ("20.0", 20),
        ("2e1", 20),
        (20.5, None),
        ("nan", None),
        ("many", None),
        (2**64, 2**64),
        (2**64 + 1, None),
        (1e300, None),
    ],
)
def test_a_number_of_steps_is_whole_however_it_is_written(tmp_path: Path, written: Any, number: int | None) -> None:
    assert read(png(tmp_path / "a.png", prompt=comfy(_3__steps=written))).steps == number


def test_what_a1111_used_beside_words_is_told(tmp_path: Path) -> None:
    used = (
        '{}, Lora hashes: "film: 0a, ink: 1b", TI hashes: "EasyNegative: 2c", Hires upscale: 2, Hires steps: 10, '
        'ControlNet 0: "Module: ip-adapter_clip, Model: x, Weight: 1", Refiner: other [3d], Denoising strength: 0.4'
    )
    settings = read(png(tmp_path / "a.png", parameters=INFOTEXT.replace(INFO, used.format(INFO))))
    assert settings.beside == ("lora", "controlnet", "reference", "enlarged", "embedding", "refiner")
    started = read(png(tmp_path / "b.png", parameters=f"{INFOTEXT}, Denoising strength: 0.75"))
    assert started.beside == ("start",)
    assert started.model == "mymodel"


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({"loras": [["ink.safetensors", 0.5, "0a"]]}, ("lora",)),
        ({"refiner_model": "other", "styles": "['Fooocus V2']"}, ("refiner", "style")),
        ({}, ()),
    ],
)
def test_what_fooocus_used_beside_words_is_told(
    tmp_path: Path, changes: dict[str, Any], beside: tuple[str, ...]
) -> None:
    assert read(png(tmp_path / "a.png", parameters={**FOOOCUS, **changes})).beside == beside


def test_what_invoke_used_beside_words_is_told(tmp_path: Path) -> None:
    used = {"loras": [{"model": {}}], "controlnets": [{}], "ipAdapters": [{}], "init_image": "x.png", "t2iAdapters": []}
    settings = read(png(tmp_path / "a.png", invokeai_metadata={**INVOKE, **used}))
    assert settings.beside == ("lora", "controlnet", "reference", "start")


def test_older_notes_of_invoke(tmp_path: Path) -> None:
    image = {"prompt": [{"prompt": "a fox [blurry]", "weight": 1}], "sampler": "k_euler", "seed": 7, "steps": 9}
    image |= {"cfg_scale": 7.5, "width": 512, "height": 384}
    written = {"model_weights": "mymodel", "image": image}
    settings = read(png(tmp_path / "a.png", sd_metadata_metadata=json.dumps(written)))
    assert (settings.prompt, settings.negative_prompt, settings.seed) == ("a fox", "blurry", 7)
    dream = read(png(tmp_path / "b.png", Dream='"a fox" -s 9 -S 7 -W 512 -H 384 -C 7.5 -A k_euler'))
    assert (dream.prompt, dream.seed, dream.steps, dream.size) == ("a fox", 7, 9, (512, 384))


@pytest.mark.parametrize(
    "notes",
    [
        {},
        {"parameters": "just a description"},
        {"parameters": "{"},
        {"parameters": '{"prompt": "a"}'},
        {"parameters": "Steps: x, Sampler: y, CFG scale: z"},
        {"prompt": "[1]", "workflow": "{}"},
        {"prompt": '{"1": 5, "2": {"inputs": 3}, "3": {"inputs": {"seed": ["3", 0]}}}'},
        {"prompt": "[" * 100_000},
        {"prompt": '{"1": {"class_type": "KSampler", "inputs": {"steps": ["1", 0], "cfg": 1}}}'},
        {"invokeai_metadata": "null"},
        {"invokeai_metadata": '{"model": 5}'},
        {"Dream": "nothing"},
    ],
    ids=lambda notes: str(notes)[:60],
)
def test_what_says_nothing_is_none_and_breaks_nothing(tmp_path: Path, notes: dict[str, str]) -> None:
    settings = read_other(png(tmp_path / "a.png", **notes))
    assert settings is None or settings.seed is None


@pytest.mark.parametrize(
    "notes",
    [
        {"parameters": f"{INFO}, " + "ControlNet 1:" * 20_000},
        {"parameters": f"{INFO}, " + "ControlNet 1:" * 2000},
        {"parameters": f"{INFO}, " + "Hashes:{" * 100_000},
        {"parameters": json.dumps({"Dream": '"' * 20_000 + "\nx", "prompt": {}})},
        {"Dream": '"a"' + " " * 20_000 + "x"},
        {"Comment": '{"sampler": "a"}', "Description": "a", "Source": " " * 20_000 + "x"},
    ],
    ids=lambda notes: next(iter(notes)),
)
def test_notes_that_are_made_to_take_long_take_no_time(tmp_path: Path, notes: dict[str, str]) -> None:
    path = png(tmp_path / "a.png", **notes)
    check_cpu_s(lambda: read_other(path), most=0.5)


def test_a_jpeg_of_endless_notes_takes_no_time(tmp_path: Path) -> None:
    path = exif(tmp_path / "a.jpg", unicode_comment(INFOTEXT))
    start, segment = path.read_bytes()[:2], b"\xff\xe1\xff\xffExif\0\0".ljust(2**16 + 1, b"\0")
    path.write_bytes(start + 400 * segment + path.read_bytes()[2:])

    def refused() -> None:
        assert read_other(path) is None
        assert read_settings(path) is None
        assert pixel_count(path) == 0
        with pytest.raises(UserError, match="This picture is damaged or incomplete"):
            open_image(path)

    check_cpu_s(refused, most=1)


def test_a_long_prompt_is_read(tmp_path: Path) -> None:
    assert read(png(tmp_path / "a.png", parameters=f"{'a fox, ' * 2000}\n{INFO}")).seed == 4242


def test_no_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.gif")
    PICTURE.save(tmp_path / "c.jpg")
    assert [read_other(tmp_path / name) for name in ("a.png", "b.gif", "c.jpg")] == [None] * 3
