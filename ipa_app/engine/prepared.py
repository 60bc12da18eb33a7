"""A job being carried out: its inputs prepared for the model, and the pictures made so far."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from PIL import Image, ImageOps

from ipa_app.adapter import ImagePrompt, RegionalPrompt
from ipa_app.engine.batch import BatchItem
from ipa_app.engine.job import Job
from ipa_app.engine.metadata import input_pictures, metadata_of
from ipa_app.engine.prompts import prompt_notes, read_prompts, read_region_prompts
from ipa_app.engine.references import Reference, spans
from ipa_app.engine.regions import place, region_notes, shares_of
from ipa_app.engine.results import DRAWN_AGAIN, AllWithheld, GenerateResult, Progress, notice
from ipa_app.engine.tasks.task import TaskInputs, Tools
from ipa_app.imaging.cropping import side_by_side, square_for_clip, squares_for_clip
from ipa_app.messages import Message
from ipa_app.models.prompt_encoding import token_states
from ipa_app.runtime import BUILD_LOCK, building, held

if TYPE_CHECKING:
    from ipa_app.imaging.cropping import Box
    from ipa_app.models.entry import AdapterEntry
    from ipa_app.models.loaded import LoadedModel
    from ipa_app.pose.detect import PoseDetector

_LONGEST_PREVIEW = 256


class _Layout(TypedDict):
    """What `place` needs to know of a picture."""

    size: tuple[int, int]
    window: Box
    grid: tuple[int, int]


class PreparedJob:
    """One job's share of the drawing. Owned by the worker."""

    def __init__(
        self, job: Job, model: LoadedModel, *, detector: PoseDetector, let_pass: Callable[[], None] = lambda: None
    ) -> None:
        """Prepare a job's inputs.

        Args:
            job: to be drawn.
            model: that draws.
            detector: for poses from photos.
            let_pass: called several times a second while something long goes on elsewhere.

        Raises:
            UserError: an input cannot be used, such as a photo without a person for a pose.
        """
        self.job = job
        self._model = model
        job.check_cancelled()
        job.emit(Progress(phase="encoding", message=Message("doing.looking_at_pictures")))
        plan = job.plan
        self._inputs = plan.task.prepare(plan, _tools(job, model, detector=detector, let_pass=let_pass))
        if job.wants_previews and self._inputs.control_image:
            # Shown before it is used.
            preview = self._inputs.control_image
            job.emit(Progress(phase="encoding", message=Message("doing.looking_at_pictures"), preview=preview))
        _read_parts(job, model)
        self._image_prompts = _image_prompts(job, model, inputs=self._inputs)
        self._regional_prompts = _regional_prompts(job, model, inputs=self._inputs)
        self._adapter_sha256 = model.adapters.get(plan.adapter).sha256 if plan.adapter else None
        self._images: list[Image.Image] = []
        self._finished: list[Image.Image] = []  # small, for previews
        self._preview: Image.Image | None = None
        self._withheld: list[int] = []
        self._is_again = False

    def items(self) -> list[BatchItem]:
        """Return a batch item for each picture."""
        plan = self.job.plan
        read = read_prompts(plan, self._model.tokenizers)
        return [
            BatchItem(
                prompt=read.prompt,
                negative_prompt=read.negative_prompt,
                seed=seed,
                guided=plan.guided,
                chunks=read.chunks,
                image_prompts=self._image_prompts,
                regional_prompts=self._regional_prompts,
                image=self._inputs.image,
                mask=self._inputs.mask,
                control_image=self._inputs.control_image,
                # Where drawing takes longer, a decoder that takes longer is hardly felt, and its finer lines are seen.
                is_draft=self.job.live and plan.fast is not None,
            )
            for seed in plan.seeds
        ]

    def look(self, previews: Sequence[Image.Image]) -> None:
        """Take previews of the pictures being drawn, for the next report; finished pictures are shown before them."""
        if self.job.wants_previews and previews:
            tile = previews[0].size
            self._preview = side_by_side([*(image.resize(tile) for image in self._finished), *previews])

    def begin_again(self) -> None:
        """Note, for the watchers, that the next picture, or those drawn beside it, are drawn a second time."""
        self._is_again = True

    def report(self, step: int, *, pictures: int) -> None:
        """Report progress to the job's watchers.

        Args:
            step: denoising steps done of the batch that is being drawn.
            pictures: how many of its pictures are this job's.
        """
        plan, made = self.job.plan, len(self._images)
        steps = plan.drawn_steps
        done, total = made * steps + step * pictures, len(plan.seeds) * steps
        if step >= steps:
            progress = Progress(phase="decoding", step=done, steps=total, message=Message("doing.decoding"))
        else:
            which = Message("doing.drawing")
            if self._is_again:
                which = Message(DRAWN_AGAIN)
            elif pictures > 1:
                which = Message("doing.pictures", first=made + 1, last=made + pictures, total=len(plan.seeds))
            elif len(plan.seeds) > 1:
                which = Message("doing.picture", number=made + 1, total=len(plan.seeds))
            progress = Progress(phase="denoising", step=done, steps=total, message=which, preview=self._preview)
        self._preview = None
        self.job.emit(progress)

    def add(self, drawn: Image.Image | None) -> None:
        """Take the next picture, None for one that was withheld; after the last one the job is finished.

        Raises:
            AllWithheld: every picture was withheld.
        """
        plan, self._is_again = self.job.plan, False
        if drawn is None:
            self._withheld.append(plan.seeds[len(self._images)])
            self._images.append(notice((plan.width, plan.height)))
        else:
            self._images.append(self._inputs.finish(drawn))
        if self.job.wants_previews:
            self._finished.append(ImageOps.contain(drawn or self._images[-1], (_LONGEST_PREVIEW, _LONGEST_PREVIEW)))
        if len(self._images) == len(plan.seeds):
            self._finish()

    @property
    def _notes(self) -> tuple[Message, ...]:
        """Messages that come with the pictures."""
        plan = self.job.plan
        size = self._inputs.picture_size or plan.canvas_size
        counts = plan.uses_references or any(plan.region_prompts)
        regions = region_notes(plan.request.references, size) if counts else ()
        ineffective = [Message("fast.had_no_effect", things=plan.without_effect)] if plan.without_effect else []
        words = prompt_notes(plan, self._model.tokenizers)
        return (*plan.request.notes, *self._inputs.notes, *regions, *words, *ineffective)

    def _finish(self) -> None:
        plan = self.job.plan
        metadata = metadata_of(
            plan,
            scheduler=plan.fast.scheduler if plan.fast else self._model.scheduler,
            precision=self._model.precision,
            adapter_sha256=self._adapter_sha256,
        )
        if self._withheld:
            metadata["withheld"] = self._withheld
        result = GenerateResult(
            images=tuple(self._images),
            seeds=plan.seeds,
            settings=metadata,
            inputs=input_pictures(plan),
            notes=self._notes,
        )
        if len(self._withheld) == len(plan.seeds):
            seeds = ", ".join(map(str, self._withheld))
            raise AllWithheld(
                Message("drawing.all_withheld", title=plan.entry.title, seeds=seeds),
                result,
            )
        self.job.finish(result)


