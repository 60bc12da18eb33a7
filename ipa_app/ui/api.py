"""The public API: named, typed endpoints for other programs, over the same code path as the page.

The signatures below are a promise to those programs. Each endpoint's inputs are components that never show, made
from the signature: they give every parameter its type, its default and a line of documentation.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal, get_args, get_origin

import gradio as gr
from gradio.blocks import Block

from ipa_app.engine.requests import AreaName, PartName, RegionName
from ipa_app.engine.results import GenerateResult, Progress
from ipa_app.errors import UserError
from ipa_app.imaging.cropping import SquareMode
from ipa_app.pose.options import DetectorName
from ipa_app.ui import api_texts
from ipa_app.ui.audience import awaited
from ipa_app.ui.calls import Endpoint, Picture, is_picture, parameters_of
from ipa_app.ui.failures import explained
from ipa_app.ui.form import build_request, check_reference_options
from ipa_app.ui.studio import Studio, UnsavedError, save_pictures

Outcome = tuple[list[str], dict[str, Any]]


def add_api(studio: Studio) -> None:
    """Add the public endpoints to the Blocks being built."""
    api = PublicApi(studio)
    trigger = gr.Button(visible=False)
    for endpoint in (api.variation, api.mix, api.inpaint, api.pose):
        outputs = [
            gr.File(file_count="multiple", label=api_texts.PICTURES, visible=False),
            gr.JSON(label=api_texts.SETTINGS, visible=False),
        ]
        trigger.click(
            endpoint,
            outputs=outputs,
            inputs_kwargs=hidden_inputs(endpoint),
            api_name=endpoint.__name__,
            preprocess=False,
            show_progress="hidden",
            # The engine has the queue; here everybody may wait in it.
            concurrency_limit=None,
        )
    models = gr.JSON(label=api_texts.MODELS, visible=False)
    trigger.click(api.models, None, models, api_name="models", queue=False)


class PublicApi:
    """The endpoints as methods named like them."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def variation(
        self,
        *,
        reference: Picture,
        adapter: str = "base",
        scale: float = 1.0,
        prompt: str = "",
        negative_prompt: str = "",
        count: int = 1,
        seed: int = -1,
        steps: int = 0,
        guidance: float = 0,
        width: int = 0,
        height: int = 0,
        model: str = "toybox",
        start: float = 0.0,
        end: float = 1.0,
        view: SquareMode = "crop",
        centre_x: float = 0.5,
        centre_y: float = 0.5,
        negative_reference: Picture | None = None,
        part: PartName = "all",
        region: RegionName = "everywhere",
        progress: gr.Progress = gr.Progress(),
    ) -> Outcome:
        """Make new pictures that take after a reference picture.

        Returns PNG files, and the settings: every input as used, with `seeds`, one per picture, and `notes`, sentences
        on how an input was understood where that may not be what was meant. So do all others.
        """
        return self._make("variation", locals())

    def mix(
        self,
        *,
        prompt: str,
        reference: Picture | None = None,
        adapter: str = "base",
        scale: float = 0.6,
        negative_prompt: str = "",
        count: int = 1,
        seed: int = -1,
        steps: int = 0,
        guidance: float = 0,
        width: int = 0,
        height: int = 0,
        model: str = "toybox",
        start: float = 0.0,
        end: float = 1.0,
        view: SquareMode = "crop",
        centre_x: float = 0.5,
        centre_y: float = 0.5,
        negative_reference: Picture | None = None,
        start_image: Picture | None = None,
        strength: float = 0.75,
        part: PartName = "all",
        region: RegionName = "everywhere",
        progress: gr.Progress = gr.Progress(),
    ) -> Outcome:
        """Make pictures from words together with a reference picture; without one it is plain text-to-image."""
        return self._make("mix", locals())

    def inpaint(
        self,
        *,
        image: Picture,
        mask: Picture | None,
        reference: Picture | None = None,
        prompt: str = "",
        adapter: str = "base",
        scale: float = 1.0,
        negative_prompt: str = "",
        count: int = 1,
        seed: int = -1,
        steps: int = 0,
        guidance: float = 0,
        width: int = 0,
        height: int = 0,
        model: str = "toybox",
        start: float = 0.0,
        end: float = 1.0,
        view: SquareMode = "crop",
        centre_x: float = 0.5,
        centre_y: float = 0.5,
        negative_reference: Picture | None = None,
        mask_invert: bool = False,
        mask_grow: float = 0,
        mask_feather: float = 1,
        area: AreaName = "masked",
        mask_padding: float = 25,
        extend_left: float = 0,
        extend_right: float = 0,
        extend_up: float = 0,
        extend_down: float = 0,
        part: PartName = "all",
        region: RegionName = "everywhere",
        progress: gr.Progress = gr.Progress(),
    ) -> Outcome:
        """Redraw the white part of a mask; every other pixel of the picture stays as it is.

        With `extend_...` the picture is continued beyond its edges as well; then `mask` may be None.
        """
        return self._make("inpaint", locals())

    def pose(
        self,
        *,
        pose: Picture,
        reference: Picture | None = None,
        prompt: str = "",
        adapter: str = "base",
        scale: float = 1.0,
        control_scale: float = 1.0,
        negative_prompt: str = "",
        count: int = 1,
        seed: int = -1,
        steps: int = 0,
        guidance: float = 0,
        width: int = 0,
        height: int = 0,
        model: str = "toybox",
        start: float = 0.0,
        end: float = 1.0,
        view: SquareMode = "crop",
        centre_x: float = 0.5,
        centre_y: float = 0.5,
        negative_reference: Picture | None = None,
        control_start: float = 0.0,
        control_end: float = 1.0,
        part: PartName = "all",
        region: RegionName = "everywhere",
        pose_hands: bool = False,
        pose_face: bool = False,
        pose_detector: DetectorName = "openpose",
        progress: gr.Progress = gr.Progress(),
    ) -> Outcome:
        """Make pictures of the reference's subject in the pose of a skeleton, a photo or (Toybox) a toy picture."""
        return self._make("pose", locals())

    def models(self) -> dict[str, dict[str, Any]]:
        """List the models, what each can do, and whether it is loaded."""
        return self._studio.models()

    def _make(self, task: str, arguments: dict[str, Any]) -> Outcome:
        """Run a request and wait for it; `arguments` are an endpoint's own."""
        values = {name: value for name, value in arguments.items() if name not in ("self", "progress", "guidance")}
        chosen = {name: values.pop(name) for name in ("view", "centre_x", "centre_y", "region")}
        reference = values.pop("reference")
        values["references"] = ({"image": reference, **chosen},)
        with explained(to_program=True):
            if reference is None:
                check_reference_options(**chosen)
            request = build_request(task=task, guidance_scale=arguments["guidance"], **values)
            job_id = self._studio.submit(request)
            for event in self._studio.follow(job_id, awaited=awaited()):
                if isinstance(event, GenerateResult):
                    # Beside the engine's own names, the one that the endpoint itself gives to its parameter.
                    settings = {**event.settings, "guidance": event.settings["guidance_scale"]}
                    settings["notes"] = list(event.notes)
                    return _saved(event, job_id=job_id), settings
                if isinstance(event, Progress):
                    _report(arguments["progress"], event)
            raise RuntimeError("a job ended without a result")


