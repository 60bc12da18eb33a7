"""What people type as a prompt: how it is read, and which parts mean nothing here.

Weights are read as in `prompt_weights`. Other programs know further commands in prompts, such as `<lora:film:0.8>`;
here these are read literally.
"""

from __future__ import annotations

import re
import unicodedata

# Joined emoji and the scripts of South Asia and Iran need these two.
_JOINERS = "\u200c\u200d"
_SPACES = "\t\n\r"

_SIGNS = re.compile(
    "|".join(
        (
            r"<[^<>\s][^<>]*>",  # <lora:name:1>, <embedding>
            r"\[[^][]*[:|][^][]*\]",  # [a:b:0.5], [a|b]
            r"\{[^{}]+\}",  # {red}, {a|b}
            r"__[\w/*-]+__",  # __wildcard__
            r"\b(?:BREAK|AND|ADDCOMM|ADDROW|ADDCOL|ADDBASE)\b",
            r"\bembedding:[^\s,()]+",
            r"\([^()]+\)[\d.]*\d",  # (red)1.3
            r"[\w)]+(?:\++|--+)(?=[\s,.;)]|$)",  # red++, (red)--
            r"(?<!\S)--[a-z]+\b(?:\s[\w:.]+)?",  # --ar 16:9
            r"\w+::-?[\d.]*",  # red::2
        )
    )
)
# Names of widely used textual inversions; none of them is an ordinary word.
_EMBEDDINGS = re.compile(
    r"\b(?:easy[-_]?negative(?:v2)?|fast[-_]?negative(?:v2)?|(?:ng[-_])?deep[-_]?negative\w*|bad[-_]?hands?[-_]?v?\d\w*|"
    r"bad[-_]prompt\w*|bad[-_]?dream|bad[-_]artist\w*|bad[-_]picture[-\w]*|bad[-_]?pic|very[-_]?bad[-_]?image\w*[.\w]*|"
    r"unrealistic[-_]?dream|unaesthetic[-_]?xl\w*|negative[-_]?(?:xl|hand|hands)\w*|realistic[-_]vision[-_]negative\w*|"
    r"ac[-_]neg\d*|civitai[-_]?neg\w*|zip2d[-_]neg)\b",
    re.IGNORECASE,
)


def readable(text: str) -> str:
    """Return a prompt as it is given to the text encoders.

    Special forms of letters and digits, such as full-width or mathematical ones, become ordinary ones (Unicode's NFKC),
    and invisible characters are removed. Everything else stays: all of it has a meaning somewhere.
    """
    return "".join(map(_ordinary, without_invisible(text)))


def without_invisible(text: str) -> str:
    """Remove control characters, direction marks and other invisible characters."""
    return "".join(letter for letter in text if letter in _SPACES + _JOINERS or not _is_invisible(letter))


def has_special_letters(text: str) -> bool:
    """Whether letters or digits of a text are read as other ones; full-width punctuation does not count."""
    return any(letter.isalnum() and _ordinary(letter) != letter for letter in text)


def signs_in(text: str) -> list[str]:
    """Return what other programs would read as a weight of another form, a command or a file name.

    Returns:
        Each once, in the order of the text.
    """
    found = [*_SIGNS.finditer(text), *_EMBEDDINGS.finditer(text)]
    return list(dict.fromkeys(match[0] for match in sorted(found, key=lambda match: match.start())))


def without_signs(text: str) -> str:
    """Leave out what `signs_in` finds."""
    return _EMBEDDINGS.sub(" ", _SIGNS.sub(" ", text))


def _is_invisible(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cf")


def _ordinary(letter: str) -> str:
    plain = unicodedata.normalize("NFKC", letter)
    is_word = unicodedata.category(letter)[0] in "LN" and plain.isalnum()
    # Full-width and half-width punctuation occurs among such letters.
    return plain if is_word or unicodedata.east_asian_width(letter) in "FH" else letter
