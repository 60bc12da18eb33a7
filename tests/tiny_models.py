"""Small random models of the real classes, and a whole bundle of them in the layout of the bundled model.

They draw noise, but run the same code as the big models.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from ipa_app.models.entry import FastWay
from ipa_app.pose.toy_reader import ToyReader

CROSS_ATTENTION_DIM = 32
CLIP_HIDDEN = 32
CLIP_PROJECTION = 24
PICTURE_SIZE = 64
TINY_LORA = "loras/tiny.safetensors"
"""In every bundle; no settings name it, so that only who asks for it draws fast: `tiny_fast_way`."""
WORDS = {
    "animals": ["bear", "cat", "dog", "frog", "rabbit"],
    "colours": ["blue", "green", "red", "yellow"],
    "things": ["crown", "hat", "shirt", "beach", "meadow"],
    "small words": ["a", "in", "on", "the", "with"],
}
CHINESE = {
    "animals": {"cat": ["猫", "貓"], "dog": ["狗"]},
    "colours": {"red": ["红色", "红"], "blue": ["蓝色"]},
    "things": {"hat": ["帽子"], "on the beach": ["海滩"]},
    "small words": {"a": ["一只"], "with": ["戴着"], "": ["的", "在", "上"]},
    "clauses": {"begin": ["with"], "end": ["的"]},
}


def tiny_unet(*, seed: int = 0, cross_attention_dim: int = CROSS_ATTENTION_DIM) -> UNet2DConditionModel:
    """Build a Stable-Diffusion-shaped UNet of 32 and 64 channels, 4 latent channels and 3 cross-attentions."""
    torch.manual_seed(seed)
    return UNet2DConditionModel(
        sample_size=PICTURE_SIZE // 8,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=cross_attention_dim,
        attention_head_dim=4,
        norm_num_groups=8,
    ).eval()


SDXL_BLOCKS = {
    "block_out_channels": (32, 64, 64),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4, 4),
    "transformer_layers_per_block": (1, 1, 2),
}
"""The blocks of the published SDXL, for `tiny_sdxl_unet`, with narrower channels and fewer layers in each."""


def tiny_sdxl_unet(
    *, seed: int = 0, cross_attention_dim: int = 64, blocks: Mapping[str, Any] = MappingProxyType({})
) -> UNet2DConditionModel:
    """Build an SDXL-shaped UNet: transformer depths 1 and 2, linear projections, text_time conditioning.

    Its added conditions are `text_embeds` (batch, 32) and `time_ids` (batch, 6). By default it has one block fewer than
    the published one on either side; `blocks` may set others.
    """
    torch.manual_seed(seed)
    shape = {
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": (1, 2),
    }
    return UNet2DConditionModel(
        **(shape | dict(blocks)),
        sample_size=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 32,
        cross_attention_dim=cross_attention_dim,
        norm_num_groups=8,
    ).eval()


def tiny_clip_vision(*, seed: int = 0) -> CLIPVisionModelWithProjection:
    """Build a vision tower of 32 px pictures: 16 patches and the class token, hidden size 32, projected to 24."""
    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=CLIP_HIDDEN,
        intermediate_size=64,
        projection_dim=CLIP_PROJECTION,
        num_hidden_layers=3,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    tower = CLIPVisionModelWithProjection(config).eval()
    _amplify(tower)
    return tower


def tiny_image_processor() -> CLIPImageProcessor:
    """Build the image processor for `tiny_clip_vision`."""
    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def tiny_tokenizer() -> CLIPTokenizer:
    """Build a CLIP tokenizer that knows WORDS whole and spells everything else."""
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    merges: list[tuple[str, str]] = []
    for word in (word for group in WORDS.values() for word in group if len(word) > 1):
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            pair, merged = (parts[-2], parts[-1]), parts[-2] + parts[-1]
            parts[-2:] = [merged]
            if merged not in tokens:
                tokens.append(merged)
                merges.append(pair)
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=24)


def tiny_text_encoder(tokenizer: CLIPTokenizer, *, seed: int = 0) -> CLIPTextModel:
    """Build a text encoder of hidden size CROSS_ATTENTION_DIM over the given vocabulary."""
    torch.manual_seed(seed)
    tower = CLIPTextModel(_text_config(tokenizer)).eval()
    _amplify(tower)
    return tower


def tiny_second_text_encoder(
    tokenizer: CLIPTokenizer, *, seed: int = 0, shape: Mapping[str, int] = MappingProxyType({})
) -> CLIPTextModelWithProjection:
    """Build an SDXL's second text encoder, its pooled embedding 32 wide; by default as large as the first."""
    torch.manual_seed(seed + 100)
    tower = CLIPTextModelWithProjection(_text_config(tokenizer, projection_dim=32, **shape)).eval()
    _amplify(tower)
    return tower


