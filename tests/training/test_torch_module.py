"""lstmkernel.torch.LSTM and LSTMCell against torch.nn's: results, gradients, and what one does with modules."""

import gc

import numpy as np
import pytest
from helpers import Watched, run_python, sampled
from networks import options as options_of

torch = pytest.importorskip("torch")

import lstmkernel  # noqa: E402
import lstmkernel.torch  # noqa: E402
from lstmkernel.engine.tape import Tape  # noqa: E402

rnn = torch.nn.utils.rnn

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

#: How far a number may be off, relative to the largest one: of the results, and of the gradients.
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}

NETWORKS = {
    name: options_of(name)
    for name in ("plain", "batch first", "two directions", "projected", "without bias, projected, two directions")
} | {"dropout": {"num_layers": 3, "dropout": 0.5}}


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def options(request):
    """Arguments beside input_size and hidden_size."""
    return request.param


@pytest.fixture
def kernels(monkeypatch):
    """The default backend, watched."""
    watched = Watched(lstmkernel.info()["default"])
    monkeypatch.setenv("LSTMKERNEL_BACKEND", watched.name)
    return watched


def pair(I, H, ours=lstmkernel.torch.LSTM, theirs=torch.nn.LSTM, **options):
    """The same network of ours and of PyTorch."""
    theirs = theirs(I, H, **options)
    ours = ours(I, H, **options)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def assert_close(got, expected, dtype, what=""):
    """Tensors by name, relative to the largest number of all. None stands for zeros: the loss does not depend on it."""
    assert list(got) == list(expected)
    got, expected = (
        {
            name: torch.zeros_like(other[name]) if value is None and other[name] is not None else value
            for name, value in tensors.items()
        }
        for tensors, other in ((got, expected), (expected, got))
    )
    largest = max((tensor.abs().max().item() for tensor in expected.values() if tensor is not None), default=0)
    for name, tensor in expected.items():
        if tensor is not None:
            assert (got[name].shape, got[name].dtype) == (tensor.shape, tensor.dtype), f"{what}: {name}"
            error = (got[name] - tensor).abs().max().item()
            assert error <= TOLERANCE[dtype] * largest, f"{what}: {name} is {error / largest:.2g} of the largest off"


def results_and_gradients(module, given, make_input, seeds):
    """What a call returns, and the gradients of a loss that is linear in it, by name."""
    leaves = {name: tensor.clone().requires_grad_(needed) for name, (tensor, needed) in given.items()}
    module.zero_grad()
    torch.manual_seed(0)  # dropout
    state = (leaves["h_0"], leaves["c_0"]) if "h_0" in leaves else None
    out, (h, c) = module(make_input(leaves["x"]), state)
    packed = isinstance(out, rnn.PackedSequence)
    results = {"out": out.data if packed else out, "h_n": h, "c_n": c}
    used = [(results[name], seed) for name, seed in zip(results, seeds, strict=True) if seed is not None]
    loss = sum(((tensor * seed(tensor)).sum() for tensor, seed in used), torch.zeros(()))
    if loss.requires_grad:
        loss.backward()
    gradients = {name: leaf.grad for name, leaf in leaves.items()}
    gradients |= {name: parameter.grad for name, parameter in module.named_parameters()}
    if packed:
        results |= {name: getattr(out, name) for name in ("batch_sizes", "sorted_indices", "unsorted_indices")}
    return {name: value if value is None else value.detach() for name, value in results.items()}, gradients


def random_seed(random):
    """A function that makes dL/d(result), the same for the same shape. None: that result is not used."""
    number = int(random.integers(1000))
    if random.random() < 0.2:
        return None
    return lambda tensor: torch.randn(tensor.shape, dtype=tensor.dtype, generator=torch.Generator().manual_seed(number))


