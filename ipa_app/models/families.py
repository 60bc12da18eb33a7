"""The families of base models: what tells them, what they are made of, and how they take prompts.

All that sets a family apart stands here, so that a new one is written here and nowhere else. No torch at the top: the
catalogue tells families before the page is up.
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
"""What of a picture counts, by what requests call it, "style" and "layout": layers or blocks by name, to their share of
the scale. Layers that are not named take nothing."""

# What diffusers calls a task's pipeline, behind the name of the family.
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
"""Those whose pipeline needs a ControlNet."""

_SD2_DEVIATION = 0.09


@dataclass(frozen=True, kw_only=True, eq=False)
class Family:
    """Base models that are built alike.

    Attributes:
        title: what people call it.
        pipeline: what the names of its pipelines in diffusers begin with.
        other_pipelines: names of others over the same parts, which may have saved a folder, too.
        modules: library and class of each part that has weights, by the name of its folder.
        tokenizers: names of the tokenizers' folders.
        options: what every pipeline is given beside the parts.
        noted: options that a model notes in its model_index.json.
        added: what the UNet is told beside the prompt, as its config.json names it.
        side: in pixels, of the pictures that its usual models were trained on.
        epsilon_side: the same of those that predict noise, where the usual ones predict v.
        checkpoint_encoders: what the names of each text encoder's tensors begin with in a checkpoint file. The last one
            tells the family.
        prediction_layer: the layer whose weights tell what a model predicts, in a checkpoint where nothing says it.
        references: repositories of the Hub whose configuration files fit its usual checkpoints.
        presets: the layers that take one side of a picture and leave the rest. Only what is published and undisputed is
            listed. For Stable Diffusion 1.5 the block maps of different programs contradict each other, so that it has
            none.
        preset_blocks: what the UNet's config.json says where it has those layers, as smaller ones cut from it may not.
        latent_colours: what each latent channel of its usual VAE adds to red, green and blue (-1 to 1), to show
            pictures while they are drawn; empty where only the VAE itself can tell.
        scaling_factor: of that VAE.
    """

    title: str
    pipeline: str
    other_pipelines: tuple[str, ...] = ()
    modules: Mapping[str, tuple[str, str]]
    tokenizers: tuple[str, ...]
    options: Mapping[str, Any]
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
        """What diffusers calls each task's pipeline."""
        return {task: f"{self.pipeline}{ending}" for task, ending in _PIPELINES.items()}

    def classes(self) -> dict[str, Any]:
        """Find the class of each part that has weights, by the name of its folder."""
        return {part: getattr(import_module(library), name) for part, (library, name) in self.modules.items()}

    def has_saved(self, index: Mapping[str, Any]) -> bool:
        """Return whether a model_index.json is that of a model of this family, or of one that is built alike.

        The pipelines are built over the same parts, whichever of them saved a folder; a UNet of another number of input
        channels is told by its config.json.
        """
        return index.get("_class_name") in (*self.pipelines.values(), *self.other_pipelines)

    def check_parts(self, index: Mapping[str, Any], *, title: str) -> None:
        """Make sure that a model has the parts of the family.

        Args:
            index: the content of its model_index.json.
            title: of the model, for the message.

        Raises:
            UserError: it has not.
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
        """Return whether a model's VAE runs out of half precision's range, and works in single precision instead.

        Never here: what these families' configurations say of it is a default of diffusers.
        """
        del vae
        return False

    def zeros_for_empty(self, pipeline: Any) -> bool:
        """Return whether "no negative prompt" is zeros to a model, and not what is said of an empty text."""
        del pipeline
        return False

    def encode_text(self, encoders: Sequence[Any], input_ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return what the text encoders say of token ids (B, E, L), as the pipelines tell it to the UNet.

        Args:
            encoders: E of them.
            input_ids: by each encoder's tokenizer, on its device.

        Returns:
            Hidden states (B, L, D) for every token, and what is said of the whole text (B, P) where the UNet is told.
        """
        return encoders[0](input_ids[:, 0])[0], None

    def time_ids(self, height: int, width: int) -> tuple[int, ...]:
        """Return what the UNet is told of a target that is a whole picture, in pixels; nothing here."""
        del height, width
        return ()

    def added_conditions(self, pooled_text: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
        """Return what the UNet is told beside the text, by its own names; None where it is told nothing.

        Args:
            pooled_text: (B, P) what is said of the whole text; see `encode_text`.
            time_ids: (B, 6) what is known of the targets; see `time_ids`.
        """
        del pooled_text, time_ids
        return None

    def rough_colours(self, vae: Mapping[str, Any]) -> Colours:
        """Return the colours that the latents of a model stand for; empty where they are not known.

        Args:
            vae: its VAE's config.json. One that scales its latents in another way has other colours.
        """
        has_statistics = vae.get("latents_mean") or vae.get("latents_std") or vae.get("shift_factor")
        is_usual = vae.get("scaling_factor") == self.scaling_factor and not has_statistics
        return self.latent_colours if is_usual else ()

    def predicts_v(self, weights: np.ndarray) -> bool:
        """Return whether a model predicts v, by the weights of its `prediction_layer`.

        Source: ComfyUI; of Stable Diffusion 2 those that do have a larger deviation in that layer than the others.
        """
        return bool(weights.astype("float32").std() > _SD2_DEVIATION)

    def presets_of(self, unet: Mapping[str, Any]) -> Presets:
        """Return the presets of a model by its UNet's config.json; none where its blocks are others."""
        return self.presets if all(unet.get(name) == value for name, value in self.preset_blocks.items()) else {}


class _StableDiffusionXL(Family):
    """Two text encoders, the second of which speaks of the whole text as well; a UNet that is told of sizes.

    Source: Podell et al. 2023 (SDXL), section 2.1; diffusers StableDiffusionXLPipeline `encode_prompt`.
    """

    def needs_upcast(self, vae: AutoencoderKL | AutoencoderTiny) -> bool:
        return vae.config["force_upcast"]

    def zeros_for_empty(self, pipeline: Any) -> bool:
        return pipeline.config.force_zeros_for_empty_prompt

    def time_ids(self, height: int, width: int) -> tuple[int, ...]:
        """Return the height and width that it had, top and left of the crop, and the height and width that it has."""
        return height, width, 0, 0, height, width

    def added_conditions(self, pooled_text: Tensor | None, time_ids: Tensor | None) -> dict[str, Tensor] | None:
        if pooled_text is None or time_ids is None:
            return None
        return {"text_embeds": pooled_text, "time_ids": time_ids}

    def encode_text(self, encoders: Sequence[Any], input_ids: Tensor) -> tuple[Tensor, Tensor | None]:
        import torch

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
    # Pictures are decoded, and looked at by the safety checker, outside the pipelines.
    options=MappingProxyType({"safety_checker": None, "requires_safety_checker": False}),
    side=512,
    checkpoint_encoders=("cond_stage_model.transformer.",),
    # By least squares. Source: discuss.huggingface.co/t/decoding-latents-to-rgb-without-upscaling/23204
    latent_colours=((0.298, 0.207, 0.208), (0.187, 0.286, 0.173), (-0.158, 0.189, 0.264), (-0.184, -0.271, -0.473)),
    scaling_factor=0.18215,
    references=("stable-diffusion-v1-5/stable-diffusion-v1-5", "runwayml/stable-diffusion-v1-5"),
)
"""Stable Diffusion 1.x; of folders, those of 2.x as well, which are built alike and differ in their sizes alone."""

