"""lstmkernel explain: it shows the numbers of the model, writes its pictures, and its errors are one line."""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lstmkernel as lk
from lstmkernel.cli import main
from lstmkernel.workbench.explain import example as explain_example
from lstmkernel.workbench.explain.explained import explained

PICTURES = ("gates", "gradient", "grid")
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.fixture(autouse=True)
def plain_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def says(capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """``says(*arguments)``: the lines that explain prints."""

    def says(*arguments: str) -> list[str]:
        assert main(["explain", *arguments]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return says


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., tuple[list[str], lk.LSTM, Any]]:
    """``recorded(T, *sizes, **options)``: arguments, the model and its input."""

    def recorded(T: int, *sizes: int, **options: Any) -> tuple[list[str], lk.LSTM, Any]:
        lstm = lk.LSTM(*sizes, **options, seed=0)
        x = np.random.default_rng(0).standard_normal((T, lstm.input_size), np.float32)
        weights, file = str(tmp_path / "w.safetensors"), str(tmp_path / "x.npy")
        lk.save(lstm, weights)
        np.save(file, x)
        return ["--weights", weights, file], lstm, x

    return recorded


def numbers(lines: list[str], label: str) -> list[float]:
    """Of the one line that has the label."""
    (line,) = [line for line in lines if label in line]
    return [float(text) for text in NUMBER.findall(line.split(label)[1])]


def example() -> tuple[lk.LSTM, list[str], Any]:
    """What is explained where nothing is given."""
    words = ["Enemy", "forces", "will", "attack", "at", "dawn", "."]
    lstm = explain_example.network(4, 4, 3, 1)
    return lstm, words, np.stack([explain_example.embedded(word, 4) for word in words])


# ---------------------------------------------------------------- what it prints


@pytest.mark.parametrize(("asked", "k", "t"), [([], 0, 3), (["--layer", "2", "--word", "DAWN"], 2, 5)])
def test_the_four_moves_have_the_models_numbers(
    says: Callable[..., list[str]], asked: list[str], k: int, t: int
) -> None:
    lstm, words, x = example()
    trace = lk.trace(lstm, x)
    i, f, g, o, c, h = (part[k, t] for part in trace)
    lines = says(*asked)
    assert f"layer {k} at step {t}, {words[t]}" in "\n".join(lines)
    assert all(len(line) <= 80 for line in lines)
    expected = {
        "x_t     ": trace.h[k - 1, t] if k else x[t],
        "h of the step before": trace.h[k, t - 1],
        "c of the step before": trace.c[k, t - 1],
        "f_t = sigmoid(z_f)": f,
        "what is kept": f * trace.c[k, t - 1],
        "i_t = sigmoid(z_i)": i,
        "g_t = tanh(z_g)": g,
        "what is written": i * g,
        "c_t = f_t * c_{t-1} + i_t * g_t": c,
        "o_t = sigmoid(z_o)": o,
        "  tanh(c_t)": np.tanh(c),
        "h_t = o_t * tanh(c_t)": h,
    }
    for label, values in expected.items():
        got = numbers(lines, label)[-4:]
        np.testing.assert_allclose(got, values, atol=0.0006, err_msg=label)


def test_the_grid_is_the_trace_and_names_the_results(says: Callable[..., list[str]]) -> None:
    lstm, words, x = example()
    out, (h_n, c_n) = lstm(x)
    trace = lk.trace(lstm, x)
    lines = says()
    (heads,) = [n for n, line in enumerate(lines) if line.split() == [*words, "h_n", "c_n"]]
    for row, layer in enumerate((2, 1, 0)):
        first = heads + 1 + 5 * row  # four units and a line of arrows
        assert lines[first].startswith(f"layer {layer}")
        assert lines[first + 1].count("→") == 7
        assert lines[first + 4].count("↑") == 7
        for unit in range(4):
            got = [float(text) for text in NUMBER.findall(lines[first + unit])]
            values = [*trace.h[layer, :, unit], h_n[layer, unit], c_n[layer, unit]]
            np.testing.assert_allclose(got, values, atol=0.006)
    for unit in range(4):
        got = [float(text) for text in NUMBER.findall(lines[heads + 16 + unit])]
        np.testing.assert_allclose(got, x[:, unit], atol=0.006)
    for name, array in (("out", out), ("h_n", h_n), ("c_n", c_n)):
        assert any(line.startswith(f"{name}  {array.shape}") for line in lines)


def test_at_the_first_step_nothing_is_remembered(says: Callable[..., list[str]]) -> None:
    lines = says("One, two.", "--step", "0", "--layer", "1")
    assert numbers(lines, "h of the step before") == numbers(lines, "c of the step before") == [0, 0, 0, 0]


def test_one_word_is_enough(says: Callable[..., list[str]]) -> None:
    assert any("layer 0 at step 0, Stop" in line for line in says("Stop"))


def test_long_sequences_show_the_steps_around_the_chosen_one(
    says: Callable[..., list[str]], recorded: Callable[..., Any]
) -> None:
    given, lstm, x = recorded(300, 6, 9)
    lines = says(*given, "--step", "40")
    assert any(line.split() == [*map(str, range(37, 44)), "h_n", "c_n"] for line in lines)
    assert sum("…" in line and "→" in line for line in lines) == 1
    np.testing.assert_allclose(
        numbers(lines, "c_t = f_t * c_{t-1} + i_t * g_t"), lk.trace(lstm, x).c[0, 40, :4], atol=6e-4
    )
    (line,) = [line for line in lines if line.startswith("layer 0")]
    _, (h_n, c_n) = lstm(x)
    shown = [float(text) for text in NUMBER.findall(line)][-2:]
    np.testing.assert_allclose(shown, [h_n[0, 0], c_n[0, 0]], atol=0.006)


def test_both_directions_and_a_projection(says: Callable[..., list[str]], recorded: Callable[..., Any]) -> None:
    given, lstm, x = recorded(9, 3, 5, 2, bidirectional=True, proj_size=4)
    trace = lk.trace(lstm, x)
    lines = says(*given, "--layer", "1", "--reverse", "--step", "7")
    np.testing.assert_allclose(numbers(lines, "c of the step before"), trace.c[3, 8, :4], atol=6e-4)
    np.testing.assert_allclose(numbers(lines, "h of layer 0"), trace.h[0, 7, :4], atol=6e-4)
    np.testing.assert_allclose(numbers(lines, "h_t = W_hr (o_t * tanh(c_t))"), trace.h[3, 7, :4], atol=6e-4)
    assert sum("←" in line for line in lines) == 2
    assert all(len(line) <= 80 for line in lines)


def test_a_stack_shows_its_first_lstm(says: Callable[..., list[str]], recorded: Callable[..., Any]) -> None:
    given, lstm, _ = recorded(4, 3, 5)
    lk.save(lk.Stack([lstm, lk.Dense(5, 1)]), given[1])
    assert any("LSTM 3 -> 5, 1 layer" in line for line in says(*given))


def test_words_are_always_the_same_vectors() -> None:
    """Of fixed letters; another release of NumPy that draws otherwise would change every lecture's numbers."""
    vector = explain_example.embedded("Attack", 4)
    np.testing.assert_array_equal(vector, explain_example.embedded("attack", 4))
    np.testing.assert_allclose(np.linalg.norm(vector), 1)
    np.testing.assert_allclose(vector, [-0.682, 0.339, -0.525, -0.379], atol=6e-4)
    assert explain_example.words("Don't panic: 2 of 3!") == ["Don", "'", "t", "panic", ":", "2", "of", "3", "!"]


def test_the_experiment_is_what_its_titles_say() -> None:
    found = explain_example.experiment()
    assert list(found) == ["forget bias 0", "forget bias 1", "forget bias 3"]
    ends = {}
    for title, curves in found.items():
        total, straight, other, vanishing, exploding = curves.values()
        assert all(len(sizes) == 201 for sizes in curves.values())
        assert (total[0], straight[0], other[0], vanishing[0], exploding[0]) == (1, 1, 0, 1, 1)
        assert vanishing[200] < 1e-50
        assert exploding[200] > 1e10
        ends[title] = total[200]
    assert ends["forget bias 0"] < 1e-40
    assert 1e-17 < ends["forget bias 1"] < 1e-15
    assert ends["forget bias 3"] > 0.1


# ---------------------------------------------------------------- its pictures


@pytest.mark.slow
def test_pictures(says: Callable[..., list[str]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    directory = tmp_path / "new" / "pictures"
    lines = says("--png-dir", str(directory))
    for name in PICTURES:
        assert any(line.startswith(f"written: {directory / name}.png (") for line in lines)
    assert sorted(path.name for path in directory.iterdir()) == [f"{name}.png" for name in PICTURES]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in directory.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("T", "sizes", "options"),
    [(1, (2, 1), {}), (250, (3, 6, 2), {"bidirectional": True, "proj_size": 5}), (13, (5, 40), {})],
)
def test_pictures_of_any_network(
    says: Callable[..., list[str]], recorded: Callable[..., Any], tmp_path: Path, T: int, sizes: Any, options: Any
) -> None:
    pytest.importorskip("matplotlib")
    given, _, _ = recorded(T, *sizes, **options)
    says(*given, "--png-dir", str(tmp_path))
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in PICTURES)


def test_what_the_pictures_show() -> None:
    pytest.importorskip("matplotlib")
    from lstmkernel.workbench.explain import flow, gates, grid

    lstm, words, x = example()
    shown = explained(lstm, x.astype("float32"), words)
    heat = gates.draw_gates(shown)
    images = [axes.images[0] for axes in heat.axes if axes.images]
    assert len(images) == 3 * 6
    for place, image in enumerate(images):
        layer, name = 2 - place // 6, list(gates.FIELDS)[place % 6]
        np.testing.assert_array_equal(image.get_array(), getattr(shown.trace, name)[layer].T)
    drawing = grid.draw_grid(shown, 3)
    texts = [text.get_text() for text in drawing.axes[0].texts]
    assert {*words, "out", "x", "c_n", "h_n", "layer 0", "layer 1", "layer 2", "out[6]"} <= set(texts)
    numbers = sum(bool(NUMBER.fullmatch(text)) for text in texts)
    assert numbers == 4 * (7 + 3 * (2 * 7 + 2))  # x, and of each layer c and h at seven words, c_n and h_n
    assert texts.count(f"{shown.trace.c[2, 6, 1]:.2f}") >= 2
    panels = explain_example.experiment()
    drawn = flow.draw_flow(panels)
    for axes, found in zip(drawn.axes, panels.values(), strict=True):
        for line, sizes in zip(axes.lines, found.values(), strict=False):
            np.testing.assert_array_equal(line.get_ydata()[sizes > 0], sizes[sizes > 0])


def test_of_many_units_those_that_change_most_are_drawn(recorded: Callable[..., Any]) -> None:
    pytest.importorskip("matplotlib")
    from lstmkernel.workbench.explain import gates

    _, lstm, x = recorded(50, 3, 40)
    shown = explained(lstm, x, [str(t) for t in range(50)])
    moves = np.ptp(shown.trace.c[0], axis=0)
    units = gates.chosen_units(shown.trace.c[0])
    assert len(units) == gates.MOST_UNITS
    assert sorted(moves[units]) == sorted(moves)[-gates.MOST_UNITS :]
    heat = gates.draw_gates(shown)
    assert "32 of 40 units" in heat.get_suptitle()
    (forget,) = heat.axes[0].images
    np.testing.assert_array_equal(forget.get_array(), shown.trace.f[0].T[units])
    assert [text.get_text() for text in heat.axes[0].get_yticklabels()] == [str(unit) for unit in units[::8]]


def test_the_gradients_axes_end_where_the_lines_end() -> None:
    pytest.importorskip("matplotlib")
    from lstmkernel.workbench.explain import flow

    fading = np.append(2.0 ** -np.arange(100), 0)
    limits = flow.flow_limits({"a": {"in total": fading, "road": fading[:10] / 2}})
    assert limits.steps == 49  # 2 ** -49 is the last one above 1e-15
    assert (limits.least, limits.most) == (flow.LOST, 3)
    limits = flow.flow_limits({"a": {"in total": fading[:11]}, "b": {"in total": np.array([1.0, 20])}})
    assert limits == (10, 2.0**-11, 60)
    limits = flow.flow_limits({"a": {"in total": np.array([1.0, 1e9, np.inf])}})
    assert limits.most == 3
    assert flow.flow_limits({"a": {"in total": np.ones(1), "other": np.zeros(1)}}) == (1, 0.1, 3)


def test_names_beside_lines_cover_no_line() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from lstmkernel.workbench.explain import flow

    drawn = flow.draw_flow(explain_example.experiment())
    FigureCanvasAgg(drawn).draw()
    for axes in drawn.axes:
        assert {text.get_text() for text in axes.texts} == set(flow.SHORT)
        boxes = [text.get_window_extent() for text in axes.texts]
        for line in axes.lines[:5]:
            points = axes.transData.transform(np.column_stack(line.get_data()))
            assert not any(box.count_contains(points) for box in boxes)
        assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_grids_legend_is_in_the_picture(recorded: Callable[..., Any], steps: int) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    from lstmkernel.workbench.explain import grid

    _, lstm, x = recorded(steps, 3, 40)
    drawing = grid.draw_grid(explained(lstm, x, [str(t) for t in range(steps)]), 0)
    texts = {text.get_text(): text for text in drawing.axes[0].texts}
    assert "units 0 to 3\nof 40" in texts
    FigureCanvasAgg(drawing).draw()
    page, boxes = drawing.bbox, [texts[entry].get_window_extent() for entry in grid.LEGEND]
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1 for box in boxes)
    assert not any(one.overlaps(other) for n, one in enumerate(boxes) for other in boxes[n + 1 :])


