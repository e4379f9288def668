"""Which part of an ONNX model is the network: the whole graph, or LSTM nodes by name, also in bodies of If and Loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from copy import copy
from itertools import islice, product
from typing import Any

from lstmkernel.backends.packing import Array
from lstmkernel.formats.onnx import data_movement, fold, nodes, other_recurrent, written_cell
from lstmkernel.formats.onnx import graph as onnx_graph
from lstmkernel.formats.onnx.fold import Constants
from lstmkernel.formats.onnx.follow import LSTM_OPS, OPEN, FollowedNetwork, Scope, chosen_nodes, whole_graph
from lstmkernel.formats.onnx.functions import Functions
from lstmkernel.formats.onnx.graph import Graph
from lstmkernel.formats.onnx.nodes import Body, Call, Node
from lstmkernel.formats.onnx.operator import LSTMNode
from lstmkernel.formats.onnx.tensors import TensorReader

#: How deep bodies of If and Loop may be nested.
MOST_NESTING = 8

#: How many LSTM nodes are tried to find one that an error can advise.
MOST_ADVISED = 20

#: What may stand between an LSTM and the swap of its first two axes.
_AXES_STAY = ("Cast", "Clip", "Dropout", "Identity", "Relu", "Sigmoid", "Tanh")

#: How many of the sizes that Reshapes have as constants are tried.
MOST_FIXED = 4


def network(scopes: Sequence[Scope], reader: TensorReader, prefix: str) -> FollowedNetwork:
    """What ``load`` gives for this prefix; "" is the whole model. A model is described by what this finds, too."""
    try:
        found = named(scopes, reader, prefix) if prefix else whole(scopes, reader)
    except ValueError as error:
        if prefix:
            raise
        raise ValueError(f"{error}{_way_out(scopes, reader)}") from error
    return found._replace(elsewhere=[(node, name) for node, name in found.elsewhere if not _of_caller(scopes, name)])


def tried(scopes: Sequence[Scope], reader: TensorReader, prefix: str) -> FollowedNetwork | str:
    """The same, or why it cannot be loaded."""
    try:
        return network(scopes, copy(reader), prefix)
    except ValueError as error:
        return str(error)


def _way_out(scopes: Sequence[Scope], reader: TensorReader) -> str:
    """The prefixes that load, for an error about the whole model; "" if there are none."""
    names = islice(prefixes(scopes), MOST_ADVISED)
    found = list(islice((name for name in names if not isinstance(tried(scopes, reader, name), str)), 3))
    advised = " or ".join(f"prefix={name!r}" for name in found)
    in_a_row = ", or several in a row with a list of them" if len(found) > 1 else ""
    return f"; choose an LSTM alone with {advised}{in_a_row}" if advised else ""


def prefixes(scopes: Sequence[Scope]) -> list[str]:
    """The names that may be a prefix: of modules with several LSTM nodes, their layers perhaps, then of all nodes."""
    names = list(dict.fromkeys(node.name for node, _ in lstms(scopes)))
    modules = Counter(name.strip("/").rpartition("/")[0] for name in names)
    return [*(module for module, count in modules.items() if module and count > 1), *names]


def _of_caller(scopes: Sequence[Scope], name: str) -> bool:
    """Whether a value is an input of the main graph, moved perhaps: the caller gives it."""
    makers = {name: node for scope in scopes for node in scope.graph.nodes for name in node.outputs if name}
    while name in makers and makers[name].op in (*data_movement.NAMES, "Split"):
        name = makers[name].input(0)
    return name in scopes[0].graph.inputs


def whole(scopes: Sequence[Scope], reader: TensorReader) -> FollowedNetwork:
    """The network that the main graph is, from its input to its outputs.

    Each possible choice of sizes is tried until one gives a network. The first failure is the one to report.
    """
    scope = scopes[0]
    if not any(node.op in LSTM_OPS for node in scope.graph.nodes):
        raise ValueError(other_recurrent.instead_of_lstm([each.graph for each in scopes], LSTM_OPS))
    source = _source(scope.graph)
    failure = None
    for inputs in _shapes(scope, source):
        found = _tried(scope, reader, inputs, source)
        if isinstance(found, FollowedNetwork):
            return found
        failure = failure or found
    raise failure or ValueError("no LSTM: expected a graph")


def _tried(
    scope: Scope, reader: TensorReader, inputs: Mapping[str, tuple[int, ...]], source: str
) -> FollowedNetwork | ValueError:
    """The network for inputs of these shapes, or why there is none."""
    swapped = {name: _swapped(scope, name, shape, name == source) for name, shape in inputs.items()}
    scope = scope._replace(known={})
    try:
        found = whole_graph(scope, copy(reader), inputs, source)
        if swapped != inputs:  # again with other sizes, so that no constant in the graph equals a size by chance
            whole_graph(scope, copy(reader), swapped, source)
        return found
    except ValueError as error:
        return error.with_traceback(None)  # a traceback would keep this attempt's weights in memory


def named(scopes: Sequence[Scope], reader: TensorReader, prefix: str) -> FollowedNetwork:
    """The LSTM node of that name, or a chain of the LSTM nodes whose names begin with it and a slash."""
    within = [(scope, [n for n in scope.graph.nodes if _within(n, prefix) and n.op in LSTM_OPS]) for scope in scopes]
    within = [(scope, _different(scope, chosen)) for scope, chosen in within if chosen]
    if len(within) > 1:
        places = ", ".join(repr(chosen[0].name) for _, chosen in within[:6])
        raise ValueError(f"prefix {prefix[:100]!r}: expected LSTM nodes of one graph, got {len(within)} with {places}")
    if within:
        scope, chosen = within[0]
        found, _ = (chosen_nodes(scope, copy(reader), chosen, sizes) for sizes in (OPEN, OPEN[::-1]))  # as in _tried
        return found._replace(rows_first=_takes_rows_first(chosen[0]) != _is_swapped(scope, chosen[0]))
    other = next(
        (n for scope in scopes for n in scope.graph.nodes if _within(n, prefix) and n.op in other_recurrent.NAMES), None
    )
    names = [node.name for node, _ in lstms(scopes)]
    places = ", ".join(map(repr, names[:6])) + (" and others" if len(names) > 6 else "") if names else "none"
    got = f"{other}: {other_recurrent.NAMES[other.op]}" if other else "no such node"
    raise ValueError(f"prefix {prefix[:100]!r}: expected the name of an LSTM node, got {got}; LSTM nodes: {places}")


def _takes_rows_first(node: Node) -> bool:
    return node.op == "LSTM" and node.attribute("layout", "i", 0) == 1


def _is_swapped(scope: Scope, node: Node) -> bool:
    """Whether the model swaps the first two axes of what this node takes."""
    makers = {name: each for each in scope.graph.nodes for name in each.outputs if name}
    maker = makers.get(node.input(0))
    while maker is not None and maker.op in _AXES_STAY:
        maker = makers.get(maker.input(0))
    return maker is not None and maker.op == "Transpose" and [*maker.attribute("perm", "ints", [])[:4]] == [1, 0, 2]


def _different(scope: Scope, chosen: list[Node]) -> list[Node]:
    """The nodes, and of written-out cells of one name and the same weights the first: they are the steps of a loop."""
    kept: list[Node] = []
    seen: dict[str, LSTMNode] = {}
    for node in chosen:
        cell = scope.cells.get(tuple(node.outputs))
        if cell and node.name in seen and cell.has_weights_of(seen[node.name]):
            continue
        if cell:
            seen[node.name] = cell
        kept.append(node)
    return kept


def lstms(scopes: Sequence[Scope]) -> Iterator[tuple[Node, Mapping[str, Array]]]:
    """Every LSTM node, with the constants around it."""
    return ((node, scope.constants) for scope in scopes for node in scope.graph.nodes if node.op in LSTM_OPS)


def scopes(model: Any, reader: TensorReader) -> list[Scope]:
    """The main graph and the bodies in it, each with the constants that it sees."""
    found: list[Scope] = []
    functions = Functions(model, reader.file_size)
    _collect(found, Body(model.graph, Call()), functions, (), {}, reader, 0)
    return found


def _collect(
    found: list[Scope],
    body: Body,
    functions: Functions,
    names: Container[str],
    outside: Mapping[str, Array],
    reader: TensorReader,
    depth: int,
) -> None:
    if depth > MOST_NESTING:
        raise ValueError(f"expected at most {MOST_NESTING} graphs in one another, got more")
    graph = onnx_graph.graph(body, functions, names)
    constants = Constants(graph, reader, outside)
    graph = fold.with_plain_lstms(graph, constants, reader)
    cells = written_cell.fused(graph, constants, reader)
    found.append(Scope(cells.graph, constants, cells.known, {}))
    own = {*graph.initializers, *graph.inputs, *(name for node in graph.nodes for name in node.outputs)}
    visible = onnx_graph.Visible(own, names)
    for node in graph.nodes:
        for inner in nodes.bodies(node):
            _collect(found, inner, functions, visible, constants, reader, depth + 1)


def _within(node: Node, prefix: str) -> bool:
    """PyTorch exports a module "encoder" as nodes such as "/encoder/LSTM"."""
    name, place = node.name.strip("/"), prefix.strip("/")
    return node.name == prefix or name == place or name.startswith(f"{place}/")


def _source(graph: Graph) -> str:
    """The graph's input that the first LSTM's X comes from."""
    first = next(node for node in graph.nodes if node.op in LSTM_OPS)
    makers = {name: node for node in graph.nodes for name in node.outputs if name}
    seen, waiting = set[str](), [first.input(0)]
    while waiting:
        name = waiting.pop()
        if name and name not in seen:
            seen.add(name)
            waiting += makers[name].inputs if name in makers else []
    sources = [name for name in graph.inputs if name in seen]
    if len(sources) != 1:
        raise ValueError(f"{first}: X: expected to come from one input of the graph, got {sources[:6] or 'none'}")
    return sources[0]


def _swapped(scope: Scope, name: str, shape: tuple[int, ...], is_source: bool) -> tuple[int, ...]:
    """The other sizes of open axes. x's last axis and the declared sizes of a state are the network's own."""
    declared = _declared(scope.graph.inputs[name])
    open_axes = [axis < len(shape) - 1 if is_source else declared[axis] is None for axis in range(len(shape))]
    return tuple(_SWAPPED.get(size, size) if is_open else size for size, is_open in zip(shape, open_axes, strict=True))


_SWAPPED = {OPEN[0]: OPEN[1], OPEN[1]: OPEN[0]}


def _shapes(scope: Scope, source: str) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes of the inputs to try: as declared; an open axis has any size, or one that a Reshape has as a constant."""
    declared = {name: _declared(info) for name, info in scope.graph.inputs.items()}
    x = declared[source]
    if len(x) not in (2, 3):
        raise ValueError(f"graph input {source!r}: expected shape (T, B, I), (B, T, I) or (T, I), got {x}")
    width = x[-1] if x[-1] is not None else _input_size(scope)
    fixed = _fixed(scope)
    choices = [
        [given, size] if given is not None else [size, *fixed] for size, given in zip(OPEN, x[:-1], strict=False)
    ]
    # At last, any size for every axis: declared sizes may be too large to follow, and may not matter.
    for sizes in dict.fromkeys((*product(*choices), OPEN[: len(choices)])):
        for rows in dict.fromkeys((sizes[-1], sizes[0]) if len(x) == 3 else (1, sizes[0])):
            others = {name: tuple(rows if e is None else e for e in shape) for name, shape in declared.items()}
            yield {**others, source: (*sizes, width)}


