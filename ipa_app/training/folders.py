"""Folders of pictures, with a metadata file or with each picture's caption in a file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ipa_app.errors import UserError
from ipa_app.training.entries import Entry, Listing, decode
from ipa_app.training.lookup import same_name
from ipa_app.training.preflight import LOCK_FILE
from ipa_app.training.reports import LOG_FILE
from ipa_app.training.tables import METADATA_NAMES, add_table

PICTURE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
CAPTION_ENDINGS = (".txt", ".caption")
"""Endings of caption files; the first wins if a picture has both."""
_REPEATS = re.compile(r"(?P<repeats>\d+)_(?P<subject>.+)")
MOST_REPEATS = 200
"""Most repeats that a folder's name can ask for; a larger number is a date, a year or the like."""
_SHEET = re.compile(r"samples-\d+\.png")
_NOT_OURS = ("__MACOSX",)
_MASKS = ("-masklabel", "-condlabel")


def add_folder(listing: Listing, folder: Path) -> None:
    """Add the pictures in a folder and its subfolders, in the order of their names.

    - If a folder has a metadata.jsonl or metadata.csv, that lists the pictures in it and below.
    - Otherwise every picture counts, with the text of the .txt or .caption file of the same name.
    - In a folder named like `10_bear`, as kohya's trainers have it, every picture counts ten times, and "bear" is the
      text of those without a caption. Numbers above `MOST_REPEATS` are just part of the name.

    Hidden files of other systems are skipped, as are masks named as OneTrainer names them and the sample sheets of
    runs.

    Raises:
        UserError: the folder, or a list in it, cannot be read.
    """
    for place in _folders(folder, listing):
        names = sorted(path.name for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        prefix = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        metadata = _metadata(names)
        if metadata is not None:
            add_table(listing, place / metadata, prefix=prefix)
        elif pictures := [name for name in names if _is_picture(place, name)]:
            _add_pictures(listing, place, pictures, names, prefix)


def _folders(folder: Path, listing: Listing) -> Iterator[Path]:
    """Yield a folder and its subfolders, except those below one with its own list and those that a run writes to."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError.plain(f"The folder {folder} cannot be read: {error.strerror}.") from error
    yield folder
    if _metadata([path.name for path in inside]) is None:
        for path in inside:
            if not path.is_dir() or path.name.startswith(".") or path.name in _NOT_OURS:
                continue
            if _is_of_a_run(path):
                listing.notes.append(f"The folder {path} is skipped, as it is the --output of a run.")
            else:
                yield from _folders(path, listing)


def _is_of_a_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (LOCK_FILE, LOG_FILE))


def _metadata(names: list[str]) -> str | None:
    return next((name for wanted in METADATA_NAMES for name in names if name.lower() == wanted), None)


def _is_picture(folder: Path, name: str) -> bool:
    if Path(name).suffix.lower() not in PICTURE_ENDINGS or Path(name).stem.endswith(_MASKS):
        return False
    return not (_SHEET.fullmatch(name) and _is_of_a_run(folder))  # as when --data is also the --output


def _repeats(folder: Path, where: str, listing: Listing) -> tuple[int, str]:
    """Return what a folder's name means: how often its pictures count, and the text of those without a caption."""
    match = _REPEATS.fullmatch(folder.resolve().name)
    if match is None:
        return 1, ""
    repeats = max(1, int(match["repeats"]))
    if repeats > MOST_REPEATS:
        listing.notes.append(
            f"The number in {where} is taken as part of its name; only a number up to {MOST_REPEATS} says how often "
            "every picture counts."
        )
        return 1, ""
    if repeats > 1:
        listing.notes.append(f"Every picture in {where} counts {repeats} times, as the folder's name says.")
    return repeats, match["subject"]


def _add_pictures(listing: Listing, folder: Path, pictures: list[str], names: list[str], prefix: str) -> None:
    captions = {same_name(name): name for name in names if Path(name).suffix.lower() in CAPTION_ENDINGS}
    where = prefix.rstrip("/") or str(folder)
    repeats, subject = _repeats(folder, where, listing)
    bare, foreign = [], []
    for name in pictures:
        wanted = (same_name(stem + ending) for ending in CAPTION_ENDINGS for stem in (Path(name).stem, name))
        caption = next((captions[file] for file in wanted if file in captions), None)
        try:
            text, is_unicode = decode((folder / caption).read_bytes()) if caption else ("", True)
        except OSError as error:
            listing.skip(prefix + name, f"its caption {caption} cannot be read ({error.strerror})")
            continue
        text = " ".join(text.split())
        listing.entries.append(Entry(image=prefix + name, text=text or subject, repeats=repeats))
        bare += [name] if not text else []
        foreign += [caption] if not is_unicode else []
    if bare:
        instead = f'the text "{subject}"' if subject else "an empty text"
        listing.notes.append(
            f"Pictures in {where} without a caption (a .txt or .caption file of the same name): {len(bare)} of "
            f"{len(pictures)}; they are trained with {instead}; the first is {bare[0]}."
        )
    if foreign:
        listing.notes.append(
            f"Captions in {where} that are not Unicode: {len(foreign)}; they were read as Windows-1252, which may "
            f"garble them; the first is {foreign[0]}."
        )
