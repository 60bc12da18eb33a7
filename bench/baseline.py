"""Compare the adapter with its predecessor: the whole UNet fine-tuned on image embeddings (sd-image-variations).

    python -m bench.baseline --work WORK [--subjects 48] [--json FILE] [--sheet FILE]

WORK holds the results of `python -m bench.baseline_training --work WORK`. Three models get the same requests, with the
same held-out characters, seeds, steps and guidance (in every step, even where the bundled model omits it): the
fine-tuned UNet, a base adapter that saw as many samples of the same pairs, and the model's own base adapter. They are
scored as in `bench.quality`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel, StableDiffusionControlNetPipeline, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from torch import nn

from bench.asks import Case, Row, mix_row, pose_row, text_row, variation_row
from bench.baseline_training import Baseline, load_baseline, plain_adapter_path
from bench.judging import JUDGE, check_judge, contact_sheet
from bench.quality import SHEET_COLUMNS, cases, figures_of, looks_at, show
from bench.timing import write_json
from ipa_app.adapter.features import encode_image
from ipa_app.engine.engine import Engine
from ipa_app.engine.requests import GenerateRequest, Reference
from ipa_app.errors import UserError
from ipa_app.models.adapters import usual_adapter
from ipa_app.models.catalog import BUNDLED, entry_from_folder
from ipa_app.models.entry import ModelEntry
from ipa_app.models.families import SD1
from ipa_app.models.manager import ModelManager
from ipa_app.models.prompt_encoding import prompt_inputs
from ipa_app.runtime import thread_count
from toybox import world
from toybox.judge import Judge, load_judge


class FineTuned:
    """The model of a catalogue entry with the baseline in place of its UNet; everything else is the model's.

    The baseline takes text only in one sequence with its image token: it has neither a second cross-attention nor a
    scale. The ControlNet gets the empty text, as in the app, so that only the UNet is new to it.
    """

    def __init__(self, entry: ModelEntry, baseline: Baseline) -> None:
        """Load everything on the CPU in single precision."""
        pipeline: Any = StableDiffusionPipeline.from_pretrained(
            entry.location, unet=baseline.unet, dtype=torch.float32, local_files_only=True
        )
        controlnet = ControlNetModel.from_pretrained(entry.controlnet("pose").path, dtype=torch.float32)
        components = {**pipeline.components, "controlnet": controlnet}
        self._pipeline = pipeline
        self._pose_pipeline: Any = StableDiffusionControlNetPipeline(**components, requires_safety_checker=False)
        for each in (self._pipeline, self._pose_pipeline):
            each.set_progress_bar_config(disable=True)
        self._entry = entry
        self._baseline = baseline
        self._empty = self._words("")
        controlnet.register_forward_pre_hook(self._show_empty_words, with_kwargs=True)

    @property
    def trained_parameters(self) -> int:
        """Number of trained parameters."""
        return sum(weights.numel() for part in vars(self._baseline).values() for weights in part.parameters())

    @torch.inference_mode()
    def draw(self, request: GenerateRequest) -> Image.Image:
        """Draw one picture from text, references or both, in a pose if requested."""
        sides = [self._words(request.prompt)] if request.prompt else []
        sides += [self._token(reference) for reference in request.references]
        states, negative_states = torch.cat(sides, dim=1).chunk(2)
        is_pose = request.task == "pose"
        pipeline = self._pose_pipeline if is_pose else self._pipeline
        return pipeline(
            prompt_embeds=states,
            negative_prompt_embeds=negative_states,
            num_inference_steps=request.steps or self._entry.steps,
            guidance_scale=request.guidance_scale or self._entry.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
            **({"image": request.pose} if is_pose else {}),
        ).images[0]

    @torch.no_grad()
    def _words(self, prompt: str) -> torch.Tensor:
        """Return the hidden states of a text and of the empty text, (2, L, text_hidden)."""
        said = prompt_inputs(SD1, self._pipeline, [prompt], [""], device=self._pipeline.device)
        return torch.cat([said["prompt_embeds"], said["negative_prompt_embeds"]])

    def _token(self, reference: Reference) -> torch.Tensor:
        """Return the image token and that of "no picture", (2, 1, text_hidden)."""
        pixel_values = self._pipeline.feature_extractor(images=reference.image, return_tensors="pt").pixel_values
        features = encode_image(self._pipeline.image_encoder, pixel_values, "base")
        return self._baseline.token(torch.cat(features))

    def _show_empty_words(self, _module: nn.Module, arguments: tuple, named: dict[str, Any]) -> tuple[tuple, dict]:
        return arguments, {**named, "encoder_hidden_states": self._empty}


MODEL, PLAIN = "toybox", "plain"


@dataclass(frozen=True, kw_only=True)
class Answerer:
    """One of the compared models.

    Attributes:
        name: as printed.
        draw: returns the picture of a request.
        trained_parameters: number of its trained parameters.
    """

    name: str
    draw: Callable[[GenerateRequest], Image.Image]
    trained_parameters: int


def questions(side: int) -> dict[str, Row]:
    """Return the rows that all models are measured on, by printed name.

    Args:
        side: of the model's pictures in pixels.
    """
    return {
        "text only": text_row(),
        "variation": variation_row("base", 1.0),
        "mix": mix_row("base"),
        "pose": pose_row("base", side),
    }


def answerers(entry: ModelEntry, work: Path) -> Iterator[Answerer]:
    """Yield the fine-tuned UNet, the adapter trained from scratch, and the model's own adapter.

    Args:
        entry: the model, under the name `MODEL`.
        work: folder of the recipe.

    Raises:
        UserError: the model is not the one the other two were trained on.
    """
    check_same_unet(entry.location, work)
    fine_tuned = FineTuned(entry, load_baseline(work))
    yield Answerer(name="fine-tuned UNet", draw=fine_tuned.draw, trained_parameters=fine_tuned.trained_parameters)
    adapters = {PLAIN: usual_adapter("base", plain_adapter_path(work)), MODEL: entry.adapter("base")}
    entries = {name: replace(entry, name=name, adapters={"base": adapter}) for name, adapter in adapters.items()}
    manager = ModelManager(entries, device="cpu", max_resident=len(entries))
    engine = Engine(manager)
    try:
        for name, title in ((PLAIN, "adapter, same samples"), (MODEL, "adapter of the model")):

            def draw(request: GenerateRequest, model: str = name) -> Image.Image:
                asked = replace(request, model=model, guidance_end=1)  # the fine-tuned UNet is guided in all steps
                return engine.submit(asked).result().images[0]

            weights = manager.get(name).adapters.get(adapters[name]).network.parameters()
            yield Answerer(name=title, draw=draw, trained_parameters=sum(part.numel() for part in weights))
    finally:
        engine.close()


def check_same_unet(model: Path, work: Path) -> None:
    """Check that a model's UNet is the one that a work folder's training started from.

    Raises:
        UserError: it is another UNet.
    """
    ours, theirs = (UNet2DConditionModel.from_pretrained(each / "unet").state_dict() for each in (model, work))
    # The model's UNet is rounded to half precision.
    if ours.keys() != theirs.keys() or any(not torch.equal(ours[key].half(), theirs[key].half()) for key in ours):
        raise UserError.plain(
            f"{work} continues from a different UNet from that of {model}: name its own model with --model."
        )


def table(judge: Judge, entry: ModelEntry, work: Path, tried: Sequence[Case]) -> tuple[list[dict], list[tuple]]:
    """Run all rows on all models.

    Returns:
        The lines of the table, and the rows of the contact sheet, which starts with the references.
    """
    lines: list[dict] = []
    sheet: list[tuple] = [("reference", [world.render(case.view, entry.width) for case in tried[:SHEET_COLUMNS]])]
    for answerer in answerers(entry, work):
        for question, row in questions(entry.width).items():
            name = f"{question}, {answerer.name}"
            pictures = [answerer.draw(row.ask(case)) for case in tried]
            looks = looks_at(judge, pictures, tried)
            sheet.append((name, pictures[:SHEET_COLUMNS]))
            for measure in row.measures:
                lines.append({**figures_of(name, looks, measure), "trained_parameters": answerer.trained_parameters})
                show(lines[-1])
    return lines, sheet


def main() -> None:
    """Print the table; write it and the contact sheet if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="work folder of the recipe")
    parser.add_argument(
        "--model", type=Path, default=BUNDLED, help="model that WORK's unet belongs to; by default the bundled one"
    )
    parser.add_argument("--subjects", type=int, default=48, help="held-out subjects, one picture each per row")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of the first subjects here (PNG)")
    arguments = parser.parse_args()
    torch.set_num_threads(thread_count())  # as in the app
    entry = entry_from_folder(arguments.model, name=MODEL)
    judge, tried = load_judge(JUDGE), cases(arguments.subjects)
    try:
        check_judge(judge, [case.view for case in tried])
        lines, sheet = table(judge, entry, arguments.work, tried)
    except UserError as error:
        parser.exit(1, f"{error}\n")
    for name, count in {line["row"].split(", ", 1)[1]: line["trained_parameters"] for line in lines}.items():
        print(f"{name}: {count:,} parameters trained")
    if arguments.json:
        write_json(arguments.json, lines)
    if arguments.sheet:
        contact_sheet(sheet).save(arguments.sheet)


if __name__ == "__main__":
    main()
