"""The tables of ``compare``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lstmkernel import backends
from lstmkernel.cli import console
from lstmkernel.host import numbers_text
from lstmkernel.tuning.accuracy import tolerance_text
from lstmkernel.tuning.candidates import SPECIALISED, promises_bits
from lstmkernel.workbench import inputs, narrow, rounding, workloads
from lstmkernel.workbench.results import BASELINE, Comparison, Result
from lstmkernel.workbench.roofline.bounds import Peaks

#: The style of what is wrong.
WRONG = "bold red"
#: Seconds of checking that need no word.
PATIENCE = 10.0
#: Columns that a narrow terminal does without, the first ones first.
LEAST_FIRST = ("Steps/s", "Compile", "at shape", "GFLOP/s", "least", "Agrees up to", "Reached")


def show(found: Comparison, out: Console) -> None:
    """The networks, the kernels, the backends that could not run, and the verdicts."""
    if workloads.NETWORK in found.backends:
        out.print(Text("Whole networks", "bold"))
        shown = _print(networks(found), out)
        out.print(f"\n{_legend(found, shown)}\n", style="dim", markup=False)
        if found.on_inputs:
            out.print(Text("Errors by input", "bold"))
            _print(errors_by_input(found), out)
            out.print(f"\n{INPUTS_LEGEND}\n", style="dim")
        out.print(Text("Kernels alone", "bold"))
        _print(kernels(found), out)
        out.print(f"\n{KERNELS_LEGEND}\n", style="dim")
    else:
        shown = _print(kernels_by_shape(found), out)
        out.print(f"\n{_legend(found, shown)}\n", style="dim", markup=False)
    for name, reason in found.unusable.items():
        out.print(Text(f"Not here: {name}: {reason.removeprefix(f'backend {name!r}: ')}", "dim"))
    if found.check_seconds > max(found.timing_seconds, PATIENCE):
        taken = (numbers_text.duration(seconds) for seconds in (found.check_seconds, found.timing_seconds))
        out.print(Text("Checking each backend took {}, and timing {}.".format(*taken), "dim"))
    for line in verdicts(found):
        out.print(line)


KERNELS_LEGEND = (
    "Kernels run on the first layer of every shape above. Error: the largest. xNumPy: the geometric mean over the "
    "shapes. least: xNumPy at the shape where it is smallest."
)


INPUTS_LEGEND = (
    "Errors as above. One step: the largest of all steps, each from the state that float64 has there. Sequence: of the "
    "whole, where each step hands its rounding on to the next. Agrees up to: 1, or more where the network magnifies "
    f"rounding: {rounding.MULTIPLE} times what float64 itself moves if every number is moved by one rounding. Quiet "
    f"noise has an amplitude of {inputs.QUIET:g}."
)


def _legend(found: Comparison, shown: Sequence[str]) -> str:
    """What the columns that are shown mean, and what was measured on the way."""
    columns = {
        "Shape": "B,T,I,H[,L[,D]]",
        "Compile": "time for all kernels, or for loading them from the cache",
        "Error": "the largest difference from the float64 reference, in multiples of "
        f"{tolerance_text(found.dtype)}; up to 1 agrees",
        "Time": "median of one call",
        "Steps/s": "time steps of all batch rows",
        "GFLOP/s": "of the matrix products",
        "xNumPy": "times as fast as NumPy",
        "Reached": "the least time that one core needs, as a part of the time taken",
    }
    meanings = [f"{name}: {meaning}." for name, meaning in columns.items() if name in shown]
    return " ".join([f"1 thread each, {found.dtype}.", *meanings, *([_peaks(found.peaks)] if found.peaks else [])])


def _peaks(peaks: Mapping[str, Peaks]) -> str:
    """What one core was measured to do."""
    wide = next(iter(peaks.values()))
    reads = [f"{rate / 1e9:.3g} GB/s from {numbers_text.size(size)}" for size, rate in sorted(wide.reads.items())]
    integers = [f"{each.flops / 1e9:.3g} with {name} weights" for name, each in peaks.items() if narrow.is_int8(name)]
    return (
        f"Measured on one core: {', '.join([f'{wide.flops / 1e9:.3g} GFLOP/s of fused multiply-adds', *integers])}; a "
        f"cell update in {numbers_text.duration(wide.cell)} a unit; reads of {', '.join(dict.fromkeys(reads))}."
    )


def networks(found: Comparison) -> Table:
    """A row for each case."""
    reached = ("Reached",) if found.bounds else ()
    table = _table("Shape", "Backend", right=("Compile", "Error", "Time", "Steps/s", "GFLOP/s", "xNumPy", *reached))
    for case in found.cases:
        results = found.of(workloads.NETWORK, case=case.name)
        label = dict.fromkeys((case.name, case.sizes, case.origin))  # the sizes may be the name
        compiled = [sum(found.compile_seconds[result.backend].values()) for result in results]
        table.add_row(
            _lines(Text(line, "dim" if line == case.origin else "") for line in label),
            _lines(result.backend for result in results),
            _lines(_compile(r.backend, seconds) for r, seconds in zip(results, compiled, strict=True)),
            _lines(_error(result.error, result.agrees) for result in results),
            _lines(numbers_text.duration(result.seconds) for result in results),
            _lines(numbers_text.count(result.steps_per_second) for result in results),
            _lines(numbers_text.digits(result.gflops or 0) for result in results),
            _lines(_ratio(result.times_numpy, result.backend) for result in results),
            *(_lines(_percent(found.reached(result)) for result in results) for _ in reached),
        )
        table.add_section()
    return table


def errors_by_input(found: Comparison) -> Table:
    """A row for each input of the user's own network."""
    table = _table("Input", "Backend", right=("One step", "Sequence", "Agrees up to"))
    for name in dict.fromkeys(result.input for result in found.on_inputs):
        results = [result for result in found.on_inputs if result.input == name]
        table.add_row(
            name,
            _lines(result.backend for result in results),
            _lines(_error(result.step, result.step <= 1) for result in results),
            _lines(_error(result.sequence, result.sequence <= result.limit) for result in results),
            numbers_text.digits(results[0].limit),
        )
        table.add_section()
    return table


