"""Every row of "Model files" in docs/inputs.md: made, handed to the app, and its outcome compared word for word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file
from torch import Tensor

from ipa_app.errors import UserError
from tests.checkpoints import copy_configuration, load
from tests.inputs.place import LEFT_OUT, TAKEN, Outcome, Place
from tests.inputs.tables import rows
from tests.malicious import Malicious
from tests.models.test_image_encoder import write_complete_clip
from tests.single_file import original_controlnet
from tests.tiny_models import SDXL_BLOCKS, random_lora_tensors, tiny_controlnet, tiny_sdxl_unet, tiny_unet
from tests.tiny_sdxl import tiny_sdxl_bundle

ROOT = "/models"
"""What the table calls the folder that everything lies in."""
FIRST = "model.diffusion_model.input_blocks.0.0.weight"
V_PRED, ZTSNR = {"v_pred": torch.tensor([])}, {"ztsnr": torch.tensor([])}


def two_of_a_name(here: Place) -> Outcome:
    other = here.root / "other" / "dream"
    other.parent.mkdir()
    return here.named(here.copy(), shutil.copytree(here.bundle, other))


def written(here: Place, name: str, content: bytes) -> Path:
    (here.root / name).write_bytes(content)
    return here.root / name


def with_settings(here: Place, text: str, *, encoding: str = "utf-8") -> Outcome:
    folder = here.copy()
    (folder / "ipa_studio.json").write_text(text, encoding=encoding)
    return here.named(folder)


def in_capitals(here: Place) -> Outcome:
    path = here.file()
    return here.named(path.rename(path.with_suffix(".SAFETENSORS")))


def linked(here: Place) -> Outcome:
    path = here.file()
    content = path.rename(here.root / "0123abcd")
    path.symlink_to(content)
    return here.named(path)


def at_home(here: Place) -> Outcome:
    here.copy()
    here.patch.setenv("HOME", str(here.root))
    return here.named("~/dream")


def folder_of(here: Place, name: str) -> Path:
    """Return a folder with one file of tensors."""
    (here.root / "dream").mkdir()
    save_arrays({name: np.zeros(4, dtype=np.float32)}, here.root / "dream" / "any.safetensors")
    return here.root / "dream"


def flux_folder(here: Place) -> Outcome:
    folder = here.copy()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))
    return here.named(folder)


def beside(here: Place, name: str, text: str) -> Outcome:
    path = here.file()
    (here.root / name).write_text(text)
    return here.loaded(path)


def cut_model(here: Place) -> Outcome:
    cut = {**SDXL_BLOCKS, "transformer_layers_per_block": (1, 1, 1)}
    shape = {"second_text": {"hidden_size": 48}}
    folder = tiny_sdxl_bundle(here.root / "cut", blocks=cut, **shape)
    path = here.file(folder, beside=False, layers_per_block=2)
    copy_configuration(tiny_sdxl_bundle(here.root / "whole", blocks=SDXL_BLOCKS, **shape), here.root / "dream")
    return here.loaded(path)


def without_configuration(here: Place) -> Outcome:
    here.patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here.root / "empty"))
    return here.loaded(here.file(beside=False))


def changed_file(here: Place, change: Callable[[dict[str, Tensor]], Mapping[str, Tensor]]) -> Outcome:
    path = here.file()
    save_file(dict(change(load_file(path))), path)
    return here.loaded(path)


def without(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in tensors.items() if not key.startswith(prefix)}


def spoiled(tensors: dict[str, Tensor], key: str) -> dict[str, Tensor]:
    tensors[key].view(-1)[-1] = float("nan")
    return tensors


def packed(tensors: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {key: tensor.to(dtype) if tensor.ndim > 1 else tensor for key, tensor in tensors.items()}


def variants(here: Place, variant: str) -> Outcome:
    folder = here.copy()
    for path in [path for part in ("unet", "vae", "text_encoder") for path in (folder / part).glob("*.safetensors")]:
        path.rename(path.with_name(f"{path.stem}.{variant}.safetensors"))
    return here.loaded(folder)


def as_pickle(here: Place, content: object) -> Outcome:
    folder = here.copy()
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save(content or load_file(path), path.with_suffix(".bin"))
    path.unlink()
    return here.loaded(folder)


def renamed(here: Place, name: str) -> Outcome:
    folder = here.copy()
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.rename(path.with_name(name))
    return here.loaded(folder)


def other_unet(here: Place) -> Outcome:
    folder = here.copy()
    shutil.rmtree(folder / "unet")
    tiny_unet(cross_attention_dim=64).save_pretrained(folder / "unet")
    return here.loaded(folder)


def complete_clip(here: Place) -> Outcome:
    folder = here.copy()
    write_complete_clip(folder / "image_encoder")
    return here.loaded(folder)


LORA = random_lora_tensors(tiny_unet())


def fast(
    here: Place, tensors: Mapping[str, Tensor], *, name: str = "loras/few.safetensors", size: int | None = None
) -> Outcome:
    """Return the outcome of a model with a fast way whose LoRA file has `size` bytes; no `tensors`, no file."""
    folder = here.copy()
    path = folder / name
    if tensors:
        save_file(dict(tensors), path)
        path.write_bytes(path.read_bytes()[:size])
    way = {"lora": name, "scheduler": "LCMScheduler"}
    (folder / "ipa_studio.json").write_text(json.dumps({"fast": way}))
    model = load(here.entry(folder))
    try:
        model.fast.read()
    except UserError as error:
        assert model.pipeline("text_to_image")
        return f"{LEFT_OUT}; the model works", str(error)
    return TAKEN, None


def controlnet_file(here: Place, tensors: Mapping[str, Tensor], name: str = "openpose.pth") -> Outcome:
    folder = here.copy()
    shutil.rmtree(folder / "controlnet")
    (folder / "controlnet").mkdir()
    torch.save(dict(tensors), folder / "controlnet" / name)
    return with_controlnets(here, folder)


def with_controlnets(here: Place, folder: Path) -> Outcome:
    """Return the outcome of a model and of the ControlNets in its folder."""
    found = here.loaded(folder)
    left_out = here.entry(folder).controlnets_left_out
    if not left_out or found != ("Taken", None):
        return found
    (why,) = left_out.values()
    return "Left out; the model works", why


def other_controlnet(here: Place) -> Outcome:
    folder = here.copy()
    path = folder / "controlnet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "ControlNetUnionModel"}))
    return with_controlnets(here, folder)


def controlnet_without_weights(here: Place) -> Outcome:
    folder = here.copy()
    for path in (folder / "controlnet").glob("*.safetensors"):
        path.unlink()
    return with_controlnets(here, folder)


def several_controlnets(here: Place) -> Outcome:
    folder = here.copy()
    tiny_controlnet(tiny_unet()).save_pretrained(folder / "controlnets" / "depth")
    return with_controlnets(here, folder)


COMPVIS = "model:\n  params:\n    parameterization: v\n"
SCHEDULER = json.dumps({"_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "clip_sample": False})
SD2_NAMES = {"text_layout": "open_clip"}
EDM = {"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)}
COSXL = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}
EMA = {"model_ema.diffusion_modelx": torch.zeros(8, 8), "model_ema.decay": torch.ones(())}

GIVEN: dict[str, Callable[[Place], Outcome]] = {
    # What IPA_MODELS names
    "A folder in diffusers layout": lambda here: here.named(here.copy()),
    "A checkpoint, one `.safetensors` file": lambda here: here.named(here.file()),
    "The same with its ending in capitals": in_capitals,
    "A link to a file with another name": linked,
    "A path that begins with `~`": at_home,
    "Semicolons between the paths": lambda here: here.named(here.copy(), separator=";"),
    "Empty items, spaces and quotes": lambda here: here.named("", f' "{here.copy()}" ', ""),
    "The same place twice": lambda here: here.named(here.copy(), here.root / "dream"),
    "Two places with the same name": two_of_a_name,
    "A path with nothing there": lambda here: here.named(here.root / "dream"),
    "A `.ckpt` file": lambda here: here.named(written(here, "dream.ckpt", b"PK")),
    "A `.gguf` file": lambda here: here.named(written(here, "dream.gguf", b"GGUF")),
    "A file that is cut off": lambda here: here.named(
        written(here, "dream.safetensors", here.file().read_bytes()[:-9])
    ),
    "A Git LFS pointer": lambda here: here.named(
        written(here, "dream.safetensors", b"version https://git-lfs.github.com/spec/v1")
    ),
    "A PyTorch file called `.safetensors`": lambda here: here.named(
        written(here, "dream.safetensors", b"PK\x03\x04" + bytes(40))
    ),
    "An IP-Adapter": lambda here: here.tensors("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"),
    "A LoRA": lambda here: here.tensors("lora_unet_mid_block.lora_up.weight"),
    "A ControlNet": lambda here: here.tensors("control_model.input_blocks.0.0.weight"),
    "A VAE": lambda here: here.tensors("decoder.conv_in.weight"),
    "A text encoder": lambda here: here.tensors("text_model.embeddings.token_embedding.weight"),
    "An image encoder": lambda here: here.tensors("vision_model.embeddings.class_embedding"),
    "A UNet without the rest": lambda here: here.tensors(FIRST),
    "A textual inversion": lambda here: here.tensors("emb_params"),
    "A checkpoint of FLUX": lambda here: here.tensors("double_blocks.0.img_attn.norm.key_norm.scale"),
    "A folder of FLUX": flux_folder,
    "An empty folder": lambda here: here.named(Path(shutil.copytree(here.bundle / "tokenizer", here.root / "dream"))),
    "The folder of one part": lambda here: here.named(shutil.copytree(here.bundle / "unet", here.root / "dream")),
    "A folder of LoRAs": lambda here: here.named(folder_of(here, "x.lora_up.weight")),
    "A folder of checkpoints": lambda here: here.named(folder_of(here, "cond_stage_model.transformer.x")),
    "`ipa_studio.json` with a byte order mark": lambda here: with_settings(here, "{}", encoding="utf-8-sig"),
    "`ipa_studio.json` in UTF-16": lambda here: with_settings(here, "{}", encoding="utf-16"),
    "`ipa_studio.json` that is broken": lambda here: with_settings(here, "{"),
    "`ipa_studio.json` with 0 steps": lambda here: with_settings(here, '{"steps": 0}'),
    # A checkpoint
    "A checkpoint with `v_pred` in it": lambda here: here.loaded(here.file(more=V_PRED)),
    "A checkpoint with `v_pred` and `ztsnr` in it": lambda here: here.loaded(here.file(more=V_PRED | ZTSNR)),
    "A checkpoint whose notes say v": lambda here: here.loaded(here.file(notes={"modelspec.prediction_type": "v"})),
    "A checkpoint with a `.yaml` beside it": lambda here: beside(here, "dream.yaml", COMPVIS),
    "A checkpoint with a broken `.yaml` beside it": lambda here: beside(here, "dream.yaml", "model: {"),
    "A checkpoint with a `scheduler_config.json` beside it": lambda here: beside(
        here, "scheduler_config.json", SCHEDULER
    ),
    "Playground v2.5 (`edm_mean`, `edm_std`)": lambda here: here.loaded(here.file(more=EDM)),
    "Half of that": lambda here: here.loaded(here.file(more={"edm_mean": torch.zeros(4)})),
    "CosXL (`edm_vpred.sigma_max`)": lambda here: here.loaded(here.file(more=COSXL)),
    "A text encoder without `text_model.` in its names": lambda here: here.loaded(here.file(text_layout="old")),
    "Stable Diffusion 2 with open_clip's names": lambda here: here.loaded(here.file(**SD2_NAMES)),
    "Averaged weights (EMA) beside the others": lambda here: here.loaded(here.file(more=EMA)),
    "A model cut down from SDXL, with SDXL's configuration": cut_model,
    "A checkpoint without any configuration": without_configuration,
    "A checkpoint without a VAE": lambda here: changed_file(here, lambda all_: without(all_, "first_stage_model.")),
    "A checkpoint in 8-bit floats": lambda here: changed_file(here, lambda all_: packed(all_, torch.float8_e4m3fn)),
    "A checkpoint with NaN in it": lambda here: changed_file(
        here, lambda all_: spoiled(all_, "model.diffusion_model.out.2.bias")
    ),
    # A folder
    "Only `*.bf16.safetensors`": lambda here: variants(here, "bf16"),
    "Only `*.non_ema.safetensors`": lambda here: variants(here, "non_ema"),
    "Only `.bin`": lambda here: as_pickle(here, None),
    "`.bin` with program code in it": lambda here: as_pickle(here, {"x": Malicious(here.root / "proof")}),
    "Only `.gguf`": lambda here: renamed(here, "model.gguf"),
    "The second of two pieces is missing": lambda here: renamed(
        here, "diffusion_pytorch_model-00001-of-00002.safetensors"
    ),
    "A tensor is missing": lambda here: here.edited("unet", lambda all_: without(all_, "conv_in.bias")),
    "A tensor too many": lambda here: here.edited("unet", lambda all_: all_ | {"down_blocks.9.x": torch.zeros(1)}),
    "8-bit whole numbers": lambda here: here.edited("unet", lambda all_: packed(all_, torch.int8)),
    "4-bit numbers of bitsandbytes": lambda here: here.edited(
        "unet", lambda all_: all_ | {"conv_in.weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8)}
    ),
    "NaN among the weights": lambda here: here.edited("vae", lambda all_: spoiled(all_, "decoder.conv_out.bias")),
    "A VAE with `latents_mean` and `latents_std`": lambda here: here.configured(
        "vae/config.json", latents_mean=[0.1] * 4, latents_std=[2.0] * 4
    ),
    "A VAE with `shift_factor`": lambda here: here.configured("vae/config.json", shift_factor=0.1),
    "A VAE with other latents": lambda here: here.configured("vae/config.json", latent_channels=16),
    "An inpainting UNet (9 channels)": lambda here: here.channels(9),
    "InstructPix2Pix (8 channels)": lambda here: here.channels(8),
    "The x4 upscaler (7 channels)": lambda here: here.channels(7),
    "Stable Diffusion 2 depth (5 channels)": lambda here: here.channels(5),
    "A scheduler for flow matching": lambda here: here.loaded(here.scheduled(FlowMatchEulerDiscreteScheduler())),
    "A scheduler whose package is missing": lambda here: here.configured(
        "model_index.json", scheduler=["diffusers", "DPMSolverSDEScheduler"]
    ),
    "A scheduler that does not exist": lambda here: here.configured(
        "model_index.json", scheduler=["diffusers", "DreamScheduler"]
    ),
    "A prediction type that does not exist": lambda here: here.configured(
        "scheduler/scheduler_config.json", prediction_type="v"
    ),
    "Settings that a scheduler does not take": lambda here: here.configured(
        "scheduler/scheduler_config.json", beta_schedule="dream"
    ),
    "An EDM schedule": lambda here: here.loaded(here.scheduled(EDMEulerScheduler())),
    "An EDM schedule, to train an adapter on": lambda here: here.trained_on(here.scheduled(EDMEulerScheduler())),
    "A scheduler that predicts the picture, to train on": lambda here: here.trained_on(
        here.scheduled(DDIMScheduler(prediction_type="sample"))
    ),
    "A UNet of another family": other_unet,
    "A complete CLIP as image encoder": complete_clip,
    "An image encoder without projection": lambda here: here.edited(
        "image_encoder", lambda all_: without(all_, "visual_projection")
    ),
    "SigLIP as image encoder": lambda here: here.configured(
        "image_encoder/config.json", model_type="siglip_vision_model"
    ),
    "A ControlNet as `.pth`": lambda here: controlnet_file(here, original_controlnet(tiny_controlnet(tiny_unet()))),
    "A ControlNet of another family": lambda here: controlnet_file(
        here, tiny_controlnet(tiny_sdxl_unet()).state_dict()
    ),
    "Something else where the ControlNet should be": lambda here: controlnet_file(
        here, {"lora_unet.lora_up.weight": torch.zeros(1)}
    ),
    "A ControlNet for many purposes": other_controlnet,
    "A ControlNet without weights": controlnet_without_weights,
    "Several ControlNets, in `controlnet` and `controlnets`": several_controlnets,
    "`ipa_studio.json` with a `fast` entry and its LoRA": lambda here: fast(here, LORA),
    "A `fast` entry whose LoRA is missing": lambda here: fast(here, {}),
    "A LoRA outside the model's folder": lambda here: fast(here, LORA, name="../few.safetensors"),
    "A LoRA for another UNet": lambda here: fast(here, random_lora_tensors(tiny_sdxl_unet())),
    "A LoRA that is cut off": lambda here: fast(here, LORA, size=100),
}


def test_every_row_is_tried() -> None:
    assert list(GIVEN) == list(rows("Model files"))


@pytest.mark.parametrize("given", GIVEN)
def test_what_becomes_of_it_and_what_is_said(
    given: str, tiny_bundle_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given == "A scheduler whose package is missing" and find_spec("torchsde") is not None:
        pytest.skip("the package is there")
    root = tmp_path / "models"
    root.mkdir()
    found, sentence = GIVEN[given](Place(root, tiny_bundle_dir, monkeypatch))
    row = rows("Model files")[given]
    assert (found, sentence and sentence.replace(str(root), ROOT)) == (row.outcome, row.sentence)
