"""Sets of references: pictures with all their settings, under a name, as a file to keep and to share.

The file is JSON. It holds the pictures as a result's file does: references at up to 512 pixels, and the masks of their
regions at up to 1024.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from ipa_app.engine.metadata import (
    INPUT_KINDS,
    REFERENCE_NAMES,
    REGION_NAMES,
    noted_reference,
    pack_inputs,
    reference_pictures,
    restored_references,
)
from ipa_app.engine.references import Reference
from ipa_app.errors import UserError
from ipa_app.imaging.packing import LONGEST_SIDE, unpack_picture

LONGEST_NAME = 100
# Four references have some fifty values beside their pictures. Parsed JSON takes up to thirty times its size in memory,
# and parsing holds up all threads.
_MOST_VALUES = 10_000
_KEY, _NAME, _PICTURES = "ip_adapter_studio_references", "name", "pictures"


@dataclass(frozen=True, kw_only=True)
class ReferenceSet:
    """References under a name.

    Attributes:
        name: 1 to 100 characters.
        references: at least one.

    Raises:
        UserError: it has no name, or no picture.
    """

    name: str
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        """Check the name and the references."""
        object.__setattr__(self, "name", " ".join(self.name.split()))
        if not self.name.isprintable() or not 0 < len(self.name) <= LONGEST_NAME:
            raise UserError("set.no_name", longest=LONGEST_NAME)
        if not self.references:
            raise UserError("request.no_reference")

    def to_json(self) -> str:
        """Return the file's content; its name comes first."""
        notes = [noted_reference(each) for each in self.references]
        packed = pack_inputs(reference_pictures(self.references))
        return json.dumps({_NAME: self.name, _KEY: notes, _PICTURES: packed}, indent=1)

    @classmethod
    def from_json(cls, data: bytes) -> ReferenceSet:
        """Read a set from a file's content, which is not trusted.

        Raises:
            UserError: it is not a set, or holds something that is not allowed.
        """
        content = _object(data)
        packed = content[_PICTURES]
        if not isinstance(packed, dict) or not isinstance(content[_NAME], str):
            raise UserError("set.damaged")
        names = [name for name in (*REFERENCE_NAMES, *REGION_NAMES) if name in packed]
        pictures = {name: unpack_picture(str(packed[name]), longest=LONGEST_SIDE[INPUT_KINDS[name]]) for name in names}
        return cls(name=content[_NAME], references=restored_references(content[_KEY], pictures))


def name_in(data: bytes) -> str | None:
    """Return the name of a set from its file's content; None if that is not a set."""
    try:
        name = _object(data)[_NAME]
    except UserError:
        return None
    return name if isinstance(name, str) else None


def _object(data: bytes) -> dict[str, Any]:
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise UserError("set.damaged")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserError("set.damaged") from error
    if not isinstance(content, dict) or not {_KEY, _NAME, _PICTURES} <= content.keys():
        raise UserError("set.damaged")
    return content