def random_case(random):
    """(ours, theirs); tensors, and whether they need gradients; a function that makes the input from x; a name."""
    chance = lambda share: bool(random.random() < share)  # noqa: E731
    I, H, L, T, B = (int(random.integers(1, most)) for most in (10, 24, 4, 9, 7))
    options = {
        "num_layers": L,
        "bias": chance(0.7),
        "batch_first": chance(0.5),
        "bidirectional": chance(0.5),
        "proj_size": int(random.integers(1, H)) if H > 1 and chance(0.3) else 0,
        "dropout": 0.4 if L > 1 and chance(0.4) else 0.0,
        "dtype": (torch.float32, torch.float64)[random.integers(2)],
    }
    both = pair(I, H, **options)
    training = chance(0.8)
    frozen = chance(0.2)
    for module in both:
        module.train(training).requires_grad_(not frozen)
    kind = ("batched", "unbatched", "packed")[random.integers(3)]
    rows = () if kind == "unbatched" else (B,)
    states = L * (1 + options["bidirectional"])
    draw = lambda *shape: torch.tensor(random.standard_normal(shape), dtype=options["dtype"])  # noqa: E731
    x = draw(T, *rows, I) if not (rows and options["batch_first"]) else draw(B, T, I)
    given = {"x": (x, chance(0.7))}
    if chance(0.6):
        given["h_0"] = draw(states, *rows, options["proj_size"] or H), chance(0.7)
        given["c_0"] = draw(states, *rows, H), chance(0.7)
    make_input = lambda x: x  # noqa: E731
    if kind == "packed":
        lengths = torch.tensor(random.integers(1, T + 1, B))
        make_input = lambda x: rnn.pack_padded_sequence(x, lengths, options["batch_first"], enforce_sorted=False)  # noqa: E731
    elif chance(0.2):
        make_input = lambda x: x.transpose(0, -1).contiguous().transpose(0, -1)  # noqa: E731
    return both, given, make_input, f"{kind} {I}, {H}, {options}, T={T}, B={B}"


@pytest.mark.parametrize("part", sampled(range(10), 0))
def test_as_torch_nn_lstm(part):
    random = np.random.default_rng(part)
    torch.manual_seed(part)
    for _ in range(100):
        (ours, theirs), given, make_input, what = random_case(random)
        seeds = [random_seed(random) for _ in range(3)]
        got, expected = (results_and_gradients(module, given, make_input, seeds) for module in (ours, theirs))
        dtype = given["x"][0].dtype
        assert_close(got[0], expected[0], dtype, what)
        assert_close(got[1], expected[1], dtype, what)


@pytest.mark.parametrize("part", sampled(range(2), 0))
def test_as_torch_nn_lstm_cell(part):
    random = np.random.default_rng(part)
    torch.manual_seed(part)
    for _ in range(100):
        I, H, B = (int(random.integers(1, most)) for most in (10, 24, 7))
        dtype, rows = (torch.float32, torch.float64)[random.integers(2)], (B,) if random.integers(2) else ()
        ours, theirs = pair(
            I, H, lstmkernel.torch.LSTMCell, torch.nn.LSTMCell, bias=bool(random.integers(2)), dtype=dtype
        )
        given = [torch.randn(*rows, width, dtype=dtype) for width in (I, H, H)]
        with_state, found = bool(random.integers(2)), []
        for cell in (ours, theirs):
            x, h, c = (tensor.clone().requires_grad_() for tensor in given)
            h_n, c_n = cell(x, (h, c)) if with_state else cell(x)
            (h_n.sin().sum() + (c_n * c_n).sum()).backward()
            found.append({"h_n": h_n, "c_n": c_n, "x": x.grad, "h": h.grad, "c": c.grad})
            found[-1] |= {name: parameter.grad for name, parameter in cell.named_parameters()}
        assert_close(*found, dtype, f"{I}, {H}, rows {rows}")


def test_gradcheck(options):
    lstm = lstmkernel.torch.LSTM(3, 5, **options, dtype=torch.float64).eval()
    D, R = 1 + lstm.bidirectional, lstm.proj_size or 5
    x, h, c = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 3), (D * lstm.num_layers, 2, R), (D * lstm.num_layers, 2, 5))
    )
    names = [name for name, _ in lstm.named_parameters()]

    def run(x, h, c, *weights):
        out, states = torch.func.functional_call(lstm, dict(zip(names, weights, strict=True)), (x, (h, c)))
        return out, *states

    assert torch.autograd.gradcheck(run, (x, h, c, *lstm.parameters()), fast_mode=lstm.num_layers > 1)


