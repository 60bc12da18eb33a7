"""The families of base models: how they are recognised, what parts they have, and how they take prompts.

All that sets a family apart is in this module, so that a new one is added here and nowhere else. PyTorch is not
imported at the top: the catalogue recognises families before the page is up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from ipa_app.errors import UserError
from ipa_app.messages import Message

if TYPE_CHECKING:
    import numpy as np
    from diffusers import AutoencoderKL, AutoencoderTiny
    from torch import Tensor

    from ipa_app.models.weights import Header

Colours = tuple[tuple[float, float, float], ...]
"""Red, green and blue for each latent channel."""

PipelineTask = Literal["text_to_image", "image_to_image", "inpaint", "controlnet", "controlnet_inpaint"]
Presets = Mapping[str, Mapping[str, float]]
"""Which part of a picture counts, by its name in requests ("style" or "layout"): layers or blocks by name, with their
share of the scale. Layers that are not named take nothing."""

# The ending of diffusers' name for a task's pipeline, after the name of the family.
_PIPELINES: Mapping[PipelineTask, str] = MappingProxyType(
    {
        "text_to_image": "Pipeline",
        "image_to_image": "Img2ImgPipeline",
        "inpaint": "InpaintPipeline",
        "controlnet": "ControlNetPipeline",
        "controlnet_inpaint": "ControlNetInpaintPipeline",
    }
)
CONTROLNET_TASKS = tuple(task for task, ending in _PIPELINES.items() if ending.startswith("ControlNet"))
"""The tasks whose pipeline needs a ControlNet."""

_SD2_DEVIATION = 0.09


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Base models that are built alike.

    Attributes:
        title: its name for users.
        pipeline: what the names of its pipelines in diffusers begin with.
        other_pipelines: names of other pipelines with the same parts, which may have saved a folder, too.
        modules: library and class of each part that has weights, by the name of its folder.
        tokenizers: names of the tokenizers' folders.
        options: arguments of every pipeline beside the parts.
        scheduler_corrections: settings that override the configuration of a scheduler that has them.
        noted: options that a model records in its model_index.json.
        added: kind of the UNet's added conditions, as its config.json names it.
        side: in pixels, of the pictures that its usual models were trained on.
        epsilon_side: the same for models that predict noise, if the usual ones predict v.
        checkpoint_encoders: what the names of each text encoder's tensors begin with in a checkpoint file. The last one
            identifies the family.
        prediction_layer: the layer whose weights show what a model predicts, if nothing else in a checkpoint does.
        references: repositories of the Hub whose configuration files fit its usual checkpoints.
        presets: the layers that take one aspect of a picture and leave the rest. Only what is published and undisputed
            is listed. For Stable Diffusion 1.5 the block maps of different programs contradict each other, so it has
            none.
        preset_blocks: entries of the UNet's config.json if it has those layers; smaller UNets cut from it may not.
        latent_colours: what each latent channel of its usual VAE adds to red, green and blue (-1 to 1), for previews;
            empty if only the VAE itself can show them.
        scaling_factor: of that VAE.
    """

    title: str
    pipeline: str
    other_pipelines: tuple[str, ...] = ()
    modules: Mapping[str, tuple[str, str]]
    tokenizers: tuple[str, ...]
    options: Mapping[str, Any]
    scheduler_corrections: Mapping[str, Any] = field(default_factory=dict)
    noted: tuple[str, ...] = ()
    added: str | None = None
    side: int
    epsilon_side: int | None = None
    checkpoint_encoders: tuple[str, ...]
    prediction_layer: str | None = None
    references: tuple[str, ...]
    presets: Presets = field(default_factory=dict)
    preset_blocks: Mapping[str, Any] = field(default_factory=dict)
    latent_colours: Colours = ()
    scaling_factor: float | None = None

    @property
    def text_encoders(self) -> tuple[str, ...]:
        """Names of the text encoders' folders, in their order."""
        return tuple(name for name in self.modules if name.startswith("text_encoder"))

    @property
    def pipelines(self) -> Mapping[PipelineTask, str]:
        """Diffusers' name for each task's pipeline."""
        return {task: f"{self.pipeline}{ending}" for task, ending in _PIPELINES.items()}

    def classes(self) -> dict[str, Any]:
        """Return the class of each part that has weights, by the name of its folder."""
        return {part: getattr(import_module(library), name) for part, (library, name) in self.modules.items()}

    def has_saved(self, index: Mapping[str, Any]) -> bool:
        """Whether a model_index.json belongs to a model of this family, or of one that is built alike.

        All of these pipelines have the same parts, whichever of them saved a folder. The config.json of a UNet shows
        whether it has another number of input channels.
        """
        return index.get("_class_name") in (*self.pipelines.values(), *self.other_pipelines)

    def check_parts(self, index: Mapping[str, Any], *, title: str) -> None:
        """Check that a model has the parts of the family.

        Args:
            index: the content of its model_index.json.
            title: of the model, for the message.

        Raises:
            UserError: it does not.
        """
        for part, (_, wanted) in self.modules.items():
            given = class_name(index, part)
            if given != wanted:
                raise UserError(
                    "model.wrong_part",
                    title=title,
                    given=given or Message("model.nothing"),
                    part=part,
                    family=self.title,
                    wanted=wanted,
                )

    def needs_upcast(self, vae: AutoencoderKL | AutoencoderTiny) -> bool:
        """Whether a model's VAE exceeds the range of half precision and must run in single precision.

        Never for these families: the value in their configurations is only a default of diffusers.
        """
        del vae
        return False

    def zeros_for_empty(self, pipeline: Any) -> bool:
        """Whether "no negative prompt" means zeros for a model, and not the embeddings of an empty text."""
        del pipeline
        return False

    def encode_text(
        self, encoders: Sequence[Any], input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Encode token ids (B, E, L) as the pipelines do for the UNet.

        Args:
            encoders: the E text encoders.
            input_ids: from each encoder's tokenizer, on its device.
            attention_mask: of the same shape; 0 for the padding after the end token, else 1. It counts for an encoder
                whose config.json has `use_attention_mask`.

        Returns:
            Hidden states (B, L, D) for every token, and the pooled embeddings (B, P), if the UNet takes them.
        """
        (encoder,) = encoders
        mask = attention_mask[:, 0] if getattr(encoder.config, "use_attention_mask", False) else None
        return encoder(input_ids[:, 0], attention_mask=mask)[0], None

    def time_ids(self, height: int, width: int) -> tuple[int, ...]:
        """Return the UNet's size conditions for a target that is a whole picture, in pixels; none here."""
        del height, width
        return ()

    def added_conditions(self, pooled_text: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
        """Return the UNet's added conditions by its own names; None if it takes none.

        Args:
            pooled_text: (B, P) pooled text embeddings; see `encode_text`.
            time_ids: (B, 6) size conditions of the targets; see `time_ids`.
        """
        del pooled_text, time_ids
        return None

    def rough_colours(self, vae: Mapping[str, Any]) -> Colours:
        """Return the colours that a model's latents stand for; empty if they are not known.

        Args:
            vae: its VAE's config.json. A VAE that scales its latents differently has other colours.
        """
        has_statistics = vae.get("latents_mean") or vae.get("latents_std") or vae.get("shift_factor")
        is_usual = vae.get("scaling_factor") == self.scaling_factor and not has_statistics
        return self.latent_colours if is_usual else ()

    def predicts_v(self, weights: np.ndarray) -> bool:
        """Whether a model predicts v, judging by the weights of its `prediction_layer`.

        Source: ComfyUI; Stable Diffusion 2 models that predict v have a larger deviation in that layer than the others.
        """
        return bool(weights.astype("float32").std() > _SD2_DEVIATION)

    def presets_of(self, unet: Mapping[str, Any]) -> Presets:
        """Return the presets of a model from its UNet's config.json; none if its blocks differ."""
        return self.presets if all(unet.get(name) == value for name, value in self.preset_blocks.items()) else {}


class _StableDiffusionXL(Family):
    """Two text encoders, of which the second also returns pooled embeddings; a UNet with size conditions.

    Source: Podell et al. 2023 (SDXL), section 2.1; diffusers StableDiffusionXLPipeline `encode_prompt`.
    """

    def needs_upcast(self, vae: AutoencoderKL | AutoencoderTiny) -> bool:
        return vae.config["force_upcast"]

    def zeros_for_empty(self, pipeline: Any) -> bool:
        return pipeline.config.force_zeros_for_empty_prompt

    def time_ids(self, height: int, width: int) -> tuple[int, ...]:
        """Return the original height and width, the top and left of the crop, and the target height and width."""
        return height, width, 0, 0, height, width

    def added_conditions(self, pooled_text: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
        if pooled_text is None or time_ids is None:
            return None
        return {"text_embeds": pooled_text, "time_ids": time_ids}

    def encode_text(
        self, encoders: Sequence[Any], input_ids: Tensor, attention_mask: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        import torch

        del attention_mask  # diffusers' pipelines for SDXL have none
        ids = input_ids.unbind(1)
        outputs = [encoder(part, output_hidden_states=True) for encoder, part in zip(encoders, ids, strict=True)]
        return torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds


SD1 = Family(
    title="Stable Diffusion",
    pipeline="StableDiffusion",
    other_pipelines=(
        "StableDiffusionInstructPix2PixPipeline",
        "StableDiffusionDepth2ImgPipeline",
        "LatentConsistencyModelPipeline",
    ),
    modules=MappingProxyType(
        {
            "text_encoder": ("transformers", "CLIPTextModel"),
            "unet": ("diffusers", "UNet2DConditionModel"),
            "vae": ("diffusers", "AutoencoderKL"),
        }
    ),
    tokenizers=("tokenizer",),
    # Decoding and the safety checker are outside the pipelines.
    options=MappingProxyType({"safety_checker": None, "requires_safety_checker": False}),
    # Diffusers' pipelines make them when they are built: text-to-image and image-to-image the first two, inpainting the
    # last two, those with a ControlNet none. Here every task draws on the same schedule.
    scheduler_corrections=MappingProxyType({"clip_sample": False, "steps_offset": 1, "skip_prk_steps": True}),
    side=512,
    checkpoint_encoders=("cond_stage_model.transformer.",),
    # By least squares. Source: discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
    latent_colours=((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
    scaling_factor=0.18215,
    references=("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
)
"""Stable Diffusion 1.x, and folders of 2.x as well, which are built alike and differ only in their sizes."""

SD2 = replace(
    SD1,
    side=768,
    epsilon_side=512,
    # OpenCLIP's names, as for SDXL's second encoder.
    checkpoint_encoders=("cond_stage_model.model.",),
    prediction_layer="model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias",
    references=("stabilityai/stable-diffusion-2-1",),
)
"""Stable Diffusion 2.x, for its checkpoint files."""

SDXL = _StableDiffusionXL(
    title="SDXL",
    pipeline="StableDiffusionXL",
    other_pipelines=("StableDiffusionXLInstructPix2PixPipeline",),
    modules=MappingProxyType({**SD1.modules, "text_encoder_2": ("transformers", "CLIPTextModelWithProjection")}),
    tokenizers=("tokenizer", "tokenizer_2"),
    options=MappingProxyType({"add_watermarker": False}),
    scheduler_corrections=MappingProxyType({"skip_prk_steps": True}),  # otherwise PNDM needs four steps or more
    noted=("force_zeros_for_empty_prompt",),
    added="text_time",
    side=1024,
    checkpoint_encoders=("conditioner.embedders.0.transformer.", "conditioner.embedders.1."),
    references=("stabilityai/stable-diffusion-xl-base-1.0",),
    # Source: InstantStyle (Wang et al. 2024, arXiv 2404.02733), section 3.2 and its code for both kinds of adapters; in
    # diffusers `set_ip_adapter_scale({"up": {"block_0": [0, 1, 0]}})` and `({"down": {"block_2": [0, 1]}})`.
    presets=MappingProxyType(
        {
            "style": MappingProxyType({"up_blocks.0.attentions.1": 1.0}),
            "layout": MappingProxyType({"down_blocks.2.attentions.1": 1.0}),
        }
    ),
    preset_blocks=MappingProxyType(
        {
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "layers_per_block": 2,
        }
    ),
)

_FAMILIES = (SD1, SD2, SDXL)


def family_in(header: Header) -> Family | None:
    """Return the family of a checkpoint file by the names of its tensors; None if no text encoder is recognised."""
    return next((family for family in reversed(_FAMILIES) if header.has(family.checkpoint_encoders[-1])), None)


def family_of(index: Mapping[str, Any]) -> Family | None:
    """Return the family of a folder by its model_index.json; None if it is not a known one."""
    return next((family for family in _FAMILIES if family.has_saved(index)), None)


def known_family(index: Mapping[str, Any], *, title: str) -> Family:
    """Return the family of a folder by its model_index.json.

    Args:
        index: the content of the file.
        title: of the model, for the message.

    Raises:
        UserError: the family is not known.
    """
    family = family_of(index)
    if family is None:
        raise UserError("model.wrong_pipeline", title=title, name=str(index.get("_class_name"))[:60])
    return family


def class_name(index: Mapping[str, Any], part: str) -> str | None:
    """Return the class that a model_index.json names for a part; None if it names none."""
    match index.get(part):
        case [str(), str(name)]:
            return name
    return None
