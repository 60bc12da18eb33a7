"""Recognising what a weights file is by the names of its tensors, never by the file's name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.families import Family, family_in
from ipa_app.models.weights import Header

UNET = "model.diffusion_model."
FIRST_LAYER = "model.diffusion_model.input_blocks.0.0.weight"
VAE = "first_stage_model."

# Tensors found only in checkpoints of models that are not supported here.
_OTHER_FAMILIES = {
    "conditioner.embedders.0.model.text_projection": Message("family.sdxl_refiner"),
    "conditioner.embedders.0.open_clip.model.visual.proj": "Stable Video Diffusion",
    "joint_blocks.0.context_block.adaLN_modulation.1.bias": "Stable Diffusion 3",
    "double_blocks.0.img_attn.norm.key_norm.scale": "FLUX",
    "double_layers.0.attn.w2q.weight": "AuraFlow",
    "clip_txt_mapper.weight": "Stable Cascade",
    "double_stream_blocks.0.block.adaLN_modulation.1.bias": "HiDream",
    "cap_embedder.0.weight": "Lumina",
    "head.modulation": "Wan",
    "txt_in.individual_token_refiner.blocks.0.adaLN_modulation.1.bias": "HunyuanVideo",
}


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a file is.

    Attributes:
        family: of a checkpoint with UNet, VAE and text encoders that is supported here; None for anything else.
        other_family: of a checkpoint that is not supported here.
        is_part: what it is if it is not a checkpoint, such as "a LoRA"; None if that is not known.
        lacks: the parts that a checkpoint lacks, such as "VAE".
    """

    family: Family | None = None
    other_family: str | None = None
    is_part: Message | None = None
    lacks: tuple[str, ...] = ()

    def check(self, name: str) -> None:
        """Refuse a file that is known to be something other than a supported checkpoint.

        Args:
            name: of the file.

        Raises:
            UserError: it is something else; the message says what.
        """
        if self.other_family:
            raise UserError("checkpoint.other_family", file=name, family=self.other_family)
        if self.is_part:
            raise UserError("checkpoint.only_part", file=name, content=self.is_part)


def contents_of(header: Header) -> Contents:
    """Return what a file is, from the names of its tensors."""
    for mark, name in _OTHER_FAMILIES.items():
        if mark in header or UNET + mark in header:
            return Contents(other_family=name)
    parts = {"UNet": FIRST_LAYER in header, "VAE": header.has(VAE)}
    family = family_in(header)
    if family is not None:
        return Contents(family=family, lacks=tuple(name for name, is_there in parts.items() if not is_there))
    return Contents(is_part=next((name for name, is_it in _PARTS.items() if is_it(header)), None))


def _named(*parts: str) -> Callable[[Header], bool]:
    return lambda header: any(part in name for name in header for part in parts)


def _begins(*prefixes: str) -> Callable[[Header], bool]:
    return lambda header: header.has(*prefixes)


# Order matters: a file of an earlier kind may also match a later one.
_PARTS: dict[str, Callable[[Header], bool]] = {
    Message("content.ip_adapter"): _named("image_proj.", "image_proj_model.", "to_k_ip.", "ip_adapter."),
    Message("content.lora"): _named("lora", ".hada_w1", ".lokr_w1", ".oft_blocks", ".oft_diag"),
    Message("content.controlnet"): _named(
        "control_model.", "controlnet_cond_embedding.", "controlnet_blocks.", "input_hint_block."
    ),
    Message("content.t2i_adapter"): _begins("adapter.body.", "body.0.", "adapter.conv_in."),
    Message("content.motion_module"): _named("motion_modules."),
    Message("content.embedding"): lambda header: (
        header.keys() in ({"emb_params"}, {"clip_g", "clip_l"}) or header.has("<")
    ),
    Message("content.t5"): _named("layer.0.SelfAttention.q.weight"),
    Message("content.clip_image_encoder"): _begins("vision_model.", "visual."),
    Message("content.text_encoder"): _named("embeddings.token_embedding.", "token_embedding.weight"),
    Message("content.unet"): _begins(UNET, "input_blocks.", "down_blocks.", "diffusion_model."),
    Message("content.vae"): _begins(VAE, "decoder.", "encoder.conv_in.", "encoder.down", "taesd_decoder."),
    Message("content.upscaler"): _begins("model.0.weight", "conv_first.", "layers.0.residual_group."),
}