def kernels(found: Comparison) -> Table:
    """A row for each kernel, over all cases."""
    table = _table("Kernel", "Backend", right=("Compile", "Error", "xNumPy", "least"))
    table.add_column("at shape", no_wrap=True)
    for kernel in backends.KERNELS:
        results_of = {name: found.of(kernel, backend=name) for name in found.backends[kernel]}
        least = [min(results, key=lambda result: result.times_numpy) for results in results_of.values()]
        table.add_row(
            kernel,
            _lines(results_of),
            _lines(_compile(name, found.compile_seconds[name][kernel]) for name in results_of),
            _lines(_largest_error(results) for results in results_of.values()),
            _lines(_ratio(found.mean_times_numpy(kernel, name), name) for name in results_of),
            _lines(_ratio(result.times_numpy, result.backend) for result in least),
            _lines("" if result.backend == BASELINE else result.case for result in least),
        )
        table.add_section()
    return table


def kernels_by_shape(found: Comparison) -> Table:
    """A row for each kernel and case. Kernels that were not timed come last."""
    reached = ("Reached",) if found.bounds else ()
    table = _table("Kernel", "Shape", "Backend", right=("Error", "Time", "GFLOP/s", "xNumPy", *reached))
    for kernel in found.backends:
        for case in found.cases:
            results = sorted(found.of(kernel, case=case.name), key=lambda result: result.seconds)
            wrong = found.wrong_in(kernel, case.name)
            names: list[str | Text] = [
                *(result.backend for result in results),
                *(Text(one.backend, WRONG) for one in wrong),
            ]
            errors = [*(_error(result.error, result.agrees) for result in results)]
            errors += [Text(one.word, WRONG) for one in wrong]
            table.add_row(
                kernel,
                _lines(dict.fromkeys((case.name, case.sizes))),
                _lines(names),
                _lines(errors),
                _lines(numbers_text.duration(result.seconds) for result in results),
                _lines("" if result.gflops is None else numbers_text.digits(result.gflops) for result in results),
                _lines(_ratio(result.times_numpy, result.backend) for result in results),
                *(_lines(_percent(found.reached(result)) for result in results) for _ in reached),
            )
            table.add_section()
    return table


