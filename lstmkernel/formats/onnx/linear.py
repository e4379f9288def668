"""Values that are sums of products with constant matrices and of constants, as the gates of a written-out cell are."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement
from lstmkernel.formats.onnx.nodes import Node

#: How many nodes may follow each other, and how many products a sum may have.
MOST_DEPTH, MOST_PRODUCTS = 16, 4


class Product(NamedTuple):
    """A value times a constant matrix of shape (its numbers, width)."""

    matrix: Array
    weight: str  # the name of the constant


class Linear(NamedTuple):
    """A sum along the last axis, which is ``width`` wide."""

    width: int
    products: dict[str, Product]  # by the name of the value that is multiplied
    biases: list[tuple[str, Array]]  # with the name of the value whose product they belong to, "" if to none

    def columns(self, start: int, stop: int) -> Linear:
        products = {name: Product(matrix[:, start:stop], weight) for name, (matrix, weight) in self.products.items()}
        return Linear(stop - start, products, [(name, bias[start:stop]) for name, bias in self.biases])


class Linears:
    """Finds for a value by name whether it is such a sum."""

    def __init__(self, makers: Mapping[str, Node], constants: Mapping[str, Array]) -> None:
        self._makers, self._constants = makers, constants
        self._known: dict[str, Linear | None] = {}

    def of(self, name: str, depth: int = 0) -> Linear | None:
        """The sum; None for any other value, also for one that cannot be understood."""
        if name not in self._known:
            self._known[name] = None
            node = self._makers.get(name)
            if node and depth < MOST_DEPTH:
                with contextlib.suppress(ValueError):
                    self._known[name] = self._made(node, name, depth)
        return self._known[name]

    def _made(self, node: Node, name: str, depth: int) -> Linear | None:
        if node.op in ("MatMul", "Gemm"):
            return self._product(node)
        if node.op == "Add" and len(node.inputs) == 2:
            return self._sum(node, depth)
        whole = self.of(node.input(0), depth + 1) if node.op in ("Split", "Slice", "Identity") else None
        if whole is None or node.op == "Identity":
            return whole
        bounds = self._split(node, whole.width) if node.op == "Split" else self._sliced(node, whole.width)
        place = node.outputs.index(name)
        return whole.columns(*bounds[place]) if place < len(bounds) else None

    def _matrix(self, name: str) -> Array | None:
        array = self._constants.get(name)
        return array if array is not None and array.dtype.kind == "f" and array.ndim == 2 and array.size else None

    def _product(self, node: Node) -> Linear | None:
        matrix = self._matrix(node.input(1))
        scaled = [node.attribute(name, "f", 1.0) for name in ("alpha", "beta")] != [1.0, 1.0]
        if matrix is None or node.input(0) in self._constants or scaled or node.attribute("transA", "i", 0):
            return None
        matrix = matrix.T if node.attribute("transB", "i", 0) else matrix
        biases = []
        if node.input(2):
            bias = self._bias(node.input(2), matrix.shape[1])
            if bias is None:
                return None
            biases.append((node.input(0), bias))
        return Linear(matrix.shape[1], {node.input(0): Product(matrix, node.input(1))}, biases)

    def _bias(self, name: str, width: int) -> Array | None:
        array = self._constants.get(name)
        if (
            array is None
            or array.dtype.kind != "f"
            or array.size not in (1, width)
            or array.shape[-1:]
            not in (
                (),
                (1,),
                (width,),
            )
        ):
            return None
        return np.broadcast_to(array.ravel(), (width,))

    def _sum(self, node: Node, depth: int) -> Linear | None:
        terms = [self.of(name, depth + 1) for name in node.inputs]
        for term, other in zip(terms, node.inputs[::-1], strict=True):
            bias = self._bias(other, term.width) if term else None
            if term and bias is not None:
                owner = next(iter(term.products)) if len(term.products) == 1 else ""
                return term._replace(biases=[*term.biases, (owner, bias)])
        a, b = terms
        if a is None or b is None or a.width != b.width or {*a.products} & {*b.products}:
            return None
        if len(a.products) + len(b.products) > MOST_PRODUCTS:
            return None
        return Linear(a.width, a.products | b.products, [*a.biases, *b.biases])

    def _split(self, node: Node, width: int) -> list[tuple[int, int]]:
        """The columns of each output of a Split; none if it is not along the last axis."""
        if node.attribute("axis", "i", 0) not in (-1, 1, 2):
            return []
        sizes = self._integers(node, "split", 1)
        count = node.attribute("num_outputs", "i", len(node.outputs))
        sizes = [-(-width // max(1, count))] * min(count, 64) if sizes is None else sizes
        ends = [min(width, sum(sizes[: k + 1])) for k in range(len(sizes))]
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def _sliced(self, node: Node, width: int) -> list[tuple[int, int]]:
        """The columns of a Slice; none if it is anything but neighbouring columns."""
        starts, ends, axes, steps = (
            self._integers(node, name, place) for place, name in enumerate(("starts", "ends", "axes", "steps"), 1)
        )
        if not starts or not ends or not axes or [len(starts), len(ends), len(axes)] != [1, 1, 1]:
            return []
        if axes[0] not in (-1, 1, 2) or steps not in (None, [1]):
            return []
        start, stop, _ = slice(starts[0], ends[0]).indices(width)
        return [(start, stop)]

    def _integers(self, node: Node, name: str, place: int) -> list[int] | None:
        if name in node.attributes:
            return data_movement.listed(node, name)
        array = self._constants.get(node.input(place)) if node.input(place) else None
        return None if array is None else data_movement.integers(array)
