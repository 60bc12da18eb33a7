"""Read the graph that ComfyUI writes into a picture.

Nodes are dicts with "class_type" and "inputs"; an input is a value or a link: [name of a node, index of its output].

Graphs are untrusted and may have tens of thousands of nodes, so they are read here in time linear in their size:
sd-parsers walks the whole graph for each sampler, and keeps the whole path to each text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from sd_parsers.data import Generators, Model, Prompt, PromptInfo, Sampler
from sd_parsers.exceptions import ParserError
from sd_parsers.parsers import Parser

Node = dict[str, Any]
Graph = dict[str, Node]

# Inputs that may be linked to a node that only holds their value, and the names such nodes use for it.
_VALUES = ("seed", "noise_seed", "steps", "cfg", "text", "width", "height", "sampler_name", "scheduler")
_HELD_AS = ("value", "string", "text", "seed", "int", "float", "number")
# Inputs of a sampler that is split into several nodes.
_PARTS = ("noise", "guider", "sampler", "sigmas")
_TAKEN = (*_VALUES, "denoise", "model", "positive", "negative", "conditioning")
_SAMPLER_CLASS = "WanVideoSampler"
_SAMPLER_NAMES = ("sampler_name", "scheduler")
_MODEL_NAMES = ("ckpt_name", "model")
# Names that nodes of some model families use instead.
_OTHER_NAMES = {"text_g": "text", "t5xxl": "text", "unet_name": "ckpt_name", "conditioning": "positive"}
_SIZES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))
_LATENTS = ("samples", "latent_image", "latent", "pixels")
_DEEPEST = 20


class GraphParser(Parser):
    """Reads graphs, with the interface of sd-parsers' parsers for other programs.

    Attributes:
        graph: the graph that was read.
    """

    generator = Generators.COMFYUI

    def __init__(self) -> None:
        super().__init__()
        self.graph: Graph = {}

    def parse(self, parameters: dict[str, Any]) -> PromptInfo:
        """Return the first pass with its settings, model and texts; the other samplers are only counted.

        Raises:
            ParserError: there is no graph with a sampler.
        """
        if "prompt" not in parameters:
            raise ParserError("no graph found")
        # JSON has no NaN, but ComfyUI writes it for inputs that changed.
        self.graph = readable_graph(json.loads(parameters["prompt"]))
        names = [name for name, node in self.graph.items() if _draws(node)]
        if not names:
            raise ParserError("no sampler found")
        first = _first_pass(self.graph, names)
        others = [Sampler("", {})] * (len(names) - 1)
        return PromptInfo(self.generator, [_sampler(first, self.graph), *others], {}, {})


def _first_pass(graph: Graph, samplers: Sequence[str]) -> str:
    """Return the sampler of a graph that starts from noise; others continue from its output."""
    return next((name for name in samplers if size_of(graph, name)), samplers[0])


def _draws(node: Node) -> bool:
    return node["class_type"] == _SAMPLER_CLASS or (_is_sampler(node) and "sampler_name" in node["inputs"])


def _sampler(name: str, graph: Graph) -> Sampler:
    """Return a sampler's settings and what it is linked to."""
    inputs = dict(graph[name]["inputs"])
    called = next((inputs.pop(key) for key in _SAMPLER_NAMES if key in inputs), "")
    values = {key: value for key, value in inputs.items() if not isinstance(value, list)}
    if "cfg" in values:
        values["cfg_scale"] = values.pop("cfg")
    embeds = inputs.get("text_embeds")
    sources = graph[embeds[0]]["inputs"] if _is_link(embeds, graph) else inputs
    texts = ([Prompt(text) for text in _texts(graph, sources.get(side), side)] for side in ("positive", "negative"))
    model = next(_nearest(graph, inputs.get("model"), lambda found: any(key in found for key in _MODEL_NAMES)), {})
    return Sampler(called, values, name, _named_model(model), *texts)


def _named_model(inputs: Mapping[str, Any]) -> Model | None:
    name = next((inputs[key] for key in _MODEL_NAMES if key in inputs), None)
    return None if name is None else Model(name)


