"""Prompt styles: words put around a prompt, and others beside a negative prompt, under a name.

They are read from files in other programs' formats: a JSON list of `{"name", "prompt", "negative_prompt"}`, as used by
Fooocus and ComfyUI's stylers, or a CSV file with columns of these names, as used by AUTOMATIC1111's webui. The prompt
replaces `{prompt}` in a style's text, or comes before a text without it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipa_app.errors import UserError
from ipa_app.messages import Message
from ipa_app.models.listed import absolute, listed
from ipa_app.models.prompt_weights import check_weights, without_weights

SHIPPED = Path(__file__).resolve().parents[2] / "assets" / "styles.json"
STYLES_VARIABLE = "IPA_STYLES"
LONGEST_NAME = 100
_LONGEST_TEXT = 2000
_PLACE = "{prompt}"
_ENDINGS = (".json", ".csv")
_BETWEEN = " ,\n"

Trouble = tuple[Path, Message]
"""A file, and one sentence on what in it cannot be used."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """Words around a prompt.

    Attributes:
        name: what requests call it.
        prompt: with `{prompt}` in place of the prompt; may be empty.
        negative_prompt: the same for the negative prompt.
    """

    name: str
    prompt: str = ""
    negative_prompt: str = ""

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: the name or a text is not valid.
            UserError: a weight in it is out of bounds.
        """
        if not isinstance(self.name, str) or not 0 < len(self.name.strip()) <= LONGEST_NAME:
            raise ValueError("no name")
        for text in (self.prompt, self.negative_prompt):
            if not isinstance(text, str) or len(text) > _LONGEST_TEXT:
                raise ValueError("no text")
            check_weights(text, prompt=self.name)

    def styled(self, prompt: str, negative_prompt: str) -> tuple[str, str]:
        """Return a prompt and a negative prompt in this style."""
        return _filled(self.prompt, prompt), _filled(self.negative_prompt, negative_prompt)

    @property
    def words(self) -> str:
        """All text that it adds, for checking its words."""
        return without_weights(f"{self.prompt}\n{self.negative_prompt}".replace(_PLACE, ""))


def _filled(template: str, text: str) -> str:
    if not template.strip():
        return text
    if not text.strip():
        return template.replace(_PLACE, "").strip(_BETWEEN)
    return template.replace(_PLACE, text) if _PLACE in template else f"{text}, {template}"


def find_styles(named: str) -> tuple[dict[str, Style], list[Trouble]]:
    """Read the built-in styles, and those of every file and folder that IPA_STYLES names.

    Args:
        named: files and folders, separated as in PATH or by semicolons.

    Returns:
        Styles by name, the later of two with the same name, and what could not be used.
    """
    found: dict[str, Style] = {}
    trouble: list[Trouble] = []
    for path in dict.fromkeys((SHIPPED, *map(absolute, listed(named)))):
        if not path.exists():
            trouble.append((path, Message("catalog.nothing_there", variable=STYLES_VARIABLE, path=path)))
        for file in _files(path):
            try:
                styles, wrong = read_styles(file)
            except UserError as error:
                styles, wrong = [], [error.message]
            found |= {style.name: style for style in styles}
            trouble += [(file, sentence) for sentence in wrong]
    return found, trouble


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path] if path.exists() else []
    return [each for each in sorted(path.glob("[!.]*")) if each.suffix.lower() in _ENDINGS]


def read_styles(path: Path) -> tuple[list[Style], list[Message]]:
    """Read a file of styles.

    Returns:
        The styles, and a message on each entry that is not a style.

    Raises:
        UserError: the file cannot be read at all.
    """
    styles, wrong = [], []
    for number, entry in enumerate(_entries(path), start=1):
        try:
            given = {key: entry.get(key) or "" for key in ("name", "prompt", "negative_prompt")}
            styles.append(Style(**given))
        except (AttributeError, ValueError):
            wrong.append(Message("styles.wrong_entry", path=path, number=number, longest=_LONGEST_TEXT))
        except UserError as error:
            wrong.append(error.message)
    return styles, wrong


def _entries(path: Path) -> Iterable[Any]:
    try:
        if path.suffix.lower() == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                return list(csv.DictReader(file))
        # As bytes: json detects a byte order mark, or UTF-16.
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise UserError("styles.unreadable", path=path, error=error) from error
    if not isinstance(content, list):
        raise UserError("styles.no_list", path=path)
    return content


def style_called(name: str, styles: Mapping[str, Style], *, title: str) -> Style | None:
    """Return a style by its name in requests; None for an empty name.

    Args:
        name: of the style, or empty.
        styles: those of a model.
        title: of the model, for the message.

    Raises:
        UserError: the model has no such style.
    """
    if not name:
        return None
    if name not in styles:
        raise UserError("model.no_such_style", title=title, style=repr(name), styles=", ".join(styles) or "none")
    return styles[name]