def _table(*left: str, right: Iterable[str]) -> Table:
    """left: headings of text; right: headings of numbers. No cell is broken."""
    table = Table(box=box.SIMPLE, padding=0, show_edge=False)
    for heading in left:
        table.add_column(heading, no_wrap=True)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(table: Table, out: Console) -> list[str]:
    """Without the columns that matter least, where the terminal is too narrow for all. Returns the headings shown."""
    left_out = []
    for heading in LEAST_FIRST:
        if console.width_of(table, out) <= out.width:
            break
        if at := [i for i, column in enumerate(table.columns) if column.header == heading]:
            del table.columns[at[0]]
            left_out.append(heading)
    console.print_whole(out, table)
    if left_out:
        out.print(Text(f"Too narrow for: {', '.join(left_out)}", "dim"))
    return [str(column.header) for column in table.columns]


# ---------------------------------------------------------------- verdicts


def verdicts(found: Comparison) -> Iterable[Text]:
    """Lines that say whether all is right, and how fast the networks are."""
    if not backends.c_is_built():
        yield Text(f"NO C BACKEND, the fastest one. To get it, {backends.HOW_TO_GET_C}", WRONG)
    yield from _of_errors(found)
    yield from _of_bits(found)
    if workloads.NETWORK in found.backends:
        others = [name for name in found.backends[workloads.NETWORK] if name != BASELINE]
        means = [f"{name} {numbers_text.digits(found.mean_times_numpy(workloads.NETWORK, name))}" for name in others]
        yield Text(f"Times NumPy, geometric mean over the networks: {', '.join(means)}")


def _of_errors(found: Comparison) -> Iterable[Text]:
    for one in found.wrong:
        place = "" if one.case is None else f" in {one.case}"
        yield Text(f"{one.word}, and not timed{place}: {one.backend}: {one.why}", style=WRONG)
    if found.disagreeing or found.disagreeing_inputs:
        where = [
            *map(_where, found.disagreeing),
            *(f"{one.backend} on {one.input}" for one in found.disagreeing_inputs),
        ]
        yield Text(f"DISAGREE with the float64 reference: {'; '.join(where)}", style=WRONG)
    elif found.wrong:
        yield Text("Everything else agrees with the float64 reference.")
    else:
        narrow = ", apart from weights of fewer bits" if any(result.is_narrow for result in found.results) else ""
        yield Text(f"Every kernel and network agrees with the float64 reference{narrow}.", style="green")
    magnified = [result.case for result in found.results if result.limit > 1 and result.workload == workloads.NETWORK]
    magnified += [result.input for result in found.on_inputs if result.limit > 1]
    if magnified:
        yield Text(
            f"Rounding is magnified by the network itself, in {', '.join(dict.fromkeys(magnified))}: over a sequence, "
            f"no {found.dtype} result is close to float64 there; single steps are."
        )


def _of_bits(found: Comparison) -> Iterable[Text]:
    same = [name for name in found.names if promises_bits(name)]
    if found.other_bits:
        where = "; ".join(map(_where, found.other_bits))
        yield Text(f"NOT BIT-IDENTICAL to {same[0]}: {where}", style=WRONG)
    elif len(same) > 1:
        yield Text(f"Bit-identical everywhere: {', '.join(same)}.", style="green")


def _where(result: Result) -> str:
    return f"{result.backend} in {result.workload} of {result.case}"


# ---------------------------------------------------------------- cells


def _lines(cells: Iterable[str | Text]) -> Text:
    return Text("\n").join(cell if isinstance(cell, Text) else Text(cell) for cell in cells)


def _compile(backend: str, seconds: float) -> str:
    if backend.startswith("c:"):
        return "just now" if backend.endswith(SPECIALISED) else "prebuilt"
    return "none" if backend == BASELINE else numbers_text.duration(seconds)


def _largest_error(results: Sequence[Result]) -> Text:
    """NaN is larger than any number."""
    errors = [result.error for result in results]
    largest = max(errors, key=lambda error: error if error == error else float("inf"))
    return _error(largest, all(result.agrees for result in results))


def _error(multiple: float, agrees: bool) -> Text:
    return Text(
        f"{multiple:.3f}" if multiple < 10 else f"{multiple:.0f}" if multiple < 1e4 else f"{multiple:.0e}",
        "" if agrees else WRONG,
    )


def _percent(part: float | None) -> str:
    return "" if part is None else f"{part:.0%}"


def _ratio(times_numpy: float, backend: str) -> Text:
    slower = times_numpy < 1 and backend != BASELINE
    return Text(numbers_text.digits(times_numpy), "red" if slower else "")
