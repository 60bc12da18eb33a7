"""Variation: new pictures from a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ipa_app.engine.tasks.task import Task
from ipa_app.errors import UserError

if TYPE_CHECKING:
    from ipa_app.engine.requests import GenerateRequest


class Variation(Task):
    """Draws from a picture alone; words may add to it."""

    name = "variation"
    required = ("reference",)

    def check(self, request: GenerateRequest) -> None:
        """Check that there is a reference."""
        if not request.references:
            raise UserError("request.no_reference")

    def needs_references(self, request: GenerateRequest) -> bool:
        """Return True: a variation always needs a reference."""
        del request
        return True