SD2 = replace(
    SD1,
    side=768,
    epsilon_side=512,
    # Open_clip's names, as of SDXL's second encoder.
    checkpoint_encoders=("cond_stage_model.model.",),
    prediction_layer="model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias",
    references=("stabilityai/stable-diffusion-2-1",),
)
"""Stable Diffusion 2.x, as its checkpoint files are."""

SDXL = _StableDiffusionXL(
    title="SDXL",
    pipeline="StableDiffusionXL",
    other_pipelines=("StableDiffusionXLInstructPix2PixPipeline",),
    modules=MappingProxyType({**SD1.modules, "text_encoder_2": ("transformers", "CLIPTextModelWithProjection")}),
    tokenizers=("tokenizer", "tokenizer_2"),
    options=MappingProxyType({"add_watermarker": False}),
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
    """Return the family of a checkpoint file by the names of its tensors; None where no text encoder is known."""
    return next((family for family in reversed(_FAMILIES) if header.has(family.checkpoint_encoders[-1])), None)


def family_of(index: Mapping[str, Any]) -> Family | None:
    """Return the family of a folder by its model_index.json; None where it is another one."""
    return next((family for family in _FAMILIES if family.has_saved(index)), None)


def known_family(index: Mapping[str, Any], *, title: str) -> Family:
    """Return the family of a folder by its model_index.json.

    Args:
        index: the content of the file.
        title: of the model, for the message.

    Raises:
        UserError: it is another one.
    """
    family = family_of(index)
    if family is None:
        raise UserError("model.wrong_pipeline", title=title, name=str(index.get("_class_name"))[:60])
    return family


def class_name(index: Mapping[str, Any], part: str) -> str | None:
    """Return the class that a model_index.json names for a part, None where it names none."""
    match index.get(part):
        case [str(), str(name)]:
            return name
    return None
