"""Run by `test_options` with one more request option, `eta`, which is known only from its declaration.

Usage: python tests/declared_anew.py BUNDLE FOLDER, with the folder of the changed package first on the path.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

import gradio as gr

from ipa_app.engine.metadata import read_request
from ipa_app.engine.requests import GenerateRequest
from ipa_app.engine.tasks import TASKS
from ipa_app.errors import UserError
from ipa_app.imaging.result_files import read_settings
from ipa_app.ui.api import endpoint_of, hidden_inputs
from ipa_app.ui.form import build_request
from ipa_app.ui.parts import Parts
from ipa_app.ui.restore import Restorer
from ipa_app.ui.studio import Studio
from tests.ui.page_parts import inputs_after, opened_page

DECLARATION = """
    eta: float = option(
        0.25, title="The eta", label="Noise", help="Adds some.", step=0.5, between=(0, 2), doc="noise, to {most:g}"
    )
"""


def main() -> None:
    """Follow the option from its declaration to a file and back to the page."""
    bundle, folder = map(Path, sys.argv[1:])
    with opened_page(bundle, temporary=folder) as (parts, studio):
        check_it_is_checked()
        check_the_page_has_it(parts)
        file = drawn(studio, eta=1.5)
        check_it_is_restored(parts, studio, file)


def check_it_is_checked() -> None:
    """Check that a bad value is refused with the usual message."""
    values: dict[str, Any] = {"prompt": "a cat", "eta": 3}
    try:
        build_request("mix", values)
    except UserError as error:
        assert (str(error), error.field) == ("The eta is 3; it must be a number from 0 to 2.", "eta")
    else:
        raise AssertionError("nobody checks it")


def check_the_page_has_it(parts: Parts) -> None:
    """Check that every task's settings have the option, with its own words and bounds."""
    for tab in parts.tabs:
        slider = parts.inputs_of(tab)["eta"]
        assert isinstance(slider, gr.Slider)
        assert (slider.label, slider.info, slider.value) == ("Noise", "Adds some.", 0.25)
        assert (slider.minimum, slider.maximum, slider.step) == (0, 2, 0.5)


def drawn(studio: Studio, *, eta: float) -> str:
    """Draw through the API, checking that every endpoint takes the option, and return the file."""
    for task in TASKS:
        signature = inspect.signature(endpoint_of(task, studio=studio))
        assert list(signature.parameters)[-1] == "eta", "what programs were promised stays in its place"
        assert (signature.parameters["eta"].annotation, signature.parameters["eta"].default) == (float, 0.25)
        assert getattr(hidden_inputs(task, shared={})["eta"], "label", None) == "eta: noise, to 2"
    (file,), settings = endpoint_of("mix", studio=studio)(prompt="a cat", eta=eta, seed=1, steps=1)
    assert settings["eta"] == eta
    assert (read_settings(file) or {})["eta"] == eta
    return file


def check_it_is_restored(parts: Parts, studio: Studio, file: str) -> None:
    """Check that the file restores the same request, and sets the page to send the same."""
    update = Restorer(parts, studio=studio).from_upload({"path": file})
    asked: GenerateRequest = build_request("mix", inputs_after(parts, "mix", update))
    for request in (read_request(file), asked):
        assert vars(request)["eta"] == 1.5


if __name__ == "__main__":
    main()
