"""Build models of the published shapes with random weights, in the Hub's file layout.

So no published weights are needed to check that such files load: names of folders, files and tensors, shapes and
precisions are those of stable-diffusion-v1-5/stable-diffusion-v1-5, stabilityai/stable-diffusion-xl-base-1.0,
h94/IP-Adapter, lllyasviel/control_v11p_sd15_openpose and an SDXL ControlNet. Only one part is in memory at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from bench.published_files import VOCABULARY, write_index, write_tokenizer
from ipa_app.adapter import IPAdapter, save_adapter

_NOISE_NUMBERS = 1_000_003  # a prime, so that rows of a matrix never repeat

# Number of parameters of the published files; None for those that are smaller here.
PUBLISHED_PARAMETERS = {
    "unet": 859_520_964,
    "vae": 83_653_863,
    "text_encoder": 123_060_480,
    "controlnet": 361_279_120,
    "image_encoder": 632_076_800,
}


@dataclass(frozen=True, kw_only=True)
class Widths:
    """The sizes that a smaller copy changes; names of tensors always stay the published ones.

    Attributes:
        unet: channels of the UNet's blocks.
        heads: `attention_head_dim` of the UNet's configuration.
        text: hidden size and number of layers of each text encoder.
        vae: channels of the VAE's blocks.
        vision: hidden size, layers and projection of the CLIP image encoder.
        resampler_heads: attention heads of the fine-grained adapter's Resampler.
    """

    unet: tuple[int, ...]
    heads: int | tuple[int, ...]
    text: tuple[tuple[int, int], ...]
    vae: tuple[int, ...] = (128, 256, 512, 512)
    vision: tuple[int, int, int] = (1280, 32, 1024)
    resampler_heads: int = 12

    @property
    def text_width(self) -> int:
        """Width of the text embeddings, concatenated over all encoders."""
        return sum(width for width, _ in self.text)


_TINY = {"vae": (32, 64, 128, 128), "vision": (64, 3, 48), "resampler_heads": 1}
SIZES = {
    ("sd15", False): Widths(unet=(320, 640, 1280, 1280), heads=8, text=((768, 12),)),
    ("sd15", True): Widths(unet=(32, 64, 128, 128), heads=8, text=((64, 2),), **_TINY),
    # Narrower blocks, and fewer layers in the second text encoder; as many attention layers as published.
    ("sdxl", False): Widths(unet=(64, 128, 256), heads=(1, 2, 4), text=((768, 12), (1280, 2)), resampler_heads=20),
    ("sdxl", True): Widths(unet=(32, 64, 128), heads=(1, 2, 4), text=((64, 2), (64, 2)), **_TINY),
}
PUBLISHED = {
    "sd15": SIZES["sd15", False],
    "sdxl": Widths(unet=(320, 640, 1280), heads=(5, 10, 20), text=((768, 12), (1280, 32)), resampler_heads=20),
}
"""The published sizes, including SDXL's, which needs 20 GB of memory or more to draw."""


@dataclass(frozen=True, kw_only=True)
class Hub:
    """Paths of a family's parts in a folder, laid out as on the Hub.

    Attributes:
        model: the base model's folder.
        adapters: the IP-Adapter repository.
        base: the base adapter's file in that repository.
        plus: the fine-grained adapter's file in that repository.
        controlnet: the ControlNet's folder.
    """

    model: Path
    adapters: Path
    base: str
    plus: str
    controlnet: Path

    @property
    def image_encoder(self) -> Path:
        """ViT-H, which the adapters of both families use."""
        return self.adapters / "models" / "image_encoder"


def hub(family: str, folder: Path) -> Hub:
    """Return the paths in a folder; the fine-grained adapter of SD 1.5 is written as a PyTorch file."""
    adapters = folder / "h94" / "IP-Adapter"
    if family == "sd15":
        return Hub(
            model=folder / "stable-diffusion-v1-5" / "stable-diffusion-v1-5",
            adapters=adapters,
            base="models/ip-adapter_sd15.safetensors",
            plus="models/ip-adapter-plus_sd15.bin",
            controlnet=folder / "lllyasviel" / "control_v11p_sd15_openpose",
        )
    return Hub(
        model=folder / "stabilityai" / "stable-diffusion-xl-base-1.0",
        adapters=adapters,
        base="sdxl_models/ip-adapter_sdxl_vit-h.safetensors",
        plus="sdxl_models/ip-adapter-plus_sdxl_vit-h.bin",
        controlnet=folder / "thibaud" / "controlnet-openpose-sdxl-1.0",
    )


def unet_config(family: str, widths: Widths) -> dict[str, Any]:
    """Return the UNet's configuration."""
    shared = {
        "block_out_channels": widths.unet,
        "attention_head_dim": widths.heads,
        "cross_attention_dim": widths.text_width,
    }
    if family == "sd15":
        return shared | {"sample_size": 64}
    return shared | {
        "sample_size": 128,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + widths.text[-1][0],
    }


