"""What AUTOMATIC1111, Forge, ComfyUI, Fooocus and InvokeAI write into a picture is read, wherever they write it."""

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
from ipa_app.imaging.other_programs import OtherSettings, read_other
from ipa_app.imaging.result_files import read_settings
from tests.effort import check_cpu_s
from tests.other_programs import (
    COMFY,
    FOOOCUS,
    INFO,
    INFOTEXT,
    INVOKE,
    PICTURE,
    comfy,
    exif,
    node,
    png,
    unicode_comment,
    without,
)

FOX = {"prompt": "a fox in a blue coat", "negative_prompt": "blurry", "seed": 4242, "size": (512, 384)}
OF_A1111 = {**FOX, "steps": 24, "guidance_scale": 6.5, "model": "mymodel", "sampler": "Euler a (Karras)"}
OF_FOOOCUS = {**FOX, "steps": 30, "guidance_scale": 4, "model": "mymodelXL", "sampler": "dpmpp_2m_sde_gpu (karras)"}
OF_COMFY = {
    **FOX,
    "steps": 20,
    "guidance_scale": 7.5,
    "model": "models/mymodel.safetensors",
    "sampler": "euler (normal)",
}
OF_INVOKE = {**FOX, "steps": 30, "guidance_scale": 7.5, "model": "mymodel", "sampler": "euler"}


def read(path: Path) -> OtherSettings:
    settings = read_other(path)
    assert settings is not None
    return settings


def compare(settings: OtherSettings, program: str, expected: dict[str, Any]) -> None:
    assert settings == OtherSettings(program=program, **expected)


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
    "comfy in a comment": (
        lambda folder: exif(folder / "a.webp", json.dumps({"prompt": COMFY, "workflow": {}}).encode()),
        "ComfyUI",
        OF_COMFY,
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
    assert settings.prompt == "a fox,\nin a coat ( dog)"
    assert settings.negative_prompt == "blurry,\n cat"
    assert settings.seed == 4242


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


def test_notes_of_no_sense_are_shortened_or_left_out(tmp_path: Path) -> None:
    graph = comfy(_3__seed=10**4000, _3__sampler_name="e" * 5000, _4__ckpt_name=7, _5__width=10**4000)
    settings = read(png(tmp_path / "a.png", prompt=graph))
    assert (settings.model, settings.seed, settings.size) == ("7", None, None)
    assert settings.sampler == "e" * 99 + "…"


def test_a_sampler_made_of_several_nodes(tmp_path: Path) -> None:
    graph = comfy(
        _3=node(
            "SamplerCustomAdvanced",
            noise=["10", 0],
            guider=["11", 0],
            sampler=["12", 0],
            sigmas=["13", 0],
            latent_image=["5", 0],
        )
    )
    graph |= {
        "10": node("RandomNoise", noise_seed=4242),
        "11": node("CFGGuider", cfg=7.5, model=["4", 0], positive=["6", 0], negative=["7", 0]),
        "12": node("KSamplerSelect", sampler_name="euler"),
        "13": node("BasicScheduler", scheduler="normal", steps=20, denoise=1, model=["4", 0]),
    }
    compare(read(png(tmp_path / "a.png", prompt=graph)), "ComfyUI", OF_COMFY)
    graph["11"] = node("BasicGuider", model=["4", 0], conditioning=["6", 0])
    settings = read(png(tmp_path / "b.png", prompt=graph))
    assert (settings.prompt, settings.negative_prompt, settings.guidance_scale) == ("a fox in a blue coat", "", 1)


GRAPHS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linked values": (
        {
            **comfy(_3__seed=["20", 0], _5__width=["21", 0], _6__text=["22", 0]),
            "20": node("Seed (rgthree)", seed=4242),
            "21": node("PrimitiveInt", value=512),
            "22": node("String", value="a fox in a blue coat"),
        },
        {},
    ),
    "sdxl": (comfy(_6=node("CLIPTextEncodeSDXL", text_g="a fox in a blue coat", text_l="a fox", clip=["4", 1])), {}),
    "flux": (
        comfy(
            _4=node("UNETLoader", unet_name="flux.safetensors"),
            _7=node("ConditioningZeroOut", conditioning=["6", 0]),
        ),
        {"negative_prompt": "", "model": "flux.safetensors"},
    ),
    "advanced": (
        comfy(_3={**node("KSamplerAdvanced", **without(COMFY["3"]["inputs"], "seed", "denoise"), noise_seed=4242)}),
        {},
    ),
    "changed since": ({**COMFY, "9": {**COMFY["9"], "is_changed": [float("nan")]}}, {}),
    "lora and controlnet": (
        {
            **comfy(_3__model=["30", 0], _3__positive=["31", 0]),
            "30": node("LoraLoader", lora_name="ink.safetensors", model=["4", 0], clip=["4", 1]),
            "31": node("ControlNetApply", conditioning=["6", 0], control_net=["32", 0], image=["33", 0], strength=1),
            "32": node("ControlNetLoader", control_net_name="pose"),
            "33": node("LoadImage", image="x.png"),
        },
        {"beside": ("lora", "controlnet", "start")},
    ),
    "from a picture": (
        comfy(_5=node("VAEEncode", pixels=["33", 0], vae=["4", 2])) | {"33": node("LoadImage", image="x.png")},
        {"size": None, "beside": ("start",)},
    ),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_of_other_shapes(tmp_path: Path, case: str) -> None:
    graph, changes = GRAPHS[case]
    compare(read(png(tmp_path / "a.png", prompt=graph)), "ComfyUI", {**OF_COMFY, **changes})