def _tools(job: Job, model: LoadedModel, *, detector: PoseDetector, let_pass: Callable[[], None]) -> Tools:
    stop = threading.Event()

    def meanwhile() -> None:
        try:
            job.check_cancelled()
            let_pass()
        except Exception:
            # Set by giving way, too: the job starts again later, so going on with this search would be of no use.
            stop.set()
            raise

    return Tools(
        model=model,
        detector=detector,
        emit=job.emit,
        stop=stop,
        check_cancelled=job.check_cancelled,
        meanwhile=meanwhile,
    )


def _read_parts(job: Job, model: LoadedModel) -> None:
    """Load everything needed before anything is drawn; whoever waits is told what is being read, and can cancel."""
    controlnet, adapter = job.plan.controlnet, job.plan.adapter
    if job.plan.fast is not None and not model.fast.networks:
        job.emit(Progress(phase="loading", message=Message("doing.reading_lora")))
        with building(job.check_cancelled):
            model.fast.read()
    if controlnet is not None and controlnet not in model.controlnets:
        job.emit(Progress(phase="loading", message=Message("doing.preparing_task")))
        with building(job.check_cancelled):
            model.controlnets.pipeline(controlnet)
    if adapter is not None and adapter not in model.adapters:
        job.emit(Progress(phase="loading", message=Message("doing.reading_adapter", title=adapter.title)))
        with held(BUILD_LOCK, job.check_cancelled):
            model.adapters.get(adapter)


