"""The frozen base model that an adapter is trained on."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, DiffusionPipeline, UNet2DConditionModel
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import (
    CLIPImageProcessor,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    PretrainedConfig,
)

from ipa_app.adapter.ip_adapter import PROJECTIONS
from ipa_app.adapter.kinds import KINDS
from ipa_app.adapter.layers import attention_layers
from ipa_app.errors import UserError
from ipa_app.models.adapters import with_own_adapters
from ipa_app.models.caches import Posteriors
from ipa_app.models.entry import ModelEntry
from ipa_app.models.families import Family
from ipa_app.models.image_encoder import ImageEncoder
from ipa_app.models.pipelines import build_pipelines
from ipa_app.models.schedule import noise_schedule
from ipa_app.models.source import open_source

ELEMENTS_OF_A_TENSOR = 1024
PROCESSOR_SETTINGS = frozenset(
    {"do_convert_rgb", "do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"}
    | {"do_normalize", "image_mean", "image_std"}
)
"""Settings that decide what a CLIP image processor returns."""
_NOTES = frozenset({"_name_or_path", "architectures", "dtype", "model_type", "torch_dtype", "transformers_version"})
_EXAMPLES = ("", "A Café, 3 cats: the quick brown fox jumps over the lazy dog. " * 8)
"""A text that is padded and one that is truncated, by any tokenizer."""


@dataclass(frozen=True, kw_only=True)
class Components:
    """The parts of a Stable Diffusion or SDXL model, and the image encoder that its adapters use.

    Attributes:
        family: the model's family, which knows its architecture.
        scheduler: the model's own, used for samples; training noise follows the same betas.
        text_encoder_2: SDXL's second text encoder, which has a tokenizer of its own; None for other models.
        index: the model's model_index.json, for the options recorded there.
        fine_adapter: the fine-grained adapter that comes with the model, if any.
    """

    family: Family
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    scheduler: SchedulerMixin
    image_encoder: CLIPVisionModelWithProjection
    image_processor: CLIPImageProcessor
    text_encoder_2: CLIPTextModelWithProjection | None = None
    tokenizer_2: CLIPTokenizer | None = None
    index: Mapping[str, Any] = field(default_factory=dict)
    fine_adapter: Path | None = None

    @property
    def modules(self) -> Mapping[str, torch.nn.Module]:
        """The parts with weights, by name; all are frozen."""
        parts = {name: getattr(self, name) for name in self.family.modules}
        return parts | {"image_encoder": self.image_encoder}

    @property
    def text_encoders(self) -> list[CLIPTextModel | CLIPTextModelWithProjection]:
        """The text encoders, in order."""
        return [getattr(self, name) for name in self.family.text_encoders]

    @property
    def tokenizers(self) -> list[CLIPTokenizer]:
        """The tokenizers, one per text encoder."""
        return [getattr(self, name) for name in self.family.tokenizers]

    def freeze(self, device: torch.device, dtype: torch.dtype) -> None:
        """Move every part to `device` and `dtype`, in eval mode, without gradients for its weights.

        A VAE whose activations overflow float16 works in float32 instead.
        """
        for name, module in self.modules.items():
            upcast = name == "vae" and dtype == torch.float16 and self.family.needs_upcast(self.vae)
            wanted = torch.float32 if upcast else dtype
            module.requires_grad_(False).eval().to(device)
            if module.dtype != wanted:
                module.to(wanted)

    def noise_schedule(self) -> DDPMScheduler:
        """Return the noise schedule the base model was trained with.

        Raises:
            UserError: its scheduler has no betas, or the model predicts something the loss has no target for.
        """
        return noise_schedule(self.scheduler)

    def pipeline(self) -> DiffusionPipeline:
        """Build the text-to-image pipeline over these parts; nothing is copied."""
        names = {*self.family.modules, *self.family.tokenizers, "scheduler"}
        parts = {name: getattr(self, name) for name in names} | {"image_encoder": None, "feature_extractor": None}
        pipelines = build_pipelines(self.family, parts, index=self.index, posteriors=Posteriors())
        return pipelines["text_to_image"]

    def clip_dim(self, kind: str) -> int:
        """Return the width of the features that an adapter of this kind reads from the image encoder."""
        return KINDS[kind].features.width(self.image_encoder.config)

    def fingerprint(self) -> str:
        """Return an identifier that is unique to the model and its precision.

        Only the first numbers of each tensor count: they differ between any two trainings, and reading all is slow.
        """
        schedule = self.noise_schedule()
        parts = {name: module.state_dict() for name, module in self.modules.items()}
        parts["schedule"] = {"alphas_cumprod": schedule.alphas_cumprod}
        digest = hashlib.sha256(f"{schedule.config['prediction_type']} {self.image_processor.image_mean}".encode())
        for part, tensors in parts.items():
            for name, tensor in tensors.items():
                values = tensor.flatten()[:ELEMENTS_OF_A_TENSOR].contiguous().cpu()
                digest.update(f"{part}.{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
                digest.update(values.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def preparation(self) -> str:
        """Return an identifier of the settings by which pictures and texts are prepared for the adapter.

        They do not show in any weight. Only relevant settings count, as newer libraries save further ones.
        """
        encoders = [*self.text_encoders, self.image_encoder]
        settings = [
            {name: value for name, value in self.image_processor.to_dict().items() if name in PROCESSOR_SETTINGS},
            self.vae.config["scaling_factor"],
            [encoder.config.hidden_act for encoder in encoders],
            [sorted(tokenizer.get_vocab().items()) for tokenizer in self.tokenizers],
        ]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]

    def configuration(self) -> str:
        """Return an identifier of all settings of the parts with weights, and of what the tokenizers make of texts.

        Most do not show in any weight: numbers of heads, epsilons, the VAE's statistics, special tokens. Runs of before
        know only `preparation`. Token ids are compared, and no states: those differ between machines in the last bits.
        """
        settings = {name: _settings(module) for name, module in self.modules.items()}
        told = json.dumps([settings, self.input_ids(_EXAMPLES).tolist()], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def input_ids(self, texts: Sequence[str]) -> Tensor:
        """Return token ids (B, E, L) for each of E text encoders, truncated and padded to the tokenizer's length."""
        ids = [
            tokenizer(
                list(texts),
                padding="max_length",
                max_length=tokenizer.model_max_length,
                truncation=True,
                return_tensors="pt",
            ).input_ids
            for tokenizer in self.tokenizers
        ]
        return torch.stack(ids, dim=1)

    @property
    def cross_attention_dim(self) -> int:
        """Width of the text embeddings that the UNet reads."""
        return attention_layers(self.unet)[0].cross_attention_dim

    @property
    def latent_factor(self) -> int:
        """Pixels per latent along each side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def size(self) -> int:
        """Side in pixels of the pictures that the base model makes by default, the shorter one if they differ."""
        return self.unet.config["sample_size"] * self.latent_factor


def load_components(base: Path, *, image_encoder: Path | None = None, dtype: torch.dtype = torch.float32) -> Components:
    """Load a base model from disk, as the app does, without network access.

    Args:
        base: Stable Diffusion 1.x, 2.x or SDXL: a folder in diffusers layout, or one checkpoint file.
        image_encoder: folder of a CLIP image encoder with projection; by default `image_encoder` in the folder, or
            in the folder beside the file that has the file's name.
        dtype: of the weights in memory, whatever it is on disk.

    Raises:
        UserError: there is no such model, a part is missing, or it cannot be trained on.
    """
    _check_there(base)
    vision = image_encoder or (base.with_suffix("") if base.is_file() else base) / "image_encoder"
    entry = ModelEntry(name=base.stem, title=base.name, location=base, image_encoder=vision)
    source = open_source(entry)
    _check_unet(source.unet_layout(), base)
    if not (vision / "config.json").is_file():
        raise UserError.plain(f"There is no CLIP vision tower in {vision}; name one with --image-encoder.")
    encoder = ImageEncoder(vision, entry.title)
    adapters = with_own_adapters(entry, unet=source.unet_header).adapters
    fine = (each.file for each in adapters.values() if "heads" in PROJECTIONS[each.kind].free_sizes)
    try:
        return Components(
            family=source.family,
            **dict(source.load(dtype=dtype)),
            image_encoder=encoder.load_tower(dtype=dtype),
            image_processor=encoder.processor([source.folder / "feature_extractor"]),
            index=source.index,
            fine_adapter=next(fine, None),
        )
    except OSError as error:
        raise UserError.plain(f"The base model in {base} cannot be read: {error}") from error


def _settings(module: Any) -> dict[str, Any]:
    """Return the settings of a network, of diffusers or transformers, that are not its class's defaults.

    Newer libraries have further settings, and add their defaults to a model that says nothing of them.
    """
    config = module.config
    if isinstance(config, PretrainedConfig):
        given, usual = config.to_dict(), type(config)().to_dict()
    else:
        taken = inspect.signature(type(module).__init__).parameters
        given, usual = config, {name: each.default for name, each in taken.items()}
    known = given.keys() & usual.keys() - _NOTES
    return {name: given[name] for name in known if json.dumps(given[name]) != json.dumps(usual[name], default=str)}


def _check_there(base: Path) -> None:
    if not base.exists():
        raise UserError.plain(
            f"There is no base model {base}: it must be a folder in diffusers layout or one .safetensors file on this "
            "computer; a model on the Hub has to be downloaded first."
        )


def _check_unet(unet: UNet2DConditionModel, base: Path) -> None:
    """Reject a UNet that expects a guidance embedding; inpainting-only UNets are rejected earlier."""
    if unet.config.time_cond_proj_dim is not None:
        raise UserError.plain(
            f"The base model in {base} is distilled to follow a guidance it is told, as LCM is: an adapter for it is "
            "to be trained on the model that it was distilled from."
        )
