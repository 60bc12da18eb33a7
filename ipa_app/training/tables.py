"""Data files: a JSON list or mapping, JSON lines, and tables with a header line."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ipa_app.errors import UserError
from ipa_app.training.entries import IMAGE_KEYS, KNOWN_KEYS, BadEntryError, Listing, decode

METADATA_NAMES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Names of metadata files in Hugging Face's imagefolder layout."""
TABLE_ENDINGS = {".csv", ".tsv"}
DATA_FORMS = "Data is a JSON list, JSON lines, a table (.csv, .tsv) or a folder of pictures."
SEPARATORS = ",;\t"
"""Cell separators; spreadsheets write semicolons where the comma is the decimal mark."""


def add_table(listing: Listing, file: Path, *, prefix: str = "") -> None:
    """Add the entries of a data file, whose format follows from its ending and content.

    - a list of `{"image_file": ..., "text": ..., "reference_file": ...}`, as in the reference implementation,
    - one such object per line (JSON lines),
    - a mapping of file names to texts or to such objects, as in kohya's metadata,
    - a table (.csv, .tsv) whose header line names the columns.

    Args:
        listing: to add to.
        file: the data file.
        prefix: prepended to relative names in it: the folder it lies in, with a slash.

    Raises:
        UserError: it is none of these, or cannot be read.
    """
    if file.suffix.lower() == ".parquet":
        raise UserError.plain(f"{file} cannot be read here; save it as metadata.csv or metadata.jsonl.")
    try:
        text, is_unicode = decode(file.read_bytes())
    except OSError as error:
        raise UserError.plain(f"The data file {file} cannot be read: {error.strerror}.") from error
    if not is_unicode:
        listing.notes.append(f"{prefix}{file.name} is not Unicode and was read as Windows-1252, which may garble it.")
    rows = _table_rows(text, file) if file.suffix.lower() in TABLE_ENDINGS else _json_rows(text, file)
    for place, fields in rows:
        listing.add(fields, place=f"{place} of {prefix}{file.name}", prefix=prefix)


def _json_rows(text: str, file: Path) -> Iterator[tuple[str, object]]:
    """Yield the entries of a JSON file, each with its place."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise UserError.plain(f"The data file {file} is not valid JSON: it is nested too deeply.") from None
    except ValueError as error:
        begins_list = text.lstrip().startswith("[")
        rows = [] if begins_list else list(_lines(text))
        if all(isinstance(fields, BadEntryError) for _, fields in rows):
            hint = "" if begins_list else f" {DATA_FORMS}"
            raise UserError.plain(f"The data file {file} is not valid JSON: {error}.{hint}") from None
        yield from rows
        return
    if isinstance(content, list):
        yield from ((f"entry {number}", fields) for number, fields in enumerate(content, start=1))
    elif isinstance(content, dict) and set(content) & set(KNOWN_KEYS):
        yield "line 1", content
    elif isinstance(content, dict):
        yield from ((f'"{name}"', _named(name, fields)) for name, fields in content.items())
    else:
        raise UserError.plain(f'The data file {file} must hold a list of {{"image_file": ..., "text": ...}}.')


def _lines(text: str) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                yield f"line {number}", json.loads(line)
            except (ValueError, RecursionError) as error:
                yield f"line {number}", BadEntryError(f"it is not valid JSON ({error})")


def _named(name: str, fields: object) -> object:
    """Convert an item of a mapping to the form of a list entry."""
    if isinstance(fields, str):
        return {"image_file": name, "text": fields}
    if not isinstance(fields, Mapping):
        return fields
    tags = {"text": fields["tags"]} if "tags" in fields and "caption" not in fields else {}
    return {"image_file": name, **fields, **tags}


def _table_rows(text: str, file: Path) -> Iterator[tuple[str, object]]:
    headers = {mark: next(_reader(text, mark), []) for mark in SEPARATORS}
    separator = max(headers, key=lambda mark: len({cell.strip().lower() for cell in headers[mark]} & set(KNOWN_KEYS)))
    columns = [cell.strip().lower() for cell in headers[separator]]
    if not set(columns) & set(IMAGE_KEYS):
        raise UserError.plain(f"The first line of {file} must name its columns, such as file_name{separator}text.")
    rows = _reader(text, separator)
    try:
        next(rows)
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield f"line {rows.line_num}", _row(columns, cells)
    except csv.Error as error:
        raise UserError.plain(f"The data file {file} cannot be read: line {rows.line_num}: {error}.") from None


def _reader(text: str, separator: str) -> Any:
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator)


def _row(columns: Sequence[str], cells: Sequence[str]) -> object:
    if len(cells) > len(columns):
        return BadEntryError(
            f"it has {len(cells)} cells for {len(columns)} columns; put texts that contain the separator in quotes"
        )
    return dict(zip(columns, cells, strict=False))