def test_training_step_by_step(options):
    """The losses of PyTorch's LSTM, from the same weights with the same optimizer."""
    torch.manual_seed(3)
    both = pair(4, 6, **options, dtype=torch.float64)
    x, wanted = torch.randn(5, 3, 4, dtype=torch.float64), torch.randn(5, 3, 1, dtype=torch.float64)
    curves = []
    for lstm in both:
        torch.manual_seed(4)
        optimizer, losses = torch.optim.Adam(lstm.parameters(), lr=0.05), []
        for _ in range(20):
            optimizer.zero_grad()
            loss = ((lstm(x)[0] - wanted) ** 2).mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        curves.append(losses)
    assert curves[0] == pytest.approx(curves[1], rel=1e-9)
    assert curves[0][-1] < curves[0][0]


# ---------------------------------------------------------------- memory


def addresses(arrays):
    return [array.ctypes.data if isinstance(array, np.ndarray) else array.data_ptr() for array in arrays]


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_nothing_is_copied(kernels, batch_first, mode):
    """The kernels' arrays and the caller's tensors are the same memory, in and out."""
    lstm = lstmkernel.torch.LSTM(5, 8, batch_first=batch_first)
    B = 7 if batch_first else 3
    x, h, c = torch.randn(7, 3, 5), torch.randn(1, B, 8), torch.randn(1, B, 8)
    with mode():
        out, (h_n, c_n) = lstm(x, (h, c))
    if mode is torch.enable_grad:
        ((tape, *_),) = kernels.of("layer_record")
        assert batch_first or addresses([tape.x]) == addresses([x]), "with rows first, the tape has a copy"
    else:
        ((_, batch, *_),) = kernels.of("lstm_forward")
        assert addresses([batch.x, batch.out, batch.h, batch.c]) == addresses([x, out, h_n, c_n])


def test_gradients_are_the_kernels_memory(kernels):
    lstm = lstmkernel.torch.LSTM(5, 8)
    x = torch.randn(7, 3, 5, requires_grad=True)
    lstm(x)[0].sum().backward()
    ((_, _, gradients, *_),) = kernels.of("layer_backward")
    assert addresses([gradients.x, gradients.parameters.w_ih, gradients.parameters.w_hh]) == addresses(
        [x.grad, lstm.weight_ih_l0.grad, lstm.weight_hh_l0.grad]
    )


def test_only_what_is_needed_is_computed(kernels):
    lstm = lstmkernel.torch.LSTM(5, 8)
    lstm(torch.randn(4, 2, 5))[0].sum().backward()
    lstm.requires_grad_(False)
    lstm(torch.randn(4, 2, 5, requires_grad=True))[0].sum().backward()
    asked = [gradients for _, _, gradients, *_ in kernels.of("layer_backward")]
    assert [(of.x is None, of.parameters is None) for of in asked] == [(True, False), (False, True)]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_tape_without_gradients(kernels, options, mode):
    ours, theirs = pair(5, 8, **options)
    x = torch.randn(7, 3, 5)
    with mode():
        out, expected = (module.eval()(x)[0] for module in (ours, theirs))
    assert not out.requires_grad
    torch.testing.assert_close(out, expected)
    assert not ours.requires_grad_(False)(x)[0].requires_grad
    assert "lstm_forward" in kernels.called
    assert "layer_record" not in kernels.called


def tapes():
    """How many there are."""
    return sum(type(some) is Tape for some in gc.get_objects())


def test_a_tape_lives_as_long_as_saved_tensors_do():
    gc.collect()
    others = tapes()  # create_graph=True makes cycles that PyTorch never frees
    lstm, x = lstmkernel.torch.LSTM(5, 8), torch.randn(7, 3, 5)
    loss = lstm(x)[0].sum()
    assert tapes() == others + 1
    loss.backward()
    assert tapes() == others, "loss, and so the graph, still lives"
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()
    loss = lstm(x)[0].sum()
    loss.backward(retain_graph=True)
    loss.backward()
    loss = lstm(x)[0].sum()
    del loss
    assert tapes() == others