def write(
    family: str, folder: Path, *, widths: Widths, device: str = "cpu", say: Callable[[str], None] = print
) -> None:
    """Write a whole family: base model, image encoder, both adapters, ControlNet.

    Args:
        family: "sd15" or "sdxl".
        folder: the destination; see `hub`.
        widths: one of `SIZES` or `PUBLISHED`.
        device: where the weights are generated.
        say: called with what is written and its number of parameters.
    """
    places, tiny = hub(family, folder), widths == SIZES[family, True]
    unet = unet_config(family, widths)

    def part(name: str, build: Callable[[], Any], to: Path, *, variant: str | None = "fp16") -> None:
        model = random_model(build, device=device)
        say(f"{name}: {sum(tensor.numel() for tensor in model.parameters()):,} parameters")
        model.save_pretrained(to, variant=variant)

    part("unet", lambda: UNet2DConditionModel(**unet), places.model / "unet")
    part("vae", lambda: AutoencoderKL(**vae_config(family, widths)), places.model / "vae")
    if family == "sd15":
        _rename_tensors(places.model / "vae" / "diffusion_pytorch_model.fp16.safetensors", _old_attention_name)
        part("safety_checker", lambda: _safety_checker(tiny=tiny), places.model / "safety_checker")
    for number, (width, layers) in enumerate(widths.text):
        name = "text_encoder" if number == 0 else "text_encoder_2"
        text = CLIPTextModel if number == 0 else CLIPTextModelWithProjection
        config = text_config(width, layers, second=number == 1)
        part(name, lambda text=text, config=config: text(config), places.model / name)
        _rename_tensors(places.model / name / "model.fp16.safetensors", _wrapped_text_name)
        write_tokenizer(places.model / name.replace("text_encoder", "tokenizer"))
    vision = vision_config(widths)
    part("image_encoder", lambda: CLIPVisionModelWithProjection(vision), places.image_encoder, variant=None)
    part("controlnet", lambda: _controlnet(unet), places.controlnet)
    write_adapters(places, unet, vision, resampler_heads=widths.resampler_heads, device=device)
    write_index(family, places.model)


def write_adapters(
    places: Hub, unet: Mapping[str, Any], vision: CLIPVisionConfig, *, resampler_heads: int, device: str = "cpu"
) -> None:
    """Write both adapters for a UNet, the base one both as a safetensors and as a PyTorch file."""
    with torch.device("meta"):
        layout = UNet2DConditionModel(**unet)
    sizes = {"base": {"clip_dim": vision.projection_dim}, "plus": {"clip_dim": vision.hidden_size}}
    sizes["plus"] |= {"heads": resampler_heads}
    for kind, file in (("base", places.base), ("plus", places.plus)):
        adapter = random_model(lambda kind=kind: IPAdapter.for_unet(layout, kind=kind, **sizes[kind]), device=device)
        save_adapter(adapter, places.adapters / file)
        if kind == "base":
            save_adapter(adapter, (places.adapters / file).with_suffix(".bin"))


@torch.no_grad()
def random_model(build: Callable[[], Any], *, device: str = "cpu") -> Any:
    """Build a model in half precision with random weights that keep its activations in range.

    Args:
        build: calls the model's constructor.
        device: where the weights are generated, the same on every device up to rounding; they are returned on the CPU.
    """
    with torch.device("meta"):
        model = build()
    model = model.half().to_empty(device=device)
    noise = torch.randn(_NOISE_NUMBERS, generator=torch.Generator().manual_seed(0)).half().to(device)
    offset = 0
    for name, tensor in model.named_parameters():
        if tensor.ndim < 2:
            tensor.fill_(0.0 if name.endswith("bias") else 1.0)
            continue
        deviation = 0.02 if "embedding" in name else tensor[0].numel() ** -0.5
        count = -(-(offset + tensor.numel()) // _NOISE_NUMBERS)
        tensor.copy_(noise.repeat(count)[offset : offset + tensor.numel()].view(tensor.shape) * deviation)
        offset = (offset + tensor.numel()) % _NOISE_NUMBERS
    return model.to("cpu")


def vae_config(family: str, widths: Widths) -> dict[str, Any]:
    """Return the VAE's configuration."""
    return {
        "block_out_channels": widths.vae,
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512 if family == "sd15" else 1024,
        "scaling_factor": 0.18215 if family == "sd15" else 0.13025,
    }


def text_config(width: int, layers: int, *, second: bool) -> CLIPTextConfig:
    """Return the configuration of a text encoder; SDXL's second one is of another family."""
    return CLIPTextConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        projection_dim=width,
        hidden_act="gelu" if second else "quick_gelu",
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
    )


def vision_config(widths: Widths) -> CLIPVisionConfig:
    """Return the configuration of the adapters' image encoder."""
    hidden, layers, projection = widths.vision
    return CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=16,
        projection_dim=projection,
        patch_size=14,
        hidden_act="gelu",
    )


def _safety_checker(*, tiny: bool) -> StableDiffusionSafetyChecker:
    """Build a CLIP ViT-L/14 safety checker. Its thresholds are 1, which no cosine exceeds, so every picture passes."""
    hidden, layers = (64, 2) if tiny else (1024, 24)
    vision = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=16,
        patch_size=14,
    )
    return StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision.to_dict(), projection_dim=768))


def _controlnet(unet: Mapping[str, Any]) -> ControlNetModel:
    unknown = {"sample_size", "up_block_types"}
    return ControlNetModel(**{name: value for name, value in unet.items() if name not in unknown})


def _rename_tensors(path: Path, rename: Callable[[str], str]) -> None:
    """Rewrite a file with the published tensor names, where today's classes use others."""
    tensors = {rename(key): tensor.clone() for key, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _old_attention_name(key: str) -> str:
    """Return the name of the VAE's attention tensor in the files of SD 1.5."""
    old = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new_name, old_name in old.items():
        key = key.replace(new_name, old_name)
    return key


def _wrapped_text_name(key: str) -> str:
    """Return the name of a text encoder's tensor in the published files."""
    is_wrapped = key.startswith(("text_model.", "text_projection."))
    return key if is_wrapped else f"text_model.{key}"
