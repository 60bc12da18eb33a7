"""The method: a picture as a prompt, by decoupled cross-attention.

Knows nothing of pipelines, requests or pages. A base model is prepared once with
`install_processors`; an `IPAdapter` turns features of a picture into an
`ImagePrompt`; prompts of all rows of a call, stacked into an `ImagePromptBatch`, travel as
`cross_attention_kwargs={"image_prompt": batch}`. So do words for parts of the picture: a `RegionalPrompt` each, stacked
into a `RegionalPromptBatch`, as `"regional_prompt"`.

What is told of a file by its header (`header`, `layout`, `fitting`) needs no PyTorch: it comes in with the first name
of this package that is asked for, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipa_app.adapter.attention import IPAttnProcessor, install_processors
    from ipa_app.adapter.features import ImageFeatures, encode_image
    from ipa_app.adapter.files import AdapterFile, check_adapter, load_adapter, read_adapter, save_adapter
    from ipa_app.adapter.fitting import check_base, check_encoder
    from ipa_app.adapter.image_prompt import ImagePrompt, ImagePromptBatch
    from ipa_app.adapter.ip_adapter import IPAdapter
    from ipa_app.adapter.layers import AttentionLayer, attention_layers
    from ipa_app.adapter.regional_prompt import RegionalPrompt, RegionalPromptBatch

_MODULES = ("attention", "features", "files", "fitting", "image_prompt", "ip_adapter", "layers", "regional_prompt")

__all__ = [
    "AdapterFile",
    "AttentionLayer",
    "IPAdapter",
    "IPAttnProcessor",
    "ImageFeatures",
    "ImagePrompt",
    "ImagePromptBatch",
    "RegionalPrompt",
    "RegionalPromptBatch",
    "attention_layers",
    "check_adapter",
    "check_base",
    "check_encoder",
    "encode_image",
    "install_processors",
    "load_adapter",
    "read_adapter",
    "save_adapter",
]


def __getattr__(name: str) -> Any:
    """Import what this package exports when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = (import_module(f"{__name__}.{module}") for module in _MODULES)
    return next(getattr(module, name) for module in modules if hasattr(module, name))
