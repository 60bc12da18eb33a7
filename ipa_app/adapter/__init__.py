"""The method: a picture as a prompt, by decoupled cross-attention.

This package knows nothing of pipelines, requests or pages. `install_processors` prepares a base model once. An
`IPAdapter` turns the features of a picture into an `ImagePrompt`. The prompts of all rows of a call are stacked into an
`ImagePromptBatch` and passed as `cross_attention_kwargs={"image_prompt": batch}`. Words for parts of the picture work
the same way: one `RegionalPrompt` each, stacked into a `RegionalPromptBatch` and passed as `"regional_prompt"`.

The modules that read only a file's header (`header`, `layout`, `shapes`, `fitting`) need no PyTorch. It is imported
with the first name that is asked of this package, and not before.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipa_app.adapter.attention import IPAttnProcessor, install_processors
    from ipa_app.adapter.features import ImageFeatures, encode_image
    from ipa_app.adapter.files import AdapterFile, load_adapter, read_adapter, save_adapter
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
    "check_base",
    "check_encoder",
    "encode_image",
    "install_processors",
    "load_adapter",
    "read_adapter",
    "save_adapter",
]


def __getattr__(name: str) -> Any:
    """Import an exported name when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    modules = (import_module(f"{__name__}.{module}") for module in _MODULES)
    return next(getattr(module, name) for module in modules if hasattr(module, name))
