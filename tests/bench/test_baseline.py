"""The adapter and its baselines are asked the same questions under the same conditions."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import nn

from bench.asks import variation_row
from bench.baseline import MODEL, Answerer, FineTuned, answerers, questions, table
from bench.baseline_training import Baseline, plain_adapter_path, save_baseline
from bench.quality import cases
from ipa_app.engine.requests import GenerateRequest
from ipa_app.errors import UserError
from ipa_app.models.catalog import entry_from_folder
from ipa_app.models.entry import ModelEntry
from tests.tiny_models import CLIP_PROJECTION, CROSS_ATTENTION_DIM
from toybox.judge import Judge


@pytest.fixture(scope="module")
def entry(tiny_bundle_dir: Path) -> ModelEntry:
    """Return a model whose default guidance leaves out the first of two steps."""
    return replace(entry_from_folder(tiny_bundle_dir, name=MODEL), steps=2, guidance_start=0.5)


@pytest.fixture(scope="module")
def work(tiny_bundle_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder as the recipe leaves it, with an untrained baseline."""
    folder = tmp_path_factory.mktemp("work")
    shutil.copytree(tiny_bundle_dir / "unet", folder / "unet")
    save_baseline(_baseline(tiny_bundle_dir), folder)
    plain_adapter_path(folder).parent.mkdir()
    shutil.copyfile(entry_from_folder(tiny_bundle_dir, name="any").adapters["base"].file, plain_adapter_path(folder))
    return folder


@pytest.fixture(scope="module")
def compared(entry: ModelEntry, work: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return the picture of the first case, by model and question."""
    case = cases(2)[0]

    def pictures(answerer: Answerer) -> dict[str, np.ndarray]:
        return {name: np.asarray(answerer.draw(row.ask(case))) for name, row in questions(entry.width).items()}

    return {answerer.name: pictures(answerer) for answerer in answerers(entry, work)}


def test_all_draw_alike_where_nobody_has_learned_anything(compared: dict[str, dict[str, np.ndarray]]) -> None:
    fine_tuned, plain, own = (each["text only"].astype(int) for each in compared.values())
    assert np.array_equal(plain, own)
    assert np.abs(fine_tuned - own).max() <= 1  # the same noise, schedule, steps and guidance, in plain diffusers


def test_the_same_adapter_answers_alike_under_both_names(compared: dict[str, dict[str, np.ndarray]]) -> None:
    _, plain, own = compared.values()
    assert all(np.array_equal(plain[question], own[question]) for question in own)


def test_the_fine_tuned_unet_takes_reference_words_and_skeleton(
    entry: ModelEntry, tiny_bundle_dir: Path, compared: dict[str, dict[str, np.ndarray]]
) -> None:
    answers = compared["fine-tuned UNet"]
    assert len({picture.tobytes() for picture in answers.values()}) == len(answers)
    first, second = cases(2)
    fine_tuned = FineTuned(entry, _baseline(tiny_bundle_dir))
    asked = questions(entry.width)
    for question, other in {
        "variation": replace(first, view=second.view),
        "mix": replace(first, other=second.other),
        "pose": replace(first, other=second.other),
    }.items():
        assert not np.array_equal(_drawn(fine_tuned, asked[question].ask(other)), answers[question])


def test_a_reference_counts_through_the_projection_alone(entry: ModelEntry, tiny_bundle_dir: Path) -> None:
    first, second = cases(2)
    blind = _baseline(tiny_bundle_dir)
    nn.init.zeros_(blind.projection.weight)
    fine_tuned, ask = FineTuned(entry, blind), variation_row("base", 1.0).ask
    other = replace(ask(second), seed=first.seed)
    assert np.array_equal(_drawn(fine_tuned, ask(first)), _drawn(fine_tuned, other))


def test_everybody_is_counted_on_the_same_questions(entry: ModelEntry, work: Path) -> None:
    lines, sheet = table(Judge(side=32).eval(), entry, work, cases(2))
    counted = [(line["row"].split(", ", 1), line["measure"]) for line in lines]
    names = list(dict.fromkeys(name for (_, name), _ in counted))
    assert len(names) == 3
    each = [[(question, measure) for (question, who), measure in counted if who == name] for name in names]
    assert each[0] == each[1] == each[2]
    assert {question for question, _ in each[0]} == {"text only", "variation", "mix", "pose"}
    whole, plain, own = (next(line for line in lines if line["row"].endswith(name)) for name in names)
    assert whole["trained_parameters"] > 10 * plain["trained_parameters"] == 10 * own["trained_parameters"]
    assert len(sheet) == 1 + 3 * 4
    assert all(isinstance(picture, Image.Image) for _, pictures in sheet for picture in pictures)


def test_another_models_unet_is_refused(other_bundle_dir: Path, work: Path) -> None:
    with pytest.raises(UserError, match="different UNet"):
        next(iter(answerers(entry_from_folder(other_bundle_dir, name=MODEL), work)))


def _baseline(bundle: Path) -> Baseline:
    torch.manual_seed(0)
    projection = nn.Linear(CLIP_PROJECTION, CROSS_ATTENTION_DIM, bias=False).requires_grad_(False)
    return Baseline(UNet2DConditionModel.from_pretrained(bundle / "unet").float(), projection)


def _drawn(fine_tuned: FineTuned, request: GenerateRequest) -> np.ndarray:
    return np.asarray(fine_tuned.draw(request))
