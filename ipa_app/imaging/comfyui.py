"""The graph that ComfyUI writes into a picture, brought to the form in which sd-parsers finds what is in it.

Nodes are dicts with "class_type" and "inputs"; an input is a value, or a link: [name of a node, number of its output].
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

Node = dict[str, Any]
Graph = dict[str, Node]

# Inputs that are linked to a node which holds nothing but their value, and what such nodes call it.
_VALUES = ("seed", "noise_seed", "steps", "cfg", "text", "width", "height", "sampler_name", "scheduler")
_HELD_AS = ("value", "string", "text", "seed", "int", "float", "number")
# What samplers made of several nodes take from them.
_PARTS = ("noise", "guider", "sampler", "sigmas")
# Under other names in nodes of some families of models.
_OTHER_NAMES = {"text_g": "text", "t5xxl": "text", "unet_name": "ckpt_name", "conditioning": "positive"}
_SIZES = (("width", "height"), ("empty_latent_width", "empty_latent_height"))
_LATENTS = ("samples", "latent_image", "latent", "pixels")
_DEEPEST = 20


def readable_graph(data: Mapping[str, Any]) -> Graph:
    """Bring a graph to what sd-parsers reads: every sampler one node, and every value where it is used.

    Args:
        data: of a picture's "prompt", of any content.
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
            inputs.clear()  # what it is linked to is just what it takes away
        for name, usual in _OTHER_NAMES.items():
            if name in inputs:
                inputs.setdefault(usual, inputs[name])
        for name in _VALUES:
            if name in inputs:
                inputs[name] = _value(inputs[name], name, graph)
    for node in graph.values():
        if not _is_sampler(node) and _is_link(node["inputs"].get("model")):
            # sd-parsers takes a link under this name for the name of a model.
            node["inputs"]["from_model"] = node["inputs"].pop("model")
    return graph


def links_of(graph: Graph) -> dict[str, list[list[Any]]]:
    """Return the links between nodes as the page of ComfyUI notes them, which graphs that were sent to it lack."""
    links = [
        [0, value[0], 0, name, 0, key.upper()]
        for name, node in graph.items()
        for key, value in node["inputs"].items()
        if _is_link(value)
    ]
    return {"links": links}


def size_of(graph: Graph, sampler: str) -> tuple[int, int] | None:
    """Return width and height of the empty picture that a sampler starts from; None where it starts from another."""
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
        for name, value in graph[link[0]]["inputs"].items() if _is_link(link, graph) else ():
            inputs.setdefault(name, value)
    # A guider without guidance has no number for it.
    inputs.setdefault("cfg", 1.0)


def _value(value: Any, name: str, graph: Graph) -> Any:
    """Follow links from node to node until there is a value; a link that leads to none is returned as it is."""
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