def test_x_may_change_where_the_tape_has_a_copy():
    """With batch_first, x is transposed into a copy before it is read, as torch.nn.LSTM does."""
    gradients = []
    for module in pair(5, 8, batch_first=True):
        x = torch.linspace(-1, 1, 7 * 3 * 5).reshape(7, 3, 5)
        loss = module(x)[0].square().sum()
        x.zero_()
        loss.backward()
        gradients.append(module.weight_ih_l0.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(("batch_first", "shape"), [(False, (7, 3, 5)), (True, (1, 7, 5)), (True, (7, 1, 5))])
def test_autograd_refuses_x_that_changed(batch_first, shape):
    for module in pair(5, 8, batch_first=batch_first):
        x = torch.ones(shape)
        loss = module(x)[0].sum()
        x.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_saved_tensors_that_were_copied():
    """A copy holds no tape. Gradients are then computed from x, the states and the weights."""
    copied = torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor)
    for hooks in (copied, torch.autograd.graph.save_on_cpu()):
        gradients = []
        for module in pair(5, 8, num_layers=2, dtype=torch.float64):
            x = torch.linspace(-1, 1, 7 * 3 * 5, dtype=torch.float64).reshape(7, 3, 5).requires_grad_()
            with hooks:
                loss = module(x)[0].square().sum()
            loss.backward()
            assert not x.grad.requires_grad
            gradients.append([x.grad, *(parameter.grad for parameter in module.parameters())])
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("changed", ["weight_hh_l0", "h_0", "c_0"])
def test_autograd_refuses_what_changed_before_backward(changed):
    """As PyTorch's own. The tape has the old numbers, but a second derivative would not."""
    for module in pair(5, 8):
        states = {"h_0": torch.ones(1, 3, 8), "c_0": torch.ones(1, 3, 8)}
        loss = module(torch.ones(7, 3, 5), tuple(states.values()))[0].sum()
        with torch.no_grad():
            {**states, **dict(module.named_parameters())}[changed].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


@pytest.mark.parametrize("cell", [False, True])
def test_results_may_change_before_backward(cell, options):
    """out, h_n and c_n in place, by operations that autograd counts."""
    of_cell = (lstmkernel.torch.LSTMCell, torch.nn.LSTMCell) if cell else ()
    gradients = []
    for module in pair(3, 5, *of_cell, **({} if cell else options), dtype=torch.float64):
        x = torch.linspace(-1, 1, 7 * 3, dtype=torch.float64).reshape(7, 3).requires_grad_()
        torch.manual_seed(0)  # dropout
        out, (h, c) = (None, module(x)) if cell else module(x)
        h.mul_(3)
        c.add_(1)
        loss = h.sin().sum() + c.sin().sum()
        if out is not None:
            loss = loss + torch.relu_(out).sum()
        loss.backward()
        gradients.append([x.grad, *(parameter.grad for parameter in module.parameters())])
    torch.testing.assert_close(*gradients)


# ---------------------------------------------------------------- refused


class Labelled(torch.Tensor):
    pass


