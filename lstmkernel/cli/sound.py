"""``lstmkernel run`` with a sound file: a stream processes it block by block; the output is a sound file, too."""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from time import perf_counter
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from lstmkernel.backends.packing import Array
from lstmkernel.formats import inspect
from lstmkernel.formats.errors import needed
from lstmkernel.host import files, numbers_text
from lstmkernel.workbench import progress
from lstmkernel.workbench.blockwise import cut
from lstmkernel.workbench.networks import Net

#: Frames of a block, at most. The cost of a call does not show, and the progress bar moves often enough.
BLOCK = 1 << 16

#: Channels of an Ogg file. Beyond, its library crashes.
MOST_CHANNELS_OF_OGG = 255

#: WAV and AIFF store their length in 32 bits. Bytes of a sample.
MOST_BYTES = (1 << 32) - (1 << 16)
BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}

#: Sample formats that the output takes over from the input. For others (MP3), the output has its format's default.
KEPT = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


class Played(NamedTuple):
    """The results of one run over the sound."""

    states: Any
    seconds: float  # of the network alone
    peak: float
    clipped: int  # samples


def run(arguments: argparse.Namespace, net: Net, save_states: Callable[[BinaryIO, Net, Any], None]) -> int:
    """Do ``run`` with sound. save_states(file, net, states) writes ``--state-out``."""
    sf = needed("soundfile", "audio", arguments.input)
    if (net.input_size, net.out_features) != (1, 1):
        raise ValueError(
            f"{arguments.weights}: expected a network of 1 input and 1 output for a sound file, got "
            f"{net.input_size} and {net.out_features}; give it an array (.npy) with all its inputs"
        )
    with ExitStack() as stack, _naming(sf, arguments.input):
        source = stack.enter_context(_opened(sf, arguments.input))
        _compare_rates(arguments.weights, arguments.input, source.samplerate)
        output_format, subtype = _kind_of_output(sf, arguments.output, source)
        output = stack.enter_context(files.replacing(arguments.output))
        state_output = stack.enter_context(files.replacing(arguments.state_out)) if arguments.state_out else None
        written = _Written(output)
        with _naming(sf, arguments.output, written):
            target = sf.SoundFile(written, "w", source.samplerate, source.channels, subtype, format=output_format)
        stack.enter_context(target)
        done = _play(net, source, target, arguments.output, partial(_naming, sf, arguments.output, written))
        with _naming(sf, arguments.output, written):
            target.close()  # which writes what is left
        if state_output:
            save_states(state_output, net, done.states)
    _report(arguments, net, source, subtype, done)
    return 0


class _Written:
    """The output for libsndfile, which does not tell every write that fails: the first error is kept."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: BaseException | None = None

    def write(self, data: Any) -> int:
        return self._kept(partial(self._file.write, data))

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._kept(partial(self._file.seek, offset, whence))

    def tell(self) -> int:
        return self._kept(self._file.tell)

    def _kept(self, call: Callable[[], int]) -> int:
        try:
            return 0 if self.error else call()
        except BaseException as error:  # also Ctrl-C, which would be lost in a function that C calls
            self.error = error
            return 0


def _play(
    net: Net, source: Any, target: Any, output: str, naming: Callable[[], AbstractContextManager[None]]
) -> Played:
    """Channels are rows of a batch, so each has its own states."""
    whole_numbers = target.subtype.startswith("PCM")
    frames = max(1, min(BLOCK, cut.steps_a_block(net, net.dtype.itemsize) // source.channels))
    stream, seconds, peak, clipped = net.stream(source.channels), 0.0, 0.0, 0
    with progress.bar() as bar:
        task = bar.add_task("run", total=source.frames)
        for block in source.blocks(frames, dtype=net.dtype.name, always_2d=True):
            if not np.isfinite(block).all():
                raise ValueError(f"{source.name}: expected samples that are numbers, got NaN or infinity")
            start = perf_counter()
            played: Array = stream(block[:, :, None])[:, :, 0]
            seconds += perf_counter() - start
            if not np.isfinite(played).all():
                raise ValueError(f"{output}: not written, because the network's output is not finite")
            loudest = float(np.abs(played).max(initial=0))
            peak = max(peak, loudest)
            if whole_numbers and loudest > 1:  # soundfile clips them
                clipped += int(np.count_nonzero(np.abs(played) > 1))
            with naming():
                target.write(played)
            bar.update(task, advance=len(block))
    return Played(stream.state, seconds, peak, clipped)


def _compare_rates(weights: str, path: str, rate: int) -> None:
    made_for = inspect(weights).sample_rate
    if made_for and made_for != rate:
        warnings.warn(
            f"{weights}: made for {made_for:g} Hz, but {path} has {rate} Hz and will sound different; resample first",
            stacklevel=2,
        )


def _opened(sf: Any, path: str) -> Any:
    try:
        return sf.SoundFile(path)
    except (TypeError, ValueError) as error:  # a .raw file, which has no header
        raise ValueError(f"{path}: expected a sound file that says its sample rate and channels: {error}") from error


def _kind_of_output(sf: Any, path: str, source: Any) -> tuple[str, str]:
    """The format of the file's suffix, and the input's sample format if that format has it."""
    suffix = os.path.splitext(path)[1][1:].upper()
    name = {"AIF": "AIFF", "OGA": "OGG"}.get(suffix, suffix)
    if name not in sf.available_formats():
        raise ValueError(f"{path}: expected a sound file's name, such as .wav, .flac or .aiff, got .{suffix.lower()}")
    if name == "OGG" and source.channels > MOST_CHANNELS_OF_OGG:
        raise ValueError(f"{path}: expected at most {MOST_CHANNELS_OF_OGG} channels, got {source.channels}")
    subtype = source.subtype
    subtype = subtype if subtype in KEPT and sf.check_format(name, subtype) else sf.default_subtype(name)
    size = source.frames * source.channels * BYTES.get(subtype, 4)
    if name in ("WAV", "AIFF") and MOST_BYTES < size < 1 << 60:  # of a stream, the number of frames is unknown
        raise ValueError(
            f"{path}: expected at most {MOST_BYTES / 1e9:.1f} GB in a file of this format, got {size / 1e9:.1f} GB; "
            "give it a name that ends in .w64 or .rf64"
        )
    return name, subtype


def _report(arguments: argparse.Namespace, net: Net, source: Any, subtype: str, done: Played) -> None:
    channels = "mono" if source.channels == 1 else f"{source.channels} channels"
    duration = source.frames / source.samplerate
    print(f"{arguments.input} {numbers_text.duration(duration)} {channels} {source.samplerate} Hz -> ", end="")
    print(f"{arguments.output} {subtype}")
    times = f", {duration / done.seconds:.3g} times real time" if done.seconds and duration else ""
    print(f"{net.backend}: {numbers_text.duration(done.seconds)}{times}")
    if done.clipped:
        over = 20 * np.log10(done.peak)
        print(f"clipped: {done.clipped} samples, by up to {over:.1f} dB; a sound file of floats would keep them")


@contextmanager
def _naming(sf: Any, path: str, written: _Written | None = None) -> Iterator[None]:
    """Turn the library's errors into one line that names the file, and those of writing into the system's."""
    try:
        yield
    except (sf.LibsndfileError, AssertionError) as error:  # it asserts that all was written
        if written and written.error:
            raise written.error from error
        message = getattr(error, "error_string", "not all of it could be written")
        raise ValueError(f"{path}: {message}") from error
    if written and written.error:
        raise written.error
