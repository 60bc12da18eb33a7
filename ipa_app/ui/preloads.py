"""Preload links for all that a first visit of the page fetches.

Gradio's page has a hundred scripts and styles that import one another: the browser would have to load each before it
learns of the next. The list comes from the scripts themselves: Vite, which bundles them, puts next to each dynamic
import the list of all files that the imported chunk needs.
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
"""Prefix of the chunk that lays out the components; another one is for a login."""


def preload_links(page: str, *, types: Collection[str]) -> str:
    """Return the links for a page's head; none if this version of Gradio is bundled in another way.

    Args:
        page: the HTML from Gradio.
        types: the types of the components that are loaded when the page opens.
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
    """Return the files that a script's dynamic imports need, by the name of the imported chunk."""
    return {name: _listed(script, numbers) for name, numbers in _IMPORT.findall(_COMPONENT.sub("", script))}


def _components(script: str) -> Mapping[str, list[str]]:
    """Return the files that components need, by component type."""
    return {kind: _listed(script, numbers) for kind, _, numbers in _COMPONENT.findall(script)}


def _listed(script: str, numbers: str) -> list[str]:
    table = _FILES.search(script)
    names = json.loads(table[1]) if table else []
    return [names[int(number)].removeprefix("./") for number in numbers.split(",") if number]


def _link(name: str) -> str:
    kind = 'rel="preload" as="style" crossorigin' if name.endswith(".css") else 'rel="modulepreload"'
    return f'<link {kind} href="./assets/{html.escape(name)}">'
