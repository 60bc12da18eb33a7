"""The kinds of adapter: the one table of what each takes, what it makes of it, and how its files are recognised.

Data only, so that a file can be recognised without PyTorch; the networks are in `projection` and `resampler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from ipa_app.messages import Message

RESAMPLER_DIM_HEAD = 64
"""Width of a Resampler head. The published layout does not record it, and every reader assumes 64."""


class VisionWidths(Protocol):
    """What must be known of a CLIP image encoder; its transformers configuration has both."""

    @property
    def hidden_size(self) -> int:
        """Width of its layers."""
        ...

    @property
    def projection_dim(self) -> int:
        """Width of its embedding."""
        ...


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """One of the outputs of a CLIP image encoder.

    Attributes:
        name: of the field in the encoder's output.
        width_field: the field of the encoder's configuration that holds their width.
        described: what has that width, as shown to users.
        networks: the encoders known to have features of a given width, as shown to users.
    """

    name: str
    width_field: str
    described: Message
    networks: Mapping[int, str]

    def width(self, tower: VisionWidths) -> int:
        """Return the width of these features for an image encoder."""
        return getattr(tower, self.width_field)


IMAGE_EMBEDS = ClipFeatures(
    name="image_embeds",
    width_field="projection_dim",
    described=Message("adapter.features.embedding"),
    networks=MappingProxyType({768: "CLIP ViT-L/14", 1024: "OpenCLIP ViT-H/14", 1280: "OpenCLIP ViT-bigG/14"}),
)
"""Pooled and projected: (batch, projection_dim)."""

HIDDEN_STATES = ClipFeatures(
    name="hidden_states",
    width_field="hidden_size",
    described=Message("adapter.features.layers"),
    networks=MappingProxyType(
        {
            512: Message("network.face_recognition"),
            1024: "CLIP ViT-L/14",
            1280: "OpenCLIP ViT-H/14",
            1664: "OpenCLIP ViT-bigG/14",
        }
    ),
)
"""The penultimate layer's output for every patch: (batch, sequence, hidden_size)."""


@dataclass(frozen=True, kw_only=True)
class AdapterKind:
    """How an adapter turns a picture into image tokens.

    Attributes:
        name: as training names it.
        usual: what requests call a model's usual adapter of this kind; empty if it is only known by its file name.
        title: what users see that one called.
        about: what it takes from a picture, in a few words.
        features: which of the image encoder's features it takes.
        mark: the tensor of its projection that no other kind has.
        width_key: the tensor of its projection whose second axis has the length of the features' width.
        num_tokens: image tokens per picture in the published files.
        has_fixed_tokens: whether other programs assume that number, whatever the file says.
    """

    name: str
    usual: str = ""
    title: str = ""
    about: str = ""
    features: ClipFeatures
    mark: str
    width_key: str
    num_tokens: int
    has_fixed_tokens: bool = False


KINDS: Mapping[str, AdapterKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            AdapterKind(
                name="base",
                usual="base",
                title=Message("adapter.title.base"),
                about=Message("adapter.about.base"),
                features=IMAGE_EMBEDS,
                mark="proj.weight",
                width_key="proj.weight",
                num_tokens=4,
                has_fixed_tokens=True,
            ),
            AdapterKind(
                name="plus",
                usual="fine",
                title=Message("adapter.title.fine"),
                about=Message("adapter.about.fine"),
                features=HIDDEN_STATES,
                mark="latents",
                width_key="proj_in.weight",
                num_tokens=16,
            ),
            AdapterKind(
                name="full",
                features=HIDDEN_STATES,
                mark="proj.3.weight",
                width_key="proj.0.weight",
                num_tokens=257,
                has_fixed_tokens=True,
            ),
        )
    }
)
"""base: a few tokens from the pooled embedding. plus: all patches, resampled. full: one token for each of them."""

USUAL_NAMES = tuple(kind.usual for kind in KINDS.values() if kind.usual)
"""What requests call the usual adapters."""

FILE_NAMES: Mapping[str, str] = MappingProxyType(
    {"base": "ip-adapter.safetensors", "plus": "ip-adapter-plus.safetensors"}
)
"""The file name training gives to each kind that it trains; the folder is what tells one adapter from another."""