def hidden_inputs(endpoint: Endpoint) -> dict[str, Block]:
    """Make the components behind an endpoint's parameters."""
    return {name: _component(item, hint=hint) for name, (item, hint) in parameters_of(endpoint).items()}


def _component(parameter: inspect.Parameter, *, hint: Any) -> gr.components.Component:
    common: dict[str, Any] = {"label": api_texts.PARAMETERS[parameter.name], "visible": False}
    if is_picture(hint):
        return gr.File(file_count="single", type="filepath", **common)
    if parameter.default is not inspect.Parameter.empty:
        common["value"] = parameter.default
    if hint is str:
        return gr.Textbox(**common)
    if hint is bool:
        return gr.Checkbox(**common)
    if get_origin(hint) is Literal:
        return gr.Radio(choices=list(get_args(hint)), **common)
    return gr.Number(precision=0 if hint is int else None, **common)


def _report(progress: gr.Progress, event: Progress) -> None:
    progress((event.step, event.steps) if event.steps else None, desc=event.message or event.phase)


def _saved(result: GenerateResult, *, job_id: str) -> list[str]:
    try:
        return save_pictures(result, job_id=job_id)
    except UnsavedError as error:
        raise UserError(api_texts.DISK_FULL.format(seed=result.seeds[0])) from error
