"""Model: what an LSTM and a Stack have in common, every way to run over a sequence but the call itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

import numpy as np
from numpy.typing import ArrayLike

from lstmkernel.backends.packing import Array
from lstmkernel.engine import inputs
from lstmkernel.engine.chain import Chain
from lstmkernel.engine.expects import warn_without
from lstmkernel.engine.fixed_attributes import FixedAttributes
from lstmkernel.engine.last import last
from lstmkernel.engine.network import Network
from lstmkernel.engine.quantizing import certificate_of
from lstmkernel.engine.ragged import ragged
from lstmkernel.engine.windows import windows

if TYPE_CHECKING:
    from lstmkernel.certificate import Certificate
    from lstmkernel.pool import Pool
    from lstmkernel.stream import Stream
    from lstmkernel.window import Window


class Model(FixedAttributes, ABC):
    """The base of ``LSTM`` and ``Stack``."""

    @property
    @abstractmethod
    def engine(self) -> Network | Chain:
        """What runs: packed, with the current parameters. Its interface may change."""

    @property
    def input_size(self) -> int:
        """I: how many numbers x has at each time step."""
        return self.engine.input_size

    @property
    def in_features(self) -> int:
        """As ``input_size``: what a Dense calls it."""
        return self.engine.input_size

    @property
    def out_features(self) -> int:
        """The width of ``out``: D * R, or that of the last layer."""
        return self.engine.out_features

    @property
    def batch_first(self) -> bool:
        """Whether batched x and out are (B, T, ...)."""
        return self.engine.batch_first

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: the type of weights, inputs, states and outputs."""
        return self.engine.dtype

    @property
    @abstractmethod
    def precision(self) -> str:
        """What the LSTMs' weights are rounded to: "float16" or "int8" after ``quantize``, else the dtype's name."""

    @property
    @abstractmethod
    def activations(self) -> str:
        """What the LSTMs' weights are multiplied by: "int16" or "int8" for "int8" weights, else the dtype's name."""

    @property
    @abstractmethod
    def backend(self) -> str:
        """The backend that runs, for example "c:avx2"; several joined by commas where layers differ."""

    @property
    @abstractmethod
    def num_threads(self) -> int | None:
        """The bound on threads; None for no bound."""

    @property
    def gives(self) -> str | None:
        """Where the file of the network says that its model gives something else than every step of ``out``: what.

        "last step": ``net.last(x)`` gives that. "first step", "last states" (h_n), "reverse" or "a part". Else None.
        """
        found = (network.options.notes.gives for network in Chain.of(self.engine).networks)
        return next((gives for gives in found if gives), None)

    @property
    def sample_rate(self) -> float | None:
        """Hz, of the sound that the network was made for, where its file says so; else None."""
        found = (network.options.notes.sample_rate for network in Chain.of(self.engine).networks)
        return next((rate for rate in found if rate), None)

    @property
    def certificate(self) -> Certificate | None:
        """How far the model was measured to be off the float64 one, on which data: it prints as a table.

        ``quantize(calibrate=)`` makes it, and ``save`` and pickles keep it. None for a model that was not measured, and
        where its weights have changed since: the weights are compared each time.
        """
        return certificate_of(Chain.of(self.engine))

    @property
    @abstractmethod
    def plan(self) -> Any:
        """What ``compile`` measured and chose; None for a model that ``compile`` did not make."""

    # ---------------------------------------------------------------- each has its own

    @abstractmethod
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every parameter's name and shape."""

    @abstractmethod
    def state_dict(self) -> dict[str, Array]:
        """Every parameter by its name: read-only arrays of the model's dtype."""

    @abstractmethod
    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every parameter. An error changes none."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Plain values, from which and the parameters ``from_config`` makes the model."""

    @abstractmethod
    def __call__(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        reset: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        out: Array | None = None,
    ) -> tuple[Array, Any]:
        """Run over a sequence: ``out``, and the last states, which go into the next call as ``state``."""

    @abstractmethod
    def forward(
        self,
        x: ArrayLike,
        state: Any = None,
        *,
        lengths: ArrayLike | None = None,
        checkpoint_every: SupportsIndex | None = None,
    ) -> tuple[Array, Any, Any]:
        """Run as a call does, and record a tape for ``backward``."""

    @abstractmethod
    def backward(self, tape: Any, d_out: ArrayLike | None, d_state: Any = None) -> dict[str, Array]:
        """Gradients of a loss, from those of what ``forward`` returned."""

    @abstractmethod
    def quantize(
        self,
        precision: str | None = None,
        activations: str | None = None,
        calibrate: Any = None,
        *,
        weights: str | None = None,
        max_error: float | None = None,
    ) -> Model:
        """The same model with weights of fewer bits, which never change."""

    @abstractmethod
    def compile(
        self,
        batch_size: SupportsIndex = 1,
        steps: SupportsIndex | None = None,
        num_threads: int | None = None,
        *,
        stream: bool = False,
        refresh: bool = False,
    ) -> Model:
        """The same model on the kernels that are fastest for inputs of these sizes."""

    # ---------------------------------------------------------------- both have

    def last(
        self, x: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None, mask: ArrayLike | None = None
    ) -> Array:
        """``out`` at each row's last step alone: (B, out_features), or (out_features,) for an unbatched x.

        Its numbers are bit-identical to ``out`` of a call at that step. A call stores ``out`` of every step;
        ``last`` does not, and its memory does not grow with T, unless a backward direction reads the output of a layer
        below. Dense layers at the end run once a row. Arguments and errors as for a call.

        With ``lengths``, a row's last step is step ``lengths - 1``. A row without any step gives 0, as ``out`` is 0
        past a row's end. At a row's last step, a backward direction has taken one step only; its state after all of
        the row is in h_n of a call.

        With ``mask``, a row's last step is the last one that is not skipped, as if the row had only those; a row that
        is skipped as a whole gives what a call gives there. The steps that are not skipped are copied.
        """
        chain = Chain.of(self.engine)
        given = [state] if isinstance(self.engine, Network) else inputs.states_given(chain, state)
        for network in chain.networks:
            warn_without(network, lengths, mask)
        return last(chain, x, given, lengths, mask)

    def stream(self, batch_size: int = 1) -> Stream:
        """The same model as a ``Stream`` of ``batch_size`` rows, which keeps its states from call to call.

        Raises ValueError for a model that is bidirectional or reverse: a backward direction needs the whole sequence
        first.
        """
        from lstmkernel.stream import Stream

        return Stream(self, batch_size)

    def pool(self, capacity: SupportsIndex) -> Pool:
        """A ``Pool`` of at most ``capacity`` streams, which take steps together. Raises as ``stream``."""
        from lstmkernel.pool import Pool

        return Pool(self, capacity)

    def window(self, length: SupportsIndex, batch_size: SupportsIndex = 1) -> Window:
        """A ``Window``: at each new input, the answer for the last ``length`` inputs. Raises as ``stream``."""
        from lstmkernel.window import Window

        return Window(self, length, batch_size)

    def windows(
        self, x: ArrayLike, length: SupportsIndex, stride: SupportsIndex = 1, *, out: Array | None = None
    ) -> Array:
        """The answer for every window of a recording: ``last`` of each ``x[i * stride : i * stride + length]``.

        x: (T, I), or (T, B, I), or (B, T, I) with ``batch_first``. Returns (W, out_features), (W, B, out_features) or
        (B, W, out_features) for the W = (T - length) // stride + 1 windows. No window is copied, and no other output
        is stored. The numbers are bit-identical to those of a call of each window alone, from the first states.

        out: where to write the answer, as in a call. It may be a file: ``numpy.lib.format.open_memmap``.

        Long work shows a progress bar, if stderr is a terminal.

        Raises ValueError for a wrong shape, for fewer than ``length`` steps and for sizes below 1, and TypeError for a
        wrong dtype.
        """
        return windows(self.engine, x, length, stride, out)

    @overload
    def ragged(
        self, flat: Sequence[ArrayLike], offsets: None = None, *, state: Any = None, out: Array | None = None
    ) -> tuple[list[Array], Any]: ...
    @overload
    def ragged(
        self,
        flat: Any,
        offsets: ArrayLike | None = None,
        *,
        state: Any = None,
        last: bool = False,
        out: Array | None = None,
    ) -> tuple[Array, Any]: ...
    def ragged(
        self,
        flat: Any,
        offsets: ArrayLike | None = None,
        *,
        state: Any = None,
        last: bool = False,
        out: Array | None = None,
    ) -> tuple[Any, Any]:
        """Run over rows of unequal length that lie one after the other in one array, as in Arrow. Nothing is padded.

        Parameters
        ----------
        flat
            (N, I): the steps of all rows; real numbers, cast block by block. Or, without ``offsets``, a list of arrays
            (T, I), one for each row; or a column of Arrow (a pyarrow Array or ChunkedArray) with a list of lists of I
            numbers for each row, or a list of numbers if I is 1. Arrow's numbers are not copied, unless they lie in
            several chunks.
        offsets
            (rows + 1,), integers: row r has the steps ``flat[offsets[r]:offsets[r + 1]]``. They begin at 0 or later and
            never decrease; a row may be empty. From lengths: ``numpy.concatenate([[0], numpy.cumsum(lengths)])``.
            Without that 0, the first row would be left out.
        state
            The first states of the rows, of the shapes in which the last ones are returned; None as in a call.
        last
            Only the output at each row's last step, as ``net.last`` gives it. The others are not stored, and Dense
            layers at the end run once a row.
        out
            Where to write the output: C-contiguous, of the right shape and dtype, overlapping no input. A call that is
            interrupted may have written part of it.

        Returns
        -------
        out
            (N, out_features), row for row where the steps of ``flat`` are; 0 at steps of no row. For a list, a list of
            arrays (T, out_features), which are views of one array. For a column, N counts the steps of its rows. With
            ``last`` always (rows, out_features), and 0 for a row without steps.
        (h_n, c_n)
            The last states of the rows, (L*D, rows, R) and (L*D, rows, H); a Stack has one such pair for each LSTM.
            They can be the ``state`` of the next call, in which each row goes on.

        Each row gives the bits of a call of its own. Long work shows a progress bar, if stderr is a terminal.

        Raises ValueError for a wrong shape or offset and for missing values, and TypeError for a wrong dtype, before
        anything is written.
        """
        return ragged(self.engine, flat, offsets, state, last, out)