def _texts(graph: Graph, link: Any, side: str) -> list[str]:
    """Return the texts that a sampler is linked to, directly or through other nodes."""

    def texts_in(inputs: Mapping[str, Any]) -> list[str]:
        return [inputs[key].strip() for key in ("text", side) if isinstance(inputs.get(key), str)]

    found = _nearest(graph, link, lambda inputs: bool(texts_in(inputs)), without="clip")
    return [text for inputs in found for text in texts_in(inputs)]


def _nearest(
    graph: Graph, link: Any, is_it: Callable[[Mapping[str, Any]], bool], *, without: str | None = None
) -> Iterator[Mapping[str, Any]]:
    """Yield the inputs of matching nodes, each the nearest on a path back from a link.

    Args:
        graph: contains the nodes.
        link: where to start.
        is_it: whether a node matches, by its inputs.
        without: name of links that are not followed.
    """
    seen: set[str] = set()
    waiting = [link]
    while waiting:
        link = waiting.pop()
        if not _is_link(link, graph) or link[0] in seen:
            continue
        seen.add(link[0])
        inputs = graph[link[0]]["inputs"]
        if is_it(inputs):
            yield inputs
        else:
            links = [value for key, value in inputs.items() if key.lower() != without and isinstance(value, list)]
            waiting += reversed(links)


def readable_graph(data: Mapping[str, Any]) -> Graph:
    """Normalise a graph: every sampler becomes one node, and every value moves to where it is used.

    Args:
        data: a picture's "prompt", with any content.
    """
    graph = {
        str(name): {"class_type": str(node.get("class_type", "")), "inputs": dict(node["inputs"])}
        for name, node in data.items()
        if isinstance(node, dict) and isinstance(node.get("inputs"), dict)
    }
    for node in graph.values():
        inputs = node["inputs"]
        if node["class_type"].startswith("SamplerCustom"):
            _join_parts(inputs, graph)
        if node["class_type"] == "ConditioningZeroOut":
            inputs.clear()  # whatever it is linked to is what it removes
        for name, usual in _OTHER_NAMES.items():
            if name in inputs:
                inputs.setdefault(usual, inputs[name])
        for name in _VALUES:
            if name in inputs:
                inputs[name] = _value(inputs[name], name, graph)
    for node in graph.values():
        if not _is_sampler(node) and _is_link(node["inputs"].get("model")):
            # Anything but a link under this name is a model's name.
            node["inputs"]["from_model"] = node["inputs"].pop("model")
    return graph


def size_of(graph: Graph, sampler: str) -> tuple[int, int] | None:
    """Return width and height of the empty picture that a sampler starts from; None if it does not start from one."""
    link = graph[sampler]["inputs"].get("latent_image")
    for _ in range(_DEEPEST):
        if not _is_link(link, graph) or _is_sampler(graph[link[0]]):
            return None
        inputs = graph[link[0]]["inputs"]
        link = next((inputs[key] for key in _LATENTS if key in inputs), None)
        if link is None:
            return _noted_size(inputs, graph)
    return None


def _noted_size(inputs: dict[str, Any], graph: Graph) -> tuple[int, int] | None:
    for names in _SIZES:
        width, height = (_value(inputs.get(name), name, graph) for name in names)
        if isinstance(width, int) and isinstance(height, int):
            return width, height
    return None


def _join_parts(inputs: dict[str, Any], graph: Graph) -> None:
    links = [inputs.get(part) for part in _PARTS]
    for link in links:
        held = graph[link[0]]["inputs"] if _is_link(link, graph) else {}
        for name in _TAKEN:
            if name in held:
                inputs.setdefault(name, held[name])
    # A guider without guidance has no value for it.
    inputs.setdefault("cfg", 1.0)


def _value(value: Any, name: str, graph: Graph) -> Any:
    """Follow links from node to node to a value; return a link that leads to none unchanged."""
    found = value
    for _ in range(_DEEPEST):
        if not _is_link(found, graph):
            return found
        held = graph[found[0]]["inputs"]
        found = next((held[key] for key in (name, *_HELD_AS) if key in held), None)
    return value


def _is_sampler(node: Node) -> bool:
    return {"steps", "cfg"} <= node["inputs"].keys()


def _is_link(value: Any, graph: Graph | None = None) -> TypeGuard[list[Any]]:
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    return is_link and (graph is None or value[0] in graph)
