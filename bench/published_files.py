"""Write the small files of a published model besides its weights: tokenizer, scheduler, index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import EulerDiscreteScheduler, PNDMScheduler
from transformers import CLIPImageProcessor

VOCABULARY = 49408
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}


def write_tokenizer(folder: Path) -> None:
    """Write a CLIP tokenizer in the published files and size; it spells everything out."""
    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    known = [*letters, *(f"{letter}</w>" for letter in letters), "ab"]
    # Single characters, as every longer entry would need its own merge.
    filler = (chr(0x20000 + number) for number in range(VOCABULARY - 2 - len(known)))
    vocabulary = [*known, *filler, "<|startoftext|>", "<|endoftext|>"]
    settings = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    more = {"add_prefix_space": False, "do_lower_case": True, "errors": "replace", "model_max_length": 77}
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(vocabulary)})
    (folder / "merges.txt").write_text("#version: 0.2\na b\n", encoding="utf-8")
    _write_json(folder / "special_tokens_map.json", settings)
    _write_json(folder / "tokenizer_config.json", settings | more | {"tokenizer_class": "CLIPTokenizer"})


def write_index(family: str, folder: Path) -> None:
    """Write model_index.json, and the configurations of scheduler and image processor."""
    index: dict[str, Any] = {
        "_diffusers_version": "0.19.0",
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "sd15":
        index |= {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": ["transformers", "CLIPImageProcessor"],
            "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
            "scheduler": ["diffusers", "PNDMScheduler"],
        }
        CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
        PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **_BETAS).save_pretrained(folder / "scheduler")
    else:
        index |= {
            "_class_name": "StableDiffusionXLPipeline",
            "force_zeros_for_empty_prompt": True,
            "scheduler": ["diffusers", "EulerDiscreteScheduler"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
        }
        EulerDiscreteScheduler(timestep_spacing="leading", **_BETAS).save_pretrained(folder / "scheduler")
    _write_json(folder / "model_index.json", index)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2), encoding="utf-8")
