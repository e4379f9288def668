"""gradients: of a loss over a whole collection, for training on several machines."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dask.array as da
import numpy as np
from dask.array import Array as DaskArray
from dask.bag import Bag
from dask.base import tokenize
from dask.delayed import Delayed, delayed

from lstmkernel.backends.packing import Array
from lstmkernel.dask import arrays, bags, ragged_rows
from lstmkernel.dask.worker_network import Net, WorkerNetwork, on_workers

#: ``loss(out, state, targets) -> (value, d_out)`` or ``(value, d_out, d_state)``.
Loss = Callable[[Array, Any, Any], Sequence[Any]]
#: The loss, and the gradient of every parameter.
Answer = tuple[float, dict[str, Array]]

#: How many answers one task adds up.
FAN_IN = 8


def gradients(
    net: Net, collection: Any, loss: Loss, targets: Any = None, *, lengths: Any = None, num_threads: int = 1
) -> Delayed:
    """The loss and its gradients, summed over the chunks of a collection: a lazy ``(value, {name: gradient})``.

    The sum is taken in the order of the chunks. So the result depends on how the collection is divided, but not on the
    number of workers, their threads or which of them was quick.

    Parameters
    ----------
    net
        An LSTM, or a Stack, with the weights that it has now.
    collection
        - A dask.array (T, B, I), or (B, T, I) if ``net`` is batch_first.
        - A dask.bag of pairs (x, target): x (T_i, I), rows of unequal length, and anything as target.
    loss
        ``loss(out, (h_n, c_n), targets)`` of one chunk returns ``(value, d_out)``: its part of the loss, a number, and
        the gradient of ``out``, of its shape or None. It may return ``(value, d_out, (d_h_n, d_c_n))`` as well. For a
        bag it is called for each pair alone, with out (T_i, O) and its target. For a mean, divide by the number of all
        rows, not of those in the chunk. It must be a function that workers can unpickle.
    targets
        For an array, a dask.array that goes to the loss in the chunks of x's rows: (B,) or (B, K), one for each row,
        or of three dimensions in the order of x. None gives the loss None.
    lengths, num_threads
        As for ``score``.

    Returns a Delayed. Its value is the loss and the gradients under the names of ``net.state_dict()``. Chunks without
    rows count as 0. Raises as ``score``.
    """
    node = on_workers(net, num_threads)
    if isinstance(collection, DaskArray):
        chunks = _array_chunks(net, collection, targets, lengths)
    elif isinstance(collection, Bag):
        if targets is not None or lengths is not None:
            raise ValueError("targets, lengths: expected None for a bag, whose pairs have both")
        chunks = [(part, None, None) for part in collection.to_delayed()]
    else:
        raise TypeError(
            f"collection: expected a dask.array or a dask.bag of pairs, got {type(collection).__name__}; "
            "frame[['x', 'target']].to_bag() makes a bag of a dask.dataframe"
        )
    one = _of_array if isinstance(collection, DaskArray) else _of_pairs
    token = tokenize(node.key, loss, [[part if part is None else part.key for part in chunk] for chunk in chunks])
    parts = [
        delayed(one, pure=True)(node, loss, *chunk, dask_key_name=f"lstm_gradients-{token}-{place}")
        for place, chunk in enumerate(chunks)
    ]
    return _tree(parts, token)


def _array_chunks(net: Net, x: da.Array, targets: Any, lengths: Any) -> list[tuple[Any, Any, Any]]:
    """(x, targets, lengths) of each chunk of rows."""
    x = arrays.in_rows(net, x)
    parts = list(x.to_delayed().reshape(-1))
    nothing = [None] * len(parts)
    of_targets = of_lengths = nothing
    if targets is not None:
        targets = da.asarray(targets)
        axis = arrays.row_axis(net) if targets.ndim == 3 else 0
        of_targets = list(arrays.in_chunks_of(net, x, "targets", targets, axis=axis).to_delayed().reshape(-1))
    if lengths is not None:
        of_lengths = list(arrays.lengths_in_rows(net, x, lengths).to_delayed().reshape(-1))
    return list(zip(parts, of_targets, of_lengths, strict=True))


def _tree(parts: list[Delayed], token: str) -> Delayed:
    """The sum of all parts, always in the same order."""
    level = 0
    while len(parts) > 1 or level == 0:
        groups = [parts[start : start + FAN_IN] for start in range(0, len(parts), FAN_IN)]
        parts = [
            delayed(_added, pure=True)(group, dask_key_name=f"lstm_gradients_sum-{token}-{level}-{place}")
            for place, group in enumerate(groups)
        ]
        level += 1
    return parts[0]


def _added(parts: list[Answer]) -> Answer:
    value, total = 0.0, {name: np.zeros_like(gradient) for name, gradient in parts[0][1].items()}
    for more, named in parts:
        value += more
        for name, gradient in named.items():
            total[name] += gradient
    return value, total


def _of_array(network: WorkerNetwork, loss: Loss, x: Array, targets: Any, lengths: Any) -> Answer:
    net: Any = network.net
    if not x.shape[arrays.row_axis(net)]:
        return _nothing(net)
    out, state, tape = net.forward(x, lengths=lengths)
    value, d_out, d_state = _of_loss(loss(out, state, targets))
    return value, _parameters(net, net.backward(tape, d_out, d_state))


def _of_pairs(network: WorkerNetwork, loss: Loss, pairs: Iterable[tuple[Any, Any]], *_: None) -> Answer:
    """One partition. Rows are padded to learn together; the loss sees each without its padding."""
    net: Any = network.net
    sequences, targets = _unzipped(pairs)
    flat, offsets = bags.joined(network, sequences)
    value, total = _nothing(net)
    for group in ragged_rows.padded(net, flat, offsets):
        out, state, tape = net.forward(group.x, lengths=group.lengths)
        d_out = np.zeros_like(out)
        by_row, d_by_row = ragged_rows.rows_first(net, out), ragged_rows.rows_first(net, d_out)
        for place, (row, steps) in enumerate(zip(group.rows, group.lengths, strict=True)):
            answer = loss(by_row[place, :steps], _state_of(state, place), targets[row])
            more, d_row, d_state = _of_loss(answer)
            if d_state is not None:
                raise ValueError("loss: expected (value, d_out) for a pair of a bag, got d_state, too")
            value += more
            if d_row is not None:
                d_by_row[place, :steps] = _of_shape(d_row, by_row[place, :steps])
        for name, gradient in _parameters(net, net.backward(tape, d_out)).items():
            total[name] += gradient
    return value, total


def _unzipped(pairs: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    sequences, targets = [], []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"collection: expected a bag of pairs (x, target), got {type(pair).__name__} in it")
        sequences.append(pair[0])
        targets.append(pair[1])
    return sequences, targets


def _state_of(state: Any, row: int) -> Any:
    """One row's (h, c), or those of each LSTM of a Stack."""
    return tuple(part[:, row] if isinstance(part, np.ndarray) else _state_of(part, row) for part in state)


def _of_loss(answer: Any) -> tuple[float, Any, Any]:
    """The loss's value, d_out and d_state."""
    if not isinstance(answer, tuple | list) or len(answer) not in (2, 3):
        raise TypeError(f"loss: expected it to return (value, d_out) or (value, d_out, d_state), got {answer!r:.80}")
    value, d_out, d_state = (*answer, None)[:3]
    if np.ndim(value) != 0:
        raise ValueError(f"loss: expected a number as value, got an array of shape {np.shape(value)}")
    return float(value), d_out, d_state


def _of_shape(d_row: Any, out: Array) -> Array:
    if np.shape(d_row) != out.shape:
        raise ValueError(f"loss: expected d_out of out's shape {out.shape}, got {np.shape(d_row)}")
    return np.asarray(d_row)


def _parameters(net: Net, named: dict[str, Array]) -> dict[str, Array]:
    """The gradients of the parameters alone."""
    return {name: named[name] for name in net.state_dict()}


def _nothing(net: Net) -> Answer:
    return 0.0, {name: np.zeros_like(value) for name, value in net.state_dict().items()}
