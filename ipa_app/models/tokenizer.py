"""Reading a model's tokenizer. An incomplete one is refused, as it would silently split words differently."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from transformers import CLIPTokenizer

from ipa_app.errors import UserError
from ipa_app.models.folder import VOCABULARIES, read_json

logger = logging.getLogger(__name__)

_MERGES = "merges.txt"
_SETTINGS = "tokenizer_config.json"


def load_tokenizer(folder: Path, *, title: str, most_tokens: int) -> CLIPTokenizer:
    """Read a tokenizer and check that it is complete.

    Args:
        folder: with its vocabulary, as transformers saves it.
        title: of the model that it belongs to, for messages.
        most_tokens: how many tokens its text encoder takes; tokenizer_config.json has it too, but may be missing.

    Raises:
        UserError: something is missing or damaged.
    """
    vocabulary = next((file for file in VOCABULARIES if (folder / file).is_file()), None)
    if vocabulary is None:
        raise UserError("model.no_file", title=title, folder=folder, file=VOCABULARIES[0])
    if not (folder / VOCABULARIES[-1]).is_file() and not (folder / _MERGES).is_file():
        raise UserError("model.no_file", title=title, folder=folder, file=_MERGES)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
        tokenizer.model_max_length = min(tokenizer.model_max_length, most_tokens)
        unbuilt = _unbuilt(model["vocab"], model["merges"], whole=tokenizer.added_tokens_encoder)
    except Exception as error:
        logger.warning("%s: %s", folder, error)
        for file in (*VOCABULARIES, _SETTINGS):
            read_json(folder / file)  # raises with the file's name if it is broken
        raise UserError("model.damaged_files", title=title, folder=folder) from error
    if unbuilt is not None:
        logger.warning("%s: no merges make %r of its vocabulary", folder, unbuilt)
        raise UserError("model.damaged_files", title=title, folder=folder)
    return tokenizer


def _unbuilt(vocabulary: Mapping[str, int], merges: Iterable[tuple[str, str]], *, whole: Collection[str]) -> str | None:
    """Return an entry that no text can produce; None if there is none, as in every complete CLIP tokenizer.

    Args:
        vocabulary: the entries of a byte-pair encoding.
        merges: the pairs that are merged.
        whole: special tokens that are matched in the text as they are.
    """
    built = {"".join(pair) for pair in merges}
    letters = (entry for entry in vocabulary if entry not in built and entry not in whole)
    return next((entry for entry in letters if len(entry.removesuffix("</w>")) > 1), None)
