"""Dense layers of ONNX models, where the product, the bias and the activation are separate nodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx.nodes import Node
from lstmkernel.formats.onnx.tensors import TensorReader

#: Activations that may follow a product, and their names in lstmkernel.
ACTIVATIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softmax": "softmax"}


class DenseNodes(NamedTuple):
    """A product with a constant matrix, and the nodes that have completed it so far."""

    node: Node
    weight: Array  # (O, K)
    bias: Array | None = None
    activation: str = "linear"


def begun(node: Node, inputs: Sequence[Array | None], reader: TensorReader) -> DenseNodes | None:
    """The layer that begins with this node; None if the node is not a product with a constant matrix.

    ``inputs`` holds constants, and None for the signal or an input that is left out.
    """
    weight = inputs[1] if node.op in ("MatMul", "Gemm") and len(inputs) >= 2 else None
    if weight is None or inputs[0] is not None or weight.ndim != 2:
        return None
    bias = inputs[2] if len(inputs) > 2 else None
    numbers = [node.attribute(name, "f", 1.0) for name in ("alpha", "beta")]
    if numbers != [1.0, 1.0] or node.attribute("transA", "i", 0) or (bias is None and node.input(2)):
        raise ValueError(
            f"{node}: expected alpha = beta = 1, transA = 0 and a constant bias, got alpha, beta = {numbers}"
        )
    weight = weight if node.attribute("transB", "i", 0) else weight.T
    if weight.dtype.kind != "f" or 0 in weight.shape:
        raise ValueError(f"{node}: expected a matrix of floating-point numbers, got {weight.dtype} {weight.shape}")
    reader.hand(str(node), weight)
    return DenseNodes(node, weight, None if bias is None else _bias(node, bias, len(weight)))


def completed(dense: DenseNodes, node: Node, inputs: Sequence[Array | None], dimensions: int) -> DenseNodes | None:
    """The layer with this node as its bias or activation; None if it is neither. The signal has ``dimensions`` axes."""
    if dense.activation != "linear":
        return None
    if node.op == "Softmax":
        _expect_last_axis(node, dimensions)
    if node.op in ACTIVATIONS:
        return dense._replace(activation=ACTIVATIONS[node.op])
    constants = [array for array in inputs if array is not None]
    if node.op == "Add" and dense.bias is None and len(constants) == 1:
        return dense._replace(bias=_bias(node, constants[0], len(dense.weight)))
    return None


def _expect_last_axis(node: Node, dimensions: int) -> None:
    """A Softmax must be over the last axis.

    Without the attribute, the axis is 1 before opset 13 and the last one since then; it is accepted where these are the
    same. Before opset 13 the axes from ``axis`` on form one row, which makes no difference for the last axis.
    """
    axis = node.attribute("axis", "i", 1)
    if axis not in (-1, dimensions - 1):
        raise ValueError(f"{node}: axis: expected -1 or {dimensions - 1}, the last one, got {axis}")


def _bias(node: Node, value: Array, width: int) -> Array:
    if value.dtype.kind != "f" or value.shape[-1:] != (width,) or value.size != width:
        raise ValueError(f"{node}: expected a bias of {width} constants, got {value.dtype} {value.shape}")
    return value.reshape(width)
