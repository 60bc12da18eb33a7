"""What a first visit of the page fetches, told to the browser at once.

Gradio's page is a hundred scripts and styles, of which one asks for the next: the browser would wait for each of them
before it knows what comes after. Which there are is written in the scripts: Vite, by which they are made, puts a list
of all that a part needs beside each place that asks for the part.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from gradio.route_utils import BUILD_PATH_LIB

_ASSETS = Path(BUILD_PATH_LIB)
_ENTRY = re.compile(r'<script type="module" crossorigin src="\./assets/([\w.-]+)">')
_FILES = re.compile(r"m\.f=(\[[^\]]*\])")
_PART = r"import\(`\./([\w.-]+)`\)[^`]*?__vite__mapDeps\(\[([\d,]*)\]\)"
_IMPORT = re.compile(_PART)
_COMPONENT = re.compile(rf"[{{,][\"`]?([\w-]+)[\"`]?:\{{(?:(?!component:).)*?component:\(\)=>\w+\(\(\)=>{_PART}")
_PAGE = "Blocks-"
"""How the part's name begins that lays out the components; beside it there is one for a login."""


def preload_links(page: str, *, types: Collection[str]) -> str:
    """Return the links for a page's head; none for a Gradio whose scripts say it in another way.

    Args:
        page: the HTML that Gradio answers.
        types: of the components that are loaded when it opens.
    """
    entry = _ENTRY.search(page)
    files = dict.fromkeys(_needed(entry[1], types)) if entry else {}
    return "".join(map(_link, files))


def _needed(entry: str, types: Collection[str]) -> Iterator[str]:
    for part, files in _parts(_script(entry)).items():
        yield from files
        script = _script(part)
        within = [files for name, files in _parts(script).items() if name.startswith(_PAGE)]
        components = [files for kind, files in _components(script).items() if kind in types]
        for files in (*within, *components):
            yield from files


def _script(name: str) -> str:
    path = _ASSETS / name
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _parts(script: str) -> Mapping[str, list[str]]:
    """Return what the parts need that a script asks for by their names."""
    return {name: _listed(script, numbers) for name, numbers in _IMPORT.findall(_COMPONENT.sub("", script))}


def _components(script: str) -> Mapping[str, list[str]]:
    """Return what components need, by their types."""
    return {kind: _listed(script, numbers) for kind, _, numbers in _COMPONENT.findall(script)}


def _listed(script: str, numbers: str) -> list[str]:
    table = _FILES.search(script)
    names = json.loads(table[1]) if table else []
    return [names[int(number)].removeprefix("./") for number in numbers.split(",") if number]


def _link(name: str) -> str:
    kind = 'rel="preload" as="style" crossorigin' if name.endswith(".css") else 'rel="modulepreload"'
    return f'<link {kind} href="./assets/{html.escape(name)}">'
