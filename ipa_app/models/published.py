"""The well-known models available from the Hugging Face Hub. Data only: nothing is downloaded here.

Every revision is the commit that a number of public projects pin for the same files. Half-precision files are used
where they are published, and safetensors always. In the model's folder their names have no variant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ipa_app.messages import Message
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.controlnets import usual_controlnet
from ipa_app.models.entry import TINY_VAE_FOLDER, FastWay, HubPart, ModelEntry
from ipa_app.models.families import SD1, SDXL
from ipa_app.models.hub import model_folder

_IP_ADAPTER = ("h94/IP-Adapter", "018e402774aeeddd60609b4ecdb7e298259dc729")
# OpenCLIP ViT-H/14. The adapters named "vit-h" were trained with it, including those for SDXL, whose own folder on the
# Hub holds another image encoder.
_VIT_H = {f"models/image_encoder/{name}": f"image_encoder/{name}" for name in ("config.json", "model.safetensors")}

_LORA = "loras/lcm-lora.safetensors"
_TINY_VAE = {name: f"{TINY_VAE_FOLDER}/{name}" for name in ("config.json", "diffusion_pytorch_model.safetensors")}

_SD15_PARTS = (
    HubPart(
        repo=SD1.references[0],
        revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
        files={
            "model_index.json": "model_index.json",
            "feature_extractor/preprocessor_config.json": "feature_extractor/preprocessor_config.json",
            "scheduler/scheduler_config.json": "scheduler/scheduler_config.json",
            "tokenizer/merges.txt": "tokenizer/merges.txt",
            "tokenizer/special_tokens_map.json": "tokenizer/special_tokens_map.json",
            "tokenizer/tokenizer_config.json": "tokenizer/tokenizer_config.json",
            "tokenizer/vocab.json": "tokenizer/vocab.json",
            "safety_checker/config.json": "safety_checker/config.json",
            "safety_checker/model.fp16.safetensors": "safety_checker/model.safetensors",
            "text_encoder/config.json": "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors": "text_encoder/model.safetensors",
            "unet/config.json": "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors": "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json": "vae/config.json",
            "vae/diffusion_pytorch_model.fp16.safetensors": "vae/diffusion_pytorch_model.safetensors",
        },
    ),
    HubPart(
        repo="lllyasviel/control_v11p_sd15_openpose",
        revision="9ae9f970358db89e211b87c915f9535c6686d5ba",
        files={
            "config.json": "controlnet/config.json",
            "diffusion_pytorch_model.fp16.safetensors": "controlnet/diffusion_pytorch_model.safetensors",
        },
    ),
    HubPart(
        repo=_IP_ADAPTER[0],
        revision=_IP_ADAPTER[1],
        files={
            "models/ip-adapter_sd15.safetensors": "adapters/ip-adapter_sd15.safetensors",
            "models/ip-adapter-plus_sd15.safetensors": "adapters/ip-adapter-plus_sd15.safetensors",
            **_VIT_H,
        },
    ),
    HubPart(
        repo="latent-consistency/lcm-lora-sdv1-5",
        revision="cf2fced511dbe7e26c8d1d397e728fbab875db4b",
        files={"pytorch_lora_weights.safetensors": _LORA},
    ),
    HubPart(repo="madebyollin/taesd", revision="614f76814bbe30edbe2e627ace1c2234c81a2c0e", files=_TINY_VAE),
)

_SDXL_PARTS = (
    HubPart(
        repo=SDXL.references[0],
        revision="462165984030d82259a11f4367a4eed129e94a7b",
        files={
            "model_index.json": "model_index.json",
            "scheduler/scheduler_config.json": "scheduler/scheduler_config.json",
            "tokenizer/merges.txt": "tokenizer/merges.txt",
            "tokenizer/special_tokens_map.json": "tokenizer/special_tokens_map.json",
            "tokenizer/tokenizer_config.json": "tokenizer/tokenizer_config.json",
            "tokenizer/vocab.json": "tokenizer/vocab.json",
            "tokenizer_2/merges.txt": "tokenizer_2/merges.txt",
            "tokenizer_2/special_tokens_map.json": "tokenizer_2/special_tokens_map.json",
            "tokenizer_2/tokenizer_config.json": "tokenizer_2/tokenizer_config.json",
            "tokenizer_2/vocab.json": "tokenizer_2/vocab.json",
            "text_encoder/config.json": "text_encoder/config.json",
            "text_encoder/model.fp16.safetensors": "text_encoder/model.safetensors",
            "text_encoder_2/config.json": "text_encoder_2/config.json",
            "text_encoder_2/model.fp16.safetensors": "text_encoder_2/model.safetensors",
            "unet/config.json": "unet/config.json",
            "unet/diffusion_pytorch_model.fp16.safetensors": "unet/diffusion_pytorch_model.safetensors",
        },
    ),
    # SDXL's own VAE gives black pictures in half precision; this one does not.
    HubPart(
        repo="madebyollin/sdxl-vae-fp16-fix",
        revision="207b116dae70ace3637169f1ddd2434b91b3a8cd",
        files={
            "config.json": "vae/config.json",
            "diffusion_pytorch_model.safetensors": "vae/diffusion_pytorch_model.safetensors",
        },
    ),
    HubPart(
        repo="xinsir/controlnet-openpose-sdxl-1.0",
        revision="23f966cd5cfdd3f7729c903e243d87152162d2b7",
        files={
            "config.json": "controlnet/config.json",
            "diffusion_pytorch_model.safetensors": "controlnet/diffusion_pytorch_model.safetensors",
        },
    ),
    HubPart(
        repo=_IP_ADAPTER[0],
        revision=_IP_ADAPTER[1],
        files={
            "sdxl_models/ip-adapter_sdxl_vit-h.safetensors": "adapters/ip-adapter_sdxl_vit-h.safetensors",
            "sdxl_models/ip-adapter-plus_sdxl_vit-h.safetensors": "adapters/ip-adapter-plus_sdxl_vit-h.safetensors",
            **_VIT_H,
        },
    ),
    HubPart(
        repo="latent-consistency/lcm-lora-sdxl",
        revision="a18548dd4956b174ec5b0d78d340c8dae0a129cd",
        files={"pytorch_lora_weights.safetensors": _LORA},
    ),
    HubPart(repo="madebyollin/taesdxl", revision="b20258aaef75ef61e659c1e0f14f251cf0ad153e", files=_TINY_VAE),
)


def published_models() -> Iterator[ModelEntry]:
    """Yield the entries, each with the paths that its parts will have once they are downloaded and assembled."""
    yield _entry(
        name="sd15",
        title="Stable Diffusion 1.5",
        about=Message("published.sd15.about"),
        adapters={"base": "ip-adapter_sd15", "plus": "ip-adapter-plus_sd15"},
        parts=_SD15_PARTS,
        download_bytes=6_280_000_000,
        side=SD1.side,
        steps=30,
        guidance_scale=7.5,
        licence=Message("published.sd15.licence"),
        gpu_memory_gb=6,
        memory_gb=14,
    )
    yield _entry(
        name="sdxl",
        title="Stable Diffusion XL",
        about=Message("published.sdxl.about"),
        adapters={"base": "ip-adapter_sdxl_vit-h", "plus": "ip-adapter-plus_sdxl_vit-h"},
        parts=_SDXL_PARTS,
        presets=SDXL.presets,
        download_bytes=14_090_000_000,
        side=SDXL.side,
        steps=30,
        guidance_scale=6.0,
        licence=Message("published.sdxl.licence"),
        gpu_memory_gb=16,
        memory_gb=32,
    )


def _entry(*, name: str, adapters: Mapping[str, str], side: int, **fields: object) -> ModelEntry:
    folder = model_folder(name)
    usual = [usual_adapter(kind, folder / "adapters" / f"{file}.safetensors") for kind, file in adapters.items()]
    return ModelEntry(
        name=name,
        location=folder,
        adapters=MappingProxyType({adapter.name: adapter for adapter in usual}),
        image_encoder=folder / "image_encoder",
        controlnets=MappingProxyType({"pose": usual_controlnet("pose", folder / "controlnet")}),
        width=side,
        height=side,
        # Source: Luo et al. 2023 (LCM-LoRA, arXiv 2311.05556), whose model cards ask for 2 to 8 steps and no guidance.
        fast=FastWay(lora=folder / _LORA, steps=4, scheduler="LCMScheduler", licence="OpenRAIL++"),
        **fields,
    )
