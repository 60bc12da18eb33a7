"""Files of weights that somebody has spoilt or made up: adapters and checkpoints, and settings of models."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors.torch import save

from ipa_app.adapter.files import load_adapter
from ipa_app.adapter.layout import read_layout
from ipa_app.models.catalog import entry_from_file, entry_from_folder
from ipa_app.models.contents import contents_of
from ipa_app.models.weights import read_header
from tests.adapter_files import safetensors_file
from tests.fuzz.hostile import altered, anything, examples, holds, numbers, spoilt, texts
from tests.malicious import Malicious
from tests.tiny_models import random_adapter_tensors, tiny_unet

UNET = tiny_unet()
ADAPTERS = {kind: random_adapter_tensors(UNET, kind=kind) for kind in ("base", "plus", "full")}


def pickled(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Whole files of adapters, of each kind and in each way of writing them, and one that would run code."""
    halves = [{key: tensor.half() for key, tensor in tensors.items()} for tensors in ADAPTERS.values()]
    nested = {
        part: {key.removeprefix(f"{part}."): tensor for key, tensor in halves[0].items() if key.startswith(part)}
        for part in ("image_proj", "ip_adapter")
    }
    malicious = {"image_proj": Malicious(tmp_path_factory.mktemp("malicious") / "made")}
    return [
        *map(save, halves),
        *(pickled(each) for each in (halves[0], halves[1], nested, {"state_dict": nested})),
        pickled(nested, _use_new_zipfile_serialization=False),
        pickled(malicious),
        pickle.dumps(malicious),
    ]


@pytest.fixture
def load(tmp_path: Path) -> Callable[[bytes], None]:
    """Does with a file what is done with adapters that are named or dropped on the page."""

    def read(data: bytes) -> None:
        path = tmp_path / "file.safetensors"
        path.write_bytes(data)
        read_layout(path)
        load_adapter(path, UNET)

    return read


@examples(60)
def test_adapters(count: int, files: list[bytes], load: Callable[[bytes], None]) -> None:
    holds(load, spoilt(files, head=4096), count=count)


@examples(80)
def test_headers_of_adapters_made_up(count: int, load: Callable[[bytes], None]) -> None:
    headers = [header_of(save(tensors)) for tensors in ADAPTERS.values()]
    size = max(len(save(tensors)) for tensors in ADAPTERS.values())
    holds(lambda data: load(as_file(data, size)), st.one_of(altered(headers), anything()), count=count)


def header_of(file: bytes) -> dict[str, Any]:
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length])


def as_file(header: Any, size: int) -> bytes:
    return safetensors_file(json.dumps(header).encode(), room=size)


@examples(80)
def test_headers_of_checkpoints_made_up(count: int, tmp_path: Path) -> None:
    names = st.one_of(texts(20), st.sampled_from(NAMES))
    tensors = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F16", "F32", "F8_E4M3", "I8", "U8", "X", ""]),
            "shape": st.lists(st.one_of(st.integers(0, 4), numbers()), max_size=5),
            "data_offsets": st.lists(st.one_of(st.integers(0, 256), numbers()), max_size=3),
        }
    )

    def read(header: Any) -> None:
        path = tmp_path / "model.safetensors"
        path.write_bytes(as_file(header, 256))
        contents_of(read_header(path)).check(path.name)
        entry_from_file(path, name="model")

    holds(read, st.one_of(st.dictionaries(names, st.one_of(tensors, anything(3))), anything()), count=count)


NAMES = (
    "model.diffusion_model.input_blocks.0.0.weight",
    "model.diffusion_model.input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight",
    "first_stage_model.encoder.conv_in.weight",
    "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight",
    "conditioner.embedders.1.model.ln_final.weight",
    "control_model.input_hint_block.0.weight",
    "lora_unet_down_blocks_0.lora_up.weight",
    "__metadata__",
    "v_pred",
)


@examples(15)
def test_settings_of_folders_made_up(count: int, tiny_bundle_dir: Path, tmp_path: Path) -> None:
    """The JSON files of a model's folder, which somebody else may have written."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_bundle_dir, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    names = [path.relative_to(folder) for path in folder.rglob("*.json") if "tokenizer" not in str(path)]
    written = {name: (folder / name).read_text(encoding="utf-8") for name in names}

    def read(changed: tuple[Path, Any]) -> None:
        name, data = changed
        text = json.dumps(data)
        (folder / name).write_text(text, encoding="utf-8")
        try:
            entry_from_folder(folder, name="model")
        finally:
            (folder / name).write_text(written[name], encoding="utf-8")

    def change(name: Path) -> st.SearchStrategy[tuple[Path, Any]]:
        return st.tuples(st.just(name), st.one_of(altered([json.loads(written[name])]), anything()))

    holds(read, st.sampled_from(sorted(names)).flatmap(change), count=count)
