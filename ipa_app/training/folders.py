"""Folders of pictures: with a list of them, or with each picture's caption in a file beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from ipa_app.errors import UserError
from ipa_app.training.entries import Entry, Listing, decode
from ipa_app.training.lookup import same_name
from ipa_app.training.tables import METADATA_NAMES, add_table

PICTURE_ENDINGS = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
CAPTION_ENDINGS = (".txt", ".caption")
"""The first counts where a picture has both."""
_REPEATS = re.compile(r"(?P<repeats>\d+)_(?P<subject>.+)")
_NOT_OURS = ("__MACOSX",)
_MASKS = ("-masklabel", "-condlabel")


def add_folder(listing: Listing, folder: Path) -> None:
    """Add the pictures in a folder and the folders in it, in the order of their names.

    - Where a folder has a metadata.jsonl or metadata.csv, that lists the pictures from there on.
    - Elsewhere every picture counts, with the text of the .txt or .caption file named as it is.
    - Of a folder named like `10_bear`, as kohya's trainers have it, every picture counts ten times, and "bear" is the
      text of those without a caption.

    What other systems leave hidden in folders is passed over, and so are masks named as OneTrainer names them.

    Raises:
        UserError: the folder, or a list in it, cannot be read.
    """
    for place in _folders(folder):
        names = sorted(path.name for path in place.iterdir() if path.is_file() and not path.name.startswith("."))
        prefix = "" if place == folder else f"{place.relative_to(folder).as_posix()}/"
        metadata = _metadata(names)
        if metadata is not None:
            add_table(listing, place / metadata, prefix=prefix)
        elif pictures := [name for name in names if _is_picture(name)]:
            _add_pictures(listing, place, pictures, names, prefix)


def _folders(folder: Path) -> Iterator[Path]:
    """A folder and those in it, but none below one that has a list of its own."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise UserError.plain(f"The folder {folder} cannot be read: {error.strerror}.") from error
    yield folder
    if _metadata([path.name for path in inside]) is None:
        for path in inside:
            if path.is_dir() and not path.name.startswith(".") and path.name not in _NOT_OURS:
                yield from _folders(path)


def _metadata(names: list[str]) -> str | None:
    return next((name for wanted in METADATA_NAMES for name in names if name.lower() == wanted), None)


def _is_picture(name: str) -> bool:
    return Path(name).suffix.lower() in PICTURE_ENDINGS and not Path(name).stem.endswith(_MASKS)


def _add_pictures(listing: Listing, folder: Path, pictures: list[str], names: list[str], prefix: str) -> None:
    captions = {same_name(name): name for name in names if Path(name).suffix.lower() in CAPTION_ENDINGS}
    match = _REPEATS.fullmatch(folder.resolve().name)
    repeats, subject = (max(1, int(match["repeats"])), match["subject"]) if match else (1, "")
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
    where = prefix.rstrip("/") or str(folder)
    if repeats > 1:
        listing.notes.append(f"Every picture in {where} counts {repeats} times, as the folder's name says.")
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