def test_of_several_samplers_the_one_that_starts_from_noise_is_taken_and_named(tmp_path: Path) -> None:
    second = node("KSampler", **{**COMFY["3"]["inputs"], "seed": 1, "steps": 5, "latent_image": ["2", 0]})
    graph = {"1": second, "2": node("LatentUpscale", samples=["3", 0], width=1024, height=768), **COMFY}
    settings = read(png(tmp_path / "a.png", prompt=graph))
    assert (settings.seed, settings.steps, settings.size) == (4242, 20, (512, 384))
    assert (settings.samplers, settings.taken_from) == (2, "KSampler 3")


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
    ids=lambda notes: str(notes)[:60],
)
def test_notes_that_are_made_to_take_long_take_no_time(tmp_path: Path, notes: dict[str, str]) -> None:
    path = png(tmp_path / "a.png", **notes)
    check_cpu_s(lambda: read_other(path), most=0.5)


def _samplers_after_a_long_way() -> dict[str, Any]:
    """Every sampler is linked to the same thousands of nodes, with texts at the end of the way."""
    way = {
        f"w{number}": node("ControlNetApply", a=[f"w{number + 1}", 0], b=[f"t{number}", 0]) for number in range(4000)
    }
    texts = {f"t{number}": node("CLIPTextEncode", text="fox") for number in range(4000)}
    sampler = node("KSampler", **{**COMFY["3"]["inputs"], "positive": ["w0", 0], "model": ["w0", 0]})
    return {**COMFY, **{f"s{number}": sampler for number in range(4000)}, **way, **texts}


def _samplers_of_large_parts() -> dict[str, Any]:
    """Every sampler is made of a part that has thousands of values."""
    sampler = node("SamplerCustomAdvanced", guider=["part", 0])
    part = node("CFGGuider", cfg=7.5, **{f"value_{number}": number for number in range(20_000)})
    return {**COMFY, **{f"s{number}": sampler for number in range(5000)}, "part": part}


@pytest.mark.parametrize("make", [_samplers_after_a_long_way, _samplers_of_large_parts])
def test_a_graph_that_is_made_to_take_long_takes_no_time(tmp_path: Path, make: Callable[[], dict[str, Any]]) -> None:
    path = png(tmp_path / "a.png", prompt=make())
    check_cpu_s(lambda: read_other(path), most=1.5)
    settings = read_other(path)
    assert settings is not None
    assert (settings.seed, settings.prompt) == (4242, "a fox in a blue coat")


def test_a_jpeg_of_endless_notes_takes_no_time(tmp_path: Path) -> None:
    path = exif(tmp_path / "a.jpg", unicode_comment(INFOTEXT))
    start, segment = path.read_bytes()[:2], b"\xff\xe1\xff\xffExif\0\0".ljust(2**16 + 1, b"\0")
    path.write_bytes(start + 400 * segment + path.read_bytes()[2:])

    def refused() -> None:
        assert read_other(path) is None
        assert read_settings(path) is None
        assert pixel_count(path) == 0
        with pytest.raises(UserError, match="This picture is damaged or not complete"):
            open_image(path)

    check_cpu_s(refused, most=1)


def test_a_graph_may_have_pictures_in_it(tmp_path: Path) -> None:
    graph = {**COMFY, "10": node("LoadImageBase64", image="A" * 600_000)}
    assert read(png(tmp_path / "a.png", prompt=graph)).seed == 4242


def test_a_long_prompt_is_read(tmp_path: Path) -> None:
    assert read(png(tmp_path / "a.png", parameters=f"{'a fox, ' * 2000}\n{INFO}")).seed == 4242


def test_no_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "b.gif")
    PICTURE.save(tmp_path / "c.jpg")
    assert [read_other(tmp_path / name) for name in ("a.png", "b.gif", "c.jpg")] == [None] * 3