def _text_config(
    tokenizer: CLIPTokenizer,
    *,
    projection_dim: int = CLIP_PROJECTION,
    hidden_size: int = CROSS_ATTENTION_DIM,
    num_hidden_layers: int = 2,
) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=64,
        projection_dim=projection_dim,
        num_hidden_layers=num_hidden_layers,
        num_attention_heads=4,
        max_position_embeddings=24,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def tiny_vae(*, seed: int = 0) -> AutoencoderKL:
    """Build an autoencoder that downsamples eight times to 4 latent channels."""
    torch.manual_seed(seed)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=PICTURE_SIZE,
    ).eval()


def tiny_controlnet(unet: UNet2DConditionModel, *, seed: int = 0) -> ControlNetModel:
    """Build a ControlNet over `unet`; its outputs, zero in a fresh one, get random weights so that it has an effect."""
    torch.manual_seed(seed)
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(8, 8, 16, 16)).eval()
    with torch.no_grad():
        for block in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
            block.weight.normal_(std=0.1)
        controlnet.controlnet_cond_embedding.conv_out.weight.normal_(std=0.2)
    return controlnet


def tiny_toy_reader(*, sees: bool) -> ToyReader:
    """Build a pose reader that finds some pose in every picture, or in none."""
    torch.manual_seed(0)
    reader: Any = ToyReader().eval()
    with torch.no_grad():
        reader.heat.weight.mul_(30)  # spreads the joints apart
        reader.presence[-1].bias.fill_(20 if sees else -20)
    return reader