def _declared(info: Any) -> tuple[int | None, ...]:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type") or not kind.HasField("shape"):
        return (None, None, None)
    sizes = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)
    if any(size is not None and size < 0 for size in sizes) or len(sizes) > 8:
        raise ValueError(f"graph input {info.name!r}: expected sizes of at least 0, got {sizes[:8]}")
    return sizes


def _input_size(scope: Scope) -> int:
    node = next(node for node in scope.graph.nodes if node.op in LSTM_OPS)
    if node.op != "LSTM":
        return scope.cells[tuple(node.outputs)].input_size
    integers = scope.constants.integers(node.input(1)) if isinstance(scope.constants, Constants) else None
    W = integers.values if integers else scope.constants.get(node.input(1))
    if W is None or W.ndim != 3:
        raise ValueError(f"{node}: W: expected constants of shape (D, 4H, I), got {node.input(1)!r}")
    return int(W.shape[2])


def _fixed(scope: Scope) -> list[int]:
    """The first two sizes in constant targets of Reshapes: exporters write those of their example input there."""
    targets = (
        scope.constants[node.input(1)]
        for node in scope.graph.nodes
        if node.op == "Reshape" and node.output(0) not in scope.constants and node.input(1) in scope.constants
    )
    leading = (int(size) for target in islice(targets, 100) if target.ndim == 1 for size in target[:2] if size > 0)
    return list(dict.fromkeys(leading))[:MOST_FIXED]
