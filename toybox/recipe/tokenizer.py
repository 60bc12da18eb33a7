"""Stage: a CLIPTokenizer with a small vocabulary of its own, learned from the captions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from accelerate import PartialState
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from ipa_app.runtime import written_whole
from toybox.recipe.data import Split, ToyData

START, END = "<|startoftext|>", "<|endoftext|>"
VOCAB_SIZE = 1536


def train_tokenizer(captions: Iterable[str], folder: Path, *, text_tokens: int) -> None:
    """Learn byte-pair merges on `captions` and write `folder/tokenizer`.

    Every byte is in the vocabulary, so any text can be encoded; words of the captions become single tokens.

    Args:
        captions: texts to learn from.
        folder: parent of the written folder.
        text_tokens: the text encoder's length, start and end tokens included.
    """
    bpe = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    # CLIP's pre-tokenisation: letters, single digits, runs of other characters; then bytes as printable characters.
    pattern = r"""'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.BPEDecoder(suffix="</w>")
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=1,
        initial_alphabet=sorted(alphabet),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    vocab, merges = _clip_order(bpe, sorted(alphabet))
    CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=text_tokens).save_pretrained(folder / "tokenizer")


def _clip_order(bpe: Tokenizer, alphabet: list[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Order the vocabulary as CLIP does: bytes, bytes ending a word, merges, start, end."""
    merges = [tuple(pair) for pair in json.loads(bpe.to_str())["model"]["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *(left + right for left, right in merges)]
    unique = [*dict.fromkeys(tokens), START, END]
    return {token: index for index, token in enumerate(unique)}, merges


def load_tokenizer(folder: Path) -> CLIPTokenizer:
    """Load the tokenizer that `train_tokenizer` wrote."""
    return CLIPTokenizer.from_pretrained(folder / "tokenizer")


def encode_captions(tokenizer: CLIPTokenizer, captions: list[list[str]]) -> torch.Tensor:
    """Return the token ids of every caption of every picture.

    Returns:
        (N, captions per picture, text_tokens) int64, padded with the end token as Stable Diffusion does.
    """
    flat = [text for texts in captions for text in texts]
    ids = tokenizer(flat, padding="max_length", truncation=True, return_tensors="pt").input_ids
    return ids.view(len(captions), -1, ids.shape[-1])


def token_ids(tokenizer: CLIPTokenizer, data: ToyData, folder: Path, split: Split) -> tuple[torch.Tensor, torch.Tensor]:
    """Return token ids of all captions of a split (N, captions per picture, tokens), and of scene captions (N, tokens).

    Cached in `folder` until the tokenizer changes, as every stage with captions needs them.
    """
    path = folder / f"token-ids-{split}.pt"
    with PartialState().main_process_first():
        if not path.exists():
            scenes = [[text] for text in data.scene_captions]
            ids = {"captions": encode_captions(tokenizer, data.captions), "scenes": encode_captions(tokenizer, scenes)}
            with written_whole(path) as part:
                torch.save(ids, part)
    ids = torch.load(path, weights_only=True)
    return ids["captions"], ids["scenes"][:, 0]