def tiny_scheduler() -> DDIMScheduler:
    """Build the scheduler of the bundled model: v-prediction, zero terminal SNR, trailing timesteps."""
    return DDIMScheduler(
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def random_adapter_tensors(
    unet: UNet2DConditionModel, *, kind: str, seed: int = 0, num_tokens: int | None = None
) -> dict[str, torch.Tensor]:
    """Return random weights in the published flat layout, fitting `unet` and `tiny_clip_vision`.

    Args:
        unet: the base model the key/value pairs are shaped for.
        kind: "base" (from the pooled embedding), "plus" (from the patch tokens) or "full" (a token for each of them).
        seed: of the weights.
        num_tokens: tokens per picture; by default 4 for base and 16 for plus.
    """
    generator = torch.Generator().manual_seed(seed)
    cross_dim = unet.config.cross_attention_dim

    def weight(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * 1.5 / shape[-1] ** 0.5

    projection = {
        "base": lambda: _base_projection(cross_dim, weight, num_tokens or 4),
        "plus": lambda: _plus_projection(cross_dim, weight, num_tokens or 16),
        "full": lambda: _full_projection(cross_dim, weight),
    }
    tensors = projection[kind]()
    for index, name in enumerate(unet.attn_processors):
        if name.endswith("attn2.processor"):
            attention = unet.get_submodule(name.removesuffix(".processor"))
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{index}.{part}.weight"] = weight(attention.inner_dim, cross_dim)
    return tensors


def _base_projection(cross_dim: int, weight: Callable[..., torch.Tensor], num_tokens: int) -> dict[str, torch.Tensor]:
    return {
        "image_proj.proj.weight": weight(num_tokens * cross_dim, CLIP_PROJECTION),
        "image_proj.proj.bias": weight(num_tokens * cross_dim),
        "image_proj.norm.weight": torch.ones(cross_dim),
        "image_proj.norm.bias": torch.zeros(cross_dim),
    }


def _full_projection(cross_dim: int, weight: Callable[..., torch.Tensor]) -> dict[str, torch.Tensor]:
    return {
        "image_proj.proj.0.weight": weight(CLIP_HIDDEN, CLIP_HIDDEN),
        "image_proj.proj.0.bias": weight(CLIP_HIDDEN),
        "image_proj.proj.2.weight": weight(cross_dim, CLIP_HIDDEN),
        "image_proj.proj.2.bias": weight(cross_dim),
        "image_proj.proj.3.weight": torch.ones(cross_dim),
        "image_proj.proj.3.bias": torch.zeros(cross_dim),
    }


def _plus_projection(cross_dim: int, weight: Callable[..., torch.Tensor], num_tokens: int) -> dict[str, torch.Tensor]:
    dim, inner = cross_dim, 64
    tensors = {"latents": weight(1, num_tokens, dim)}
    tensors |= {"proj_in.weight": weight(dim, CLIP_HIDDEN), "proj_in.bias": torch.zeros(dim)}
    tensors |= {"proj_out.weight": weight(cross_dim, dim), "proj_out.bias": torch.zeros(cross_dim)}
    norms = ["norm_out"]
    for layer in (f"layers.{depth}" for depth in range(4)):
        norms += [f"{layer}.0.norm1", f"{layer}.0.norm2", f"{layer}.1.0"]
        tensors |= {
            f"{layer}.0.to_q.weight": weight(inner, dim),
            f"{layer}.0.to_kv.weight": weight(2 * inner, dim),
            f"{layer}.0.to_out.weight": weight(dim, inner),
            f"{layer}.1.1.weight": weight(4 * dim, dim),
            f"{layer}.1.3.weight": weight(dim, 4 * dim),
        }
    for norm in norms:
        tensors |= {f"{norm}.weight": torch.ones(dim), f"{norm}.bias": torch.zeros(dim)}
    return {f"image_proj.{key}": value for key, value in tensors.items()}


def random_lora_tensors(unet: UNet2DConditionModel, *, seed: int = 0, rank: int = 4) -> dict[str, torch.Tensor]:
    """Return random weights for the layers the published LCM-LoRAs change, in their layout, which is kohya's.

    Source: diffusers examples/consistency_distillation/train_lcm_distill_lora_sd_wds.py, `lora_target_modules` and
    `get_module_kohya_state_dict`.
    """
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, layer in unet.named_modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.Conv2d) and name.endswith(_LORA_LAYERS):
            shape, kernel = layer.weight.shape, layer.weight.shape[2:]
            inside = shape[1] * kernel.numel()
            down = torch.randn(rank, shape[1], *kernel, generator=generator) / inside**0.5
            up = torch.randn(shape[0], rank, *(1 for _ in kernel), generator=generator) * 0.3
            key = f"lora_unet_{name.replace('.', '_')}"
            tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
            tensors[f"{key}.alpha"] = torch.tensor(rank / 2)
    return tensors


_LORA_LAYERS = (
    *("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2"),
    *("conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"),
)


def tiny_fast_way(bundle: Path, **changes: Any) -> FastWay:
    """Return a fast way with the LoRA every tiny bundle has, with some fields changed."""
    way = FastWay(lora=bundle / TINY_LORA, steps=3, scheduler="LCMScheduler", licence="MIT")
    return replace(way, **changes)


def tiny_bundle(folder: Path | str, *, seed: int = 0) -> Path:
    """Write a complete random model in the layout of the bundled one and return its folder.

    Args:
        folder: where to write it; made when missing.
        seed: of all weights; two seeds give two models of the same shape.
    """
    folder = Path(folder)
    unet, tokenizer = tiny_unet(seed=seed), tiny_tokenizer()
    pipeline = StableDiffusionPipeline(
        unet=unet,
        vae=tiny_vae(seed=seed),
        text_encoder=tiny_text_encoder(tokenizer, seed=seed),
        tokenizer=tokenizer,
        scheduler=tiny_scheduler(),
        safety_checker=None,
        feature_extractor=tiny_image_processor(),
        image_encoder=tiny_clip_vision(seed=seed),
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder)
    save_extras(folder, unet, seed=seed)
    return folder


def save_extras(folder: Path, unet: UNet2DConditionModel, *, seed: int, title: str = "Tiny") -> None:
    """Add to a saved pipeline's folder what the app looks for: ControlNet, both adapters, a LoRA, settings, words."""
    (folder / TINY_LORA).parent.mkdir(exist_ok=True)
    save_file(random_lora_tensors(unet, seed=seed), folder / TINY_LORA)
    tiny_controlnet(unet.float(), seed=seed).half().save_pretrained(folder / "controlnet")
    (folder / "adapters").mkdir(exist_ok=True)
    for number, (kind, name) in enumerate([("base", "ip-adapter_toybox"), ("plus", "ip-adapter-plus_toybox")]):
        tensors = random_adapter_tensors(unet, kind=kind, seed=seed + number + 1)
        save_file({key: value.half() for key, value in tensors.items()}, folder / "adapters" / f"{name}.safetensors")
    settings = {
        "title": title,
        "about": "A random model that draws noise.",
        "width": PICTURE_SIZE,
        "height": PICTURE_SIZE,
        "steps": 2,
        "guidance_scale": 3.0,
        "licence": "apache-2.0",
    }
    (folder / "ipa_studio.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    (folder / "words.json").write_text(json.dumps(WORDS, indent=2), encoding="utf-8")
    (folder / "words.zh.json").write_text(json.dumps(CHINESE, indent=2), encoding="utf-8")
    (folder / "README.md").write_text("# Tiny\n\nA random model for tests.\n", encoding="utf-8")


def _amplify(module: torch.nn.Module, factor: float = 8.0) -> None:
    """Scale up a fresh transformer's weights: at their initial std of 0.02 its outputs hardly depend on its inputs."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.ndim > 1:
                parameter.mul_(factor)
