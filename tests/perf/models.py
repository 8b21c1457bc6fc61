"""Makes the models that are timed, with fixed random weights: DIR/NAME/model.onnx.

gemm512 is one matrix product; mlp has 83,000 parameters, conv1d 19,000, cnn 242,000, transformer 395,000.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

random = np.random.default_rng(0)


class Graph:
    """Nodes and weights, named as they come."""

    def __init__(self) -> None:
        self.nodes, self.weights = [], []

    def constant(self, values) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.array(values), name))
        return name

    def weight(self, *shape: int, scale: float | None = None) -> str:
        inputs = shape[0] if len(shape) == 2 else int(np.prod(shape[1:])) or 1
        scale = inputs**-0.5 if scale is None else scale
        return self.constant((random.standard_normal(shape) * scale).astype(np.float32))

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def save(self, folder: Path, name: str, inputs: list, outputs: list) -> None:
        self.nodes[-1].output[0] = "y"
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            self.nodes,
            name,
            [value("x", TensorProto.FLOAT, inputs)],
            [value("y", TensorProto.FLOAT, outputs)],
            self.weights,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model)
        (folder / name).mkdir(parents=True, exist_ok=True)
        onnx.save(model, folder / name / "model.onnx")


def gemm(folder: Path) -> None:
    g = Graph()
    g.op("MatMul", "x", g.weight(512, 512))
    g.save(folder, "gemm512", ["B", 512], ["B", 512])


def mlp(folder: Path) -> None:
    g, x = Graph(), "x"
    for wide, narrow in ((64, 256), (256, 256), (256, 1)):
        x = g.op("Gemm", x, g.weight(wide, narrow), g.weight(narrow, scale=0.1))
        x = g.op("Relu" if narrow > 1 else "Sigmoid", x)
    g.save(folder, "mlp", ["B", 64], ["B", 1])


def conv1d(folder: Path) -> None:
    g, x = Graph(), "x"
    for cin, cout in ((8, 32), (32, 64), (64, 64)):
        x = g.op("Conv", x, g.weight(cout, cin, 3), g.weight(cout, scale=0.1), pads=[1, 1])
        x = g.op("Relu", x)
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    g.op("Gemm", x, g.weight(64, 1), g.weight(1, scale=0.1))
    g.save(folder, "conv1d", ["B", 8, 128], ["B", 1])


def cnn(folder: Path) -> None:
    g, x = Graph(), "x"
    for cin, cout, stride in ((3, 32, 2), (32, 64, 2), (64, 128, 2), (128, 128, 1)):
        weights = g.weight(cout, cin, 3, 3), g.weight(cout, scale=0.1)
        x = g.op("Relu", g.op("Conv", x, *weights, pads=[1] * 4, strides=[stride] * 2))
    x = g.op("Flatten", g.op("GlobalAveragePool", x))
    x = g.op("Gemm", x, g.weight(128, 10), g.weight(10, scale=0.1))
    g.op("Softmax", x, axis=-1)
    g.save(folder, "cnn", ["B", 3, 64, 64], ["B", 10])


def transformer(folder: Path) -> None:
    g, x = Graph(), "x"
    width, heads, length = 128, 4, 64
    split = g.constant(np.array([0, length, heads, width // heads], np.int64))
    joined = g.constant(np.array([0, length, width], np.int64))
    scale = g.constant(np.float32((width // heads) ** -0.5))
    root, one, half = (g.constant(np.float32(v)) for v in (2**-0.5, 1, 0.5))

    def norm(x: str) -> str:
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        return g.op("LayerNormalization", x, g.constant(ones), g.constant(zeros), axis=-1)

    for _ in range(2):
        parts = []
        for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
            part = g.op("MatMul", x, g.weight(width, width))
            part = g.op("Add", part, g.weight(width, scale=0.02))
            parts.append(g.op("Transpose", g.op("Reshape", part, split), perm=perm))
        query, key, value = parts
        scores = g.op("Mul", g.op("MatMul", query, key), scale)
        mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), value)
        mixed = g.op("Reshape", g.op("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        x = norm(g.op("Add", x, g.op("MatMul", mixed, g.weight(width, width))))
        wide = g.op("MatMul", x, g.weight(width, 4 * width))
        error = g.op("Add", g.op("Erf", g.op("Mul", wide, root)), one)
        wide = g.op("Mul", g.op("Mul", wide, error), half)
        x = norm(g.op("Add", x, g.op("MatMul", wide, g.weight(4 * width, width))))
    g.save(folder, "transformer", ["B", length, width], ["B", length, width])


if __name__ == "__main__":
    for make in (gemm, mlp, conv1d, cnn, transformer):
        make(Path(sys.argv[1]))
