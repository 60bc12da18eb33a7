"""DWPose's two networks: small, with the published input and output shapes, and the same answer to every picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CELLS = sum((640 // stride) ** 2 for stride in (8, 16, 32))
FINDER, POSE = "yolox_l.onnx", "dw-ll_ucoco_384.onnx"


def constant_network(path: Path, *, side: tuple[int, int], outputs: dict[str, np.ndarray]) -> None:
    """Write a network that gives constant outputs for any picture (1, 3, height, width)."""
    import onnx  # pyright: ignore[reportMissingImports]

    helper: Any = onnx.helper
    picture = helper.make_tensor_value_info("picture", onnx.TensorProto.FLOAT, [1, 3, *side])
    nodes, values, infos = [], [], []
    for name, value in outputs.items():
        values.append(onnx.numpy_helper.from_array(value.astype(np.float32), f"{name} value"))
        infos.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, value.shape))
        nodes.append(helper.make_node("Identity", [f"{name} value"], [name]))
    graph = helper.make_graph(nodes, "constant", [picture], infos, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)


def finder_output(people: dict[int, float], *, kind: int = 0) -> np.ndarray:
    """Return boxes centred on 32-pixel cells, each 128 pixels wide and 256 high, in YOLOX's output format."""
    output = np.zeros((1, CELLS, 85), dtype=np.float32)
    first = CELLS - 20 * 20
    for cell, confidence in people.items():
        output[0, first + cell, :5] = [0, 0, np.log(4), np.log(8), confidence]
        output[0, first + cell, 5 + kind] = 1
    return output


def pose_output(*, seen: slice = slice(None)) -> dict[str, np.ndarray]:
    """Return all points of a person in one column, from the top down; only those in `seen` have any confidence."""
    across, down = np.zeros((1, 133, 576)), np.zeros((1, 133, 768))
    for point in range(133)[seen]:
        across[0, point, 288], down[0, point, 5 * point] = 0.9, 0.9
    return {"simcc_x": across, "simcc_y": down}


def dwpose_files(folder: Path) -> None:
    """Write networks that find two people side by side, and a third with too little confidence."""
    boxes = finder_output({205: 0.9, 215: 0.8, 300: 0.2})
    constant_network(folder / FINDER, side=(640, 640), outputs={"boxes": boxes})
    constant_network(folder / POSE, side=(384, 288), outputs=pose_output())