@torch.inference_mode()
def _image_prompts(job: Job, model: LoadedModel, *, inputs: TaskInputs) -> tuple[ImagePrompt, ...]:
    """Encode a job's references, or those that its task has made; none at scale 0.

    Joined references share a prompt, with the tokens of all and their values weighted. Prompts of several regions
    are added up, each where it counts.

    Args:
        job: whose they are.
        model: that encodes them.
        inputs: of its task, which may draw only a part of the picture, and have references of its own.
    """
    plan, request, adapter = job.plan, job.plan.request, job.plan.adapter
    if adapter is None:
        return ()
    away = None
    if plan.negative_reference is not None:
        away = model.encode(square_for_clip(plan.negative_reference.convert("RGB")), adapter)
    placed = partial(place, **_layout(job, model, inputs=inputs))
    return tuple(
        _joined(references, job=job, model=model, adapter=adapter, away=away)
        .with_scale(plan.image_scale)
        .with_range(start, end)
        .with_mask(None if mask is None else torch.from_numpy(np.array(mask, np.float32)))
        for start, end, counted in spans(inputs.references or request.references, request.start, request.end)
        for references, mask in placed(counted)
    )


@torch.inference_mode()
def _regional_prompts(job: Job, model: LoadedModel, *, inputs: TaskInputs) -> tuple[RegionalPrompt, ...]:
    """Encode the words of the references' regions, whatever the strength of the pictures; none for one out of view.

    The arguments are as for `_image_prompts`. Regions share a position only among those that have words: the others
    leave it to them.
    """
    texts = zip(job.plan.request.references, read_region_prompts(job.plan), strict=True)
    worded = [(reference, text) for reference, text in texts if text]
    if not worded:
        return ()
    shares = shares_of([reference for reference, _ in worded], **_layout(job, model, inputs=inputs))
    seen = [(text, share) for (_, text), share in zip(worded, shares, strict=True) if share.any()]
    seen_texts, pipeline = [text for text, _ in seen], model.pipelines["text_to_image"]
    states = token_states(model.family, pipeline, seen_texts, device=model.device) if seen else []
    return tuple(
        RegionalPrompt(states=each, share=torch.from_numpy(share))
        for each, (_, share) in zip(states, seen, strict=True)
    )


def _layout(job: Job, model: LoadedModel, *, inputs: TaskInputs) -> _Layout:
    """Return which part of the finished picture is drawn, and on which latent grid."""
    canvas = job.plan.canvas_size
    return {
        "size": inputs.picture_size or canvas,
        "window": inputs.window or (0, 0, *canvas),
        "grid": model.latent_size(canvas),
    }


def _joined(
    references: Sequence[Reference], *, job: Job, model: LoadedModel, adapter: AdapterEntry, away: ImagePrompt | None
) -> ImagePrompt:
    """Encode references into one prompt, which leads away from the negative picture `away` if there is one."""
    prompts, weights = [], []
    for each in references:
        picture, centre = each.image.convert("RGB"), (each.centre_x, each.centre_y)
        for square in squares_for_clip(picture, mode=each.view, centre=centre):
            job.check_cancelled()
            prompts.append(model.encode(square, adapter))
            weights.append(each.weight)
    if away is not None:
        prompts = [prompt.against(away) for prompt in prompts]
    return ImagePrompt.concat(prompts, weights=weights)