def test_a_missing_matplotlib_names_the_extra(
    says: Callable[..., list[str]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    there = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return there(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    assert says()
    assert main(["explain", "--png-dir", str(tmp_path / "p")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "lstmkernel: error: --png-dir: needs matplotlib; pip install 'lstmkernel[plot]'\n"
    assert not (tmp_path / "p").exists()


# ---------------------------------------------------------------- its errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["  "], "SENTENCE: expected words, got '  '"),
        (["--layer", "3"], "--layer: expected 0..2, got 3"),
        (["--layer", "-1"], "--layer: expected 0..2, got -1"),
        (["--step", "7"], "--step: expected 0..6, got 7"),
        (["--step", "-1"], "--step: expected 0..6, got -1"),
        (["--word", "noon"], "--word: expected a word of the sentence, got 'noon'"),
        (["--reverse"], "--reverse: this model has one direction"),
        (["--prefix", "a"], "--prefix: needs --weights"),
        (["--weights", "w.safetensors"], "--weights: needs INPUT.npy as well, an array (T, I)"),
        (["--weights", "nowhere.safetensors", "x.npy"], "nowhere.safetensors: no such file"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", *arguments]) == 2
    assert capsys.readouterr().err == f"lstmkernel: error: {said}\n"


def test_inputs_that_do_not_fit(capsys: pytest.CaptureFixture[str], recorded: Callable[..., Any]) -> None:
    given, _, x = recorded(4, 3, 5)
    for wrong, said in (
        (x[:, :2], r"expected shape \(T, 3\) or \(T, B, 3\), got \(4, 2\)"),
        (x[None], r"expected one sequence, shape \(T, 3\), got \(1, 4, 3\)"),
        (x[:0], r"expected one sequence, shape \(T, 3\), got \(0, 3\)"),
    ):
        np.save(given[2], wrong)
        assert main(["explain", *given]) == 2
        assert re.search(said, capsys.readouterr().err)
    np.save(given[2], x)
    assert main(["explain", *given, "--word", "1"]) == 2
    assert "--word: expected a word of the sentence" in capsys.readouterr().err
    lk.save(lk.Stack([lk.Dense(3, 4), lk.LSTM(4, 2)]), given[1])
    assert main(["explain", *given]) == 2
    assert "expected a network that begins with an LSTM" in capsys.readouterr().err


def test_a_file_without_weights_is_no_sentence(
    capsys: pytest.CaptureFixture[str], recorded: Callable[..., Any]
) -> None:
    given, _, _ = recorded(4, 3, 5)
    assert main(["explain", given[2]]) == 2
    assert "expected --weights with a file; without it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello world", "as numpy.save writes it: it begins with b'hello world'"),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a Git LFS pointer, .*; fetch the file: git lfs pull"),
        (b"<!DOCTYPE html><html>", "got a web page; download the file itself"),
    ],
)
def test_what_is_no_array_is_told(
    capsys: pytest.CaptureFixture[str], recorded: Callable[..., Any], content: bytes, said: str
) -> None:
    """NumPy takes any such file for a pickle, and advises to load it all the same."""
    given, _, _ = recorded(4, 3, 5)
    Path(given[2]).write_bytes(content)
    assert main(["explain", *given]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert "allow_pickle" not in error
    assert main(["run", *given, "-o", str(Path(given[2]).with_name("out.npy"))]) == 2
    assert b"hello" in content or re.search(said, capsys.readouterr().err)


def test_word_and_step_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "--word", "at", "--step", "1"])
    assert "not allowed with argument" in capsys.readouterr().err
