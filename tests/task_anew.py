"""Run by `tests/engine/tasks/test_task.py` with a fifth task, known only from its own modules.

It redraws a picture, to a chosen degree. Usage: python tests/task_anew.py BUNDLE FOLDER, with the folder of the
changed package first on the path.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from ipa_app.engine.metadata import read_request
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.ui.api import endpoint_of
from ipa_app.ui.form import build_request
from ipa_app.ui.parts import Parts
from ipa_app.ui.restore import Restorer
from ipa_app.ui.studio import Studio
from tests.ui.page_parts import inputs_after, opened_page

TASK = """
from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageOps

from ipa_app.engine.tasks.task import OwnOptions, Task, TaskInputs
from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.options import option


@dataclass(frozen=True, kw_only=True)
class RedrawOptions(OwnOptions):
    freedom: float = option(0.5, title="The freedom", label="Freedom", step=0.1, between=(0.1, 1), doc="up to {most:g}")


class Redraw(Task):
    name = "redraw"
    options = RedrawOptions
    borrowed = ("image",)
    required = ("image",)
    defaults = {"scale": 0.3}

    def check(self, request):
        if request.image is None:
            raise UserError("redraw.no_picture").blaming("image")

    def pipeline(self, plan):
        return "image_to_image"

    def drawn_steps(self, plan):
        return max(1, int(plan.steps * plan.request.freedom))

    def batch_key(self, plan):
        return plan.request.freedom

    def prepare(self, plan, tools):
        fitted = ImageOps.fit(plan.request.image.convert("RGB"), plan.canvas_size)
        return TaskInputs(image=fitted, finish=ImageOps.mirror, notes=(Message("redraw.done"),))

    def pipeline_inputs(self, plan, items):
        return {"image": [item.image for item in items], "strength": plan.request.freedom}
"""
SENTENCES = {"redraw.no_picture": "There is no picture to draw anew.", "redraw.done": "It was drawn anew."}
REGISTERED = {
    "Inpaint(), Pose()": "Inpaint(), Pose(), Redraw()",
    "class TaskOptions(": "class TaskOptions(RedrawOptions, ",
    "import Inpaint, InpaintOptions\n": (
        "import Inpaint, InpaintOptions\nfrom ipa_app.engine.tasks.redraw import Redraw, RedrawOptions\n"
    ),
}
TAB = """
from __future__ import annotations

from dataclasses import replace

import gradio as gr

from ipa_app.ui.controls import controls, picture_input
from ipa_app.ui.tabs.shared import Tab, finish_tab


def redraw_tab(entry):
    with gr.Tab("Draw anew", id="redraw", elem_id="tab-redraw") as tab:
        inputs = {"image": picture_input(label="Picture", elem_id="redraw-image"), **controls("freedom")}
        finished = finish_tab(task="redraw", tab=tab, entry=entry, label="Words", placeholder="in the snow")
    return replace(finished, inputs=inputs)


TAB = Tab(lay_out=redraw_tab, about="Draw a picture anew.")
"""


def main() -> None:
    """Follow the task from its registry to a file and back to the page."""
    bundle, folder = map(Path, sys.argv[1:])
    with opened_page(bundle, temporary=folder) as (parts, studio):
        upload = folder / "upload.png"
        folder.mkdir(exist_ok=True)
        Image.linear_gradient("L").resize((96, 64)).convert("RGB").save(upload)
        check_it_says_what_it_needs()
        check_the_page_has_it(parts)
        drawn_by_the_engine(studio, upload)
        file = drawn_by_the_api(studio, upload)
        check_it_is_restored(parts, studio, file)


def check_it_says_what_it_needs() -> None:
    """Check that it is registered like the others, and that its own options are checked."""
    assert list(TASKS) == ["variation", "mix", "inpaint", "pose", "redraw"]
    for values, told in (({}, "There is no picture to draw anew."), ({"freedom": 3}, "The freedom is 3")):
        try:
            build_request("redraw", values)
        except UserError as error:
            assert str(error).startswith(told)
        else:
            raise AssertionError("nobody checks it")


def check_the_page_has_it(parts: Parts) -> None:
    """Check that it has a tab with its own control, which no other tab has, and those all tasks share."""
    tab = parts.tab_of("redraw")
    assert (parts.tabs[-1], tab.default_scale) == (tab, 0.3)
    assert isinstance(tab.inputs["freedom"], gr.Slider)
    assert not [each.task for each in parts.tabs[:-1] if "freedom" in parts.inputs_of(each)]
    assert {"image", "freedom", "prompt", "seed", "reference"} <= parts.inputs_of(tab).keys()


def drawn_by_the_engine(studio: Studio, upload: Path) -> None:
    """Check that its pipeline arguments have an effect and that its finishing step runs."""
    with Image.open(upload) as opened:
        wish: dict[str, Any] = {"task": "redraw", "image": opened.convert("RGB"), "prompt": "a cat", "seed": 1}
    little, much = (
        studio.engine.submit(GenerateRequest(**wish, **{"steps": 4, "freedom": freedom})).result(200)
        for freedom in (0.3, 1)
    )
    assert little.images[0].tobytes() != much.images[0].tobytes()
    assert little.notes == ("It was drawn anew.",)
    assert set(little.inputs) == {"image"}


def drawn_by_the_api(studio: Studio, upload: Path) -> str:
    """Draw through the endpoint, checking that it names the task's options, and return the file."""
    endpoint = endpoint_of("redraw", studio=studio)
    names = list(inspect.signature(endpoint).parameters)
    assert (names[0], names[-1]) == ("image", "freedom")
    assert not {"mask", "pose", "start_image", "strength"} & set(names)
    (file,), settings = endpoint(image={"path": str(upload)}, prompt="a cat", freedom=0.7, seed=1, steps=4)
    assert (settings["task"], settings["freedom"], settings["notes"]) == ("redraw", 0.7, ["It was drawn anew."])
    return file


def check_it_is_restored(parts: Parts, studio: Studio, file: str) -> None:
    """Check that the file restores the same request, and sets the page to send the same."""
    update = Restorer(parts, studio=studio).from_upload({"path": file})
    assert update[parts.tasks]["selected"] == "redraw"
    asked: GenerateRequest = build_request("redraw", inputs_after(parts, "redraw", update))
    for request in (read_request(file), asked):
        values = vars(request)
        assert (values["task"], values["freedom"], values["image"].size) == ("redraw", 0.7, (96, 64))


if __name__ == "__main__":
    main()