@pytest.mark.parametrize(
    ("error", "message", "call"),
    [
        (TypeError, "input: expected a torch.Tensor, got list", lambda lstm: lstm([[1.0]])),
        (TypeError, "input: expected torch.float32, as weight_ih_l0 is, got torch.float64; call to",
         lambda lstm: lstm(torch.zeros(4, 2, 5, dtype=torch.float64))),
        (TypeError, "weight_ih_l0: expected torch.float32 or torch.float64, got torch.float16; call float",
         lambda lstm: lstm.half()(torch.zeros(4, 2, 5).half())),
        (TypeError, r"input: expected a torch.Tensor, got Labelled; pass input.as_subclass\(torch.Tensor\)",
         lambda lstm: lstm(torch.zeros(4, 2, 5).as_subclass(Labelled))),
        (TypeError, "weight_ih_l0: expected torch.float32 or torch.float64, got torch.bfloat16",
         lambda lstm: lstm.bfloat16()(torch.zeros(4, 2, 5).bfloat16())),
        (ValueError, "input: expected a dense tensor on the CPU, got one on meta",
         lambda lstm: lstm(torch.zeros(4, 2, 5, device="meta"))),
        (ValueError, "weight_ih_l0: expected a dense tensor on the CPU, got one on meta",
         lambda lstm: lstm.to("meta")(torch.zeros(4, 2, 5))),
        (ValueError, "input: expected 3 dimensions, or 2 unbatched, got shape", lambda lstm: lstm(torch.zeros(5))),
        (RuntimeError, "Expected 5, got 6", lambda lstm: lstm(torch.zeros(4, 2, 6))),
        (TypeError, "hx: expected a pair", lambda lstm: lstm(torch.zeros(4, 2, 5), torch.zeros(1, 2, 8))),
        (ValueError, "hx: expected 3 dimensions, as input has, got 2 and 2",
         lambda lstm: lstm(torch.zeros(4, 2, 5), (torch.zeros(2, 8), torch.zeros(2, 8)))),
        (RuntimeError, r"Expected hidden\[1\] size \(1, 2, 8\), got \[1, 2, 7\]",
         lambda lstm: lstm(torch.zeros(4, 2, 5), (torch.zeros(1, 2, 8), torch.zeros(1, 2, 7)))),
    ],
)  # fmt: skip
def test_refused(error, message, call):
    with pytest.raises(error, match=message):
        call(lstmkernel.torch.LSTM(5, 8))


def test_refused_by_the_cell():
    cell = lstmkernel.torch.LSTMCell(5, 8)
    with pytest.raises(ValueError, match=r"input: expected shape \(B, I\) or \(I,\) with I = 5, got \(2, 6\)"):
        cell(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"hx: expected shape \(2, 8\), got \(1, 8\)"):
        cell(torch.zeros(2, 5), (torch.zeros(1, 8), torch.zeros(1, 8)))


# ---------------------------------------------------------------- the rest of PyTorch


class Tagger(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = lstmkernel.torch.LSTM(5, 8, 2)
        self.cell = lstmkernel.torch.LSTMCell(8, 3)

    def forward(self, x):
        return self.cell(self.lstm(torch.tanh(x))[0][-1])[0] * 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of its own machinery
@pytest.mark.parametrize(
    "made",
    [
        lambda net, x: torch.compile(net, backend="eager"),
        lambda net, x: torch.jit.trace(net, (x,)),
        lambda net, x: (net(x), torch.jit.script(net))[1],
        lambda net, x: torch.export.export(net, (x,)).module(),
    ],
    ids=["compile", "trace", "script", "export"],
)
def test_graphs(made):
    """A compiled model calls the kernels between two graphs. The others contain PyTorch's LSTM."""
    net, x = Tagger(), torch.randn(7, 3, 5)
    graph = made(net, x)
    for scale in (1, 3):
        torch.testing.assert_close(graph(x * scale), net(x * scale))


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_of_torch(reentrant):
    net, x = Tagger(), torch.randn(7, 3, 5, requires_grad=True)
    torch.utils.checkpoint.checkpoint(net, x, use_reentrant=reentrant).sum().backward()
    got = x.grad.clone()
    x.grad = None
    net(x).sum().backward()
    assert torch.equal(got, x.grad)


def test_threads_of_torch_are_a_bound(kernels, eight_cores):
    lstm = lstmkernel.torch.LSTM(5, 8)
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            kernels.calls.clear()
            lstm(torch.zeros(2 + threads, 2, 5))  # not a prepared call
            ((*_, number),) = kernels.of("layer_record")
            assert number == threads
    finally:
        torch.set_num_threads(before)


def test_torch_is_optional():
    run_python("""
import sys
sys.modules["torch"] = None
import lstmkernel
try:
    import lstmkernel.torch
except ModuleNotFoundError as error:
    assert str(error) == (
        "lstmkernel.torch: expected PyTorch, which is not installed; pip install lstmkernel[torch]"), error
else:
    raise AssertionError("imported")
""")


def test_import_is_light():
    run_python("""
import sys
import lstmkernel
assert "torch" not in sys.modules
import lstmkernel.torch
assert "torch._dynamo" not in sys.modules
""")
