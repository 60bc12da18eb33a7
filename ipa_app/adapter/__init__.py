"""The method: a picture as a prompt, by decoupled cross-attention.

Knows nothing of pipelines, requests or pages. A base model is prepared once with
:func:`install_processors`; an :class:`IPAdapter` turns features of a picture into an
:class:`ImagePrompt`; prompts of all rows of a call, stacked into an :class:`ImagePromptBatch`, travel as
``cross_attention_kwargs={"image_prompt": batch}``.
"""

from __future__ import annotations

from ipa_app.adapter.attention import IPAttnProcessor, install_processors
from ipa_app.adapter.features import ImageFeatures, encode_image
from ipa_app.adapter.files import AdapterFile, check_encoder, load_adapter, read_adapter, save_adapter
from ipa_app.adapter.image_prompt import ImagePrompt, ImagePromptBatch
from ipa_app.adapter.ip_adapter import IPAdapter
from ipa_app.adapter.kinds import AdapterKind
from ipa_app.adapter.layers import AttentionLayer, attention_layers

__all__ = [
    "AdapterFile",
    "AdapterKind",
    "AttentionLayer",
    "IPAdapter",
    "IPAttnProcessor",
    "ImageFeatures",
    "ImagePrompt",
    "ImagePromptBatch",
    "attention_layers",
    "check_encoder",
    "encode_image",
    "install_processors",
    "load_adapter",
    "read_adapter",
    "save_adapter",
]
