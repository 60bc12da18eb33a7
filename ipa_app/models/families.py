"""The two families of base models: which parts each has, and which pipelines are built over them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from ipa_app.errors import UserError
from ipa_app.models.contents import check_pipeline, pipeline_family
from ipa_app.models.latents import PaintsIntoPictures, StartsFromPictures

PipelineTask = Literal["text_to_image", "image_to_image", "inpaint", "pose"]


@dataclass(frozen=True, kw_only=True)
class Family:
    """Base models that are built alike.

    Attributes:
        title: what people call it.
        modules: class of each part that has weights, by the name of its folder.
        tokenizers: names of the tokenizers' folders.
        pipelines: class of each task's pipeline.
        options: what every pipeline is given beside the parts.
        noted: options that a model notes in its model_index.json.
        added: what the UNet is told beside the prompt, as its config.json names it.
    """

    title: str
    modules: Mapping[str, Any]
    tokenizers: tuple[str, ...]
    pipelines: Mapping[PipelineTask, type[DiffusionPipeline]]
    options: Mapping[str, Any]
    noted: tuple[str, ...]
    added: str | None

    def build(
        self,
        parts: Mapping[str, Any],
        *,
        index: Mapping[str, Any],
        controlnet: ControlNetModel | None,
    ) -> Mapping[PipelineTask, DiffusionPipeline]:
        """Build a pipeline per task, all over the same parts.

        The constructors, not from_pipe(): that one casts the shared weights to float32 unless told otherwise.

        Args:
            parts: by their names, the vision tower and its processor among them.
            index: the model's model_index.json.
            controlnet: for poses; None where there is none.
        """
        options = {**self.options, **{name: index[name] for name in self.noted if name in index}}
        pipelines: dict[PipelineTask, DiffusionPipeline] = {}
        for task, pipeline in self.pipelines.items():
            if task != "pose":
                pipelines[task] = pipeline(**parts, **options)
            elif controlnet is not None:
                pipelines[task] = pipeline(**parts, controlnet=controlnet, **options)
        for each in pipelines.values():
            each.set_progress_bar_config(disable=True)
        return MappingProxyType(pipelines)


class _ImageToImage(StartsFromPictures, StableDiffusionImg2ImgPipeline):
    pass


class _Inpaint(PaintsIntoPictures, StableDiffusionInpaintPipeline):
    pass


class _ImageToImageXL(StartsFromPictures, StableDiffusionXLImg2ImgPipeline):
    pass


class _InpaintXL(PaintsIntoPictures, StableDiffusionXLInpaintPipeline):
    pass


STABLE_DIFFUSION = Family(
    title="Stable Diffusion",
    modules=MappingProxyType({"text_encoder": CLIPTextModel, "unet": UNet2DConditionModel, "vae": AutoencoderKL}),
    tokenizers=("tokenizer",),
    pipelines=MappingProxyType(
        {
            "text_to_image": StableDiffusionPipeline,
            "image_to_image": _ImageToImage,
            "inpaint": _Inpaint,
            "pose": StableDiffusionControlNetPipeline,
        }
    ),
    # Pictures are decoded, and looked at by the safety checker, outside the pipelines.
    options=MappingProxyType({"safety_checker": None, "requires_safety_checker": False}),
    noted=(),
    added=None,
)

STABLE_DIFFUSION_XL = Family(
    title="SDXL",
    modules=MappingProxyType({**STABLE_DIFFUSION.modules, "text_encoder_2": CLIPTextModelWithProjection}),
    tokenizers=("tokenizer", "tokenizer_2"),
    pipelines=MappingProxyType(
        {
            "text_to_image": StableDiffusionXLPipeline,
            "image_to_image": _ImageToImageXL,
            "inpaint": _InpaintXL,
            "pose": StableDiffusionXLControlNetPipeline,
        }
    ),
    options=MappingProxyType({"add_watermarker": False}),
    noted=("force_zeros_for_empty_prompt",),
    added="text_time",
)


def family_of(index: Mapping[str, Any], *, title: str) -> Family:
    """Tell the family of a model from its model_index.json.

    Args:
        index: the content of the file.
        title: of the model, for the message.

    Raises:
        UserError: it is of another sort, or one of its parts is.
    """
    check_pipeline(index, title=title)
    family = STABLE_DIFFUSION_XL if pipeline_family(index) == "sdxl" else STABLE_DIFFUSION
    for part, wanted in family.modules.items():
        given = class_name(index, part)
        if given != wanted.__name__:
            raise UserError(
                f"The model {title} has {given or 'nothing'} as its {part}, but {family.title} models here need "
                f"{wanted.__name__}; please choose another model."
            )
    return family


def class_name(index: Mapping[str, Any], part: str) -> str | None:
    """Give the class that a model_index.json names for a part, None where it names none."""
    match index.get(part):
        case [str(), str(name)]:
            return name
    return None
