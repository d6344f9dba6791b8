"""The gain monitor: what it measures, what it survives, and that it waits for nothing."""

from __future__ import annotations

import copy
import io
import math
from collections import OrderedDict
from dataclasses import dataclass

import pytest

torch = pytest.importorskip("torch")
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from gradlint.verify import GradientGainMonitor

WIDTH = 6


class Scale(nn.Module):
    """Multiplies by a number, so that every gain is known."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(float(factor)))

    def forward(self, x):
        return x * self.factor


class Wrapped(nn.Module):
    """A linear block that returns its output in some container."""

    def __init__(self, wrap):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)
        self.wrap = wrap

    def forward(self, x):
        return self.wrap(torch.tanh(self.linear(x)))


@dataclass
class Output:
    hidden: object
    extra: object = None


class ModelOutput(OrderedDict):
    """A dictionary with attributes, as the models of transformers return it."""

    def __getattr__(self, name):
        return self[name]


def chain(blocks, x):
    for block in blocks:
        x = block(x)
    return x


def linears(count=4, seed=0):
    torch.manual_seed(seed)
    return nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Tanh()) for _ in range(count)])


def reference(blocks, x, loss):
    """The gradients at the outputs of blocks, by autograd alone."""
    outputs = []
    for block in blocks:
        x = block(x)
        outputs.append(x)
    return torch.autograd.grad(loss(x), outputs)


NORMS = {
    "l2": lambda g: g.norm().item(),
    "l1": lambda g: g.abs().sum().item(),
    "linf": lambda g: g.abs().max().item(),
    "mean": lambda g: g.abs().mean().item(),
}


@pytest.mark.parametrize("norm_type", sorted(NORMS))
def test_norms_are_those_of_the_gradients_at_the_outputs(norm_type):
    blocks = linears()
    x = torch.randn(3, WIDTH)
    with GradientGainMonitor(blocks, norm_type=norm_type) as monitor:
        chain(blocks, x).square().sum().backward()
        measured = monitor.norms()
    expected = [NORMS[norm_type](g) for g in reference(blocks, x, lambda y: y.square().sum())]
    assert measured == pytest.approx(expected, rel=1e-5)


def test_gain_is_the_norm_before_over_the_norm_after():
    blocks = [Scale(1), Scale(3), Scale(0.25), Scale(1)]
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.ones(2, 2)).sum().backward()
        assert monitor.norms() == pytest.approx([2 * 0.75, 2 * 0.25, 2, 2])
        assert monitor.gains() == pytest.approx([3, 0.25, 1])
        assert monitor.log_gains() == pytest.approx([math.log(3), math.log(0.25), 0], abs=1e-6)
        assert monitor.summary_stats() == {
            "mean_gain": pytest.approx(4.25 / 3),
            "min_gain": pytest.approx(0.25),
            "max_gain": pytest.approx(3),
            "mean_log_gain": pytest.approx((math.log(3) + math.log(0.25)) / 3),
            "num_amplifying": 1,
            "num_damping": 1,
            "num_healthy": 1,
            "num_vanishing": 0,
            "num_missing": 0,
        }


def test_summary_has_the_documented_keys_and_no_others():
    with GradientGainMonitor([nn.Linear(2, 2)]) as monitor:
        assert list(monitor.summary_stats()) == [
            "mean_gain",
            "min_gain",
            "max_gain",
            "mean_log_gain",
            "num_amplifying",
            "num_damping",
            "num_healthy",
            "num_vanishing",
            "num_missing",
        ]


@pytest.mark.parametrize(
    ("factor", "count"), [(0.5, "num_healthy"), (2.0, "num_healthy"), (0.49, "num_damping"), (2.01, "num_amplifying")]
)
def test_thresholds(factor, count):
    blocks = [Scale(1), Scale(factor)]
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.ones(2)).sum().backward()
        assert monitor.summary_stats()[count] == 1


def test_sequential_and_list_and_tuple_are_blocks():
    layers = [nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3)]
    for blocks in (nn.Sequential(*layers), nn.ModuleList(layers), layers, tuple(layers)):
        with GradientGainMonitor(blocks) as monitor:
            chain(layers, torch.randn(2, 3)).sum().backward()
            assert all(norm is not None for norm in monitor.norms())
            assert len(monitor.gains()) == 2


WRAPS = {
    "tensor": (lambda h: h, lambda o: o),
    "tuple": (lambda h: (h, None), lambda o: o[0]),
    "list": (lambda h: [h], lambda o: o[0]),
    "dict": (lambda h: {"ids": torch.arange(3), "hidden": h}, lambda o: o["hidden"]),
    "model output": (lambda h: ModelOutput(last_hidden_state=h, attentions=None), lambda o: o.last_hidden_state),
    "dataclass": (lambda h: Output(h), lambda o: o.hidden),
    "nested": (lambda h: (None, {"a": [torch.zeros(2), h]}), lambda o: o[1]["a"][1]),
}


@pytest.mark.parametrize("kind", sorted(WRAPS))
def test_outputs_in_containers(kind):
    wrap, unwrap = WRAPS[kind]
    torch.manual_seed(0)
    blocks = [Wrapped(wrap) for _ in range(3)]
    x = torch.randn(2, WIDTH)

    def run(x, outputs):
        for block in blocks:
            x = unwrap(block(x))
            outputs.append(x)
        return x

    with GradientGainMonitor(blocks) as monitor:
        run(x, []).square().sum().backward()
        measured = monitor.norms()
    outputs = []
    gradients = torch.autograd.grad(run(x, outputs).square().sum(), outputs)
    assert measured == pytest.approx([g.norm().item() for g in gradients], rel=1e-5)


def test_of_a_tuple_the_first_tensor_that_can_carry_gradient_counts():
    block = Wrapped(lambda h: (h.detach(), h * 2))
    with GradientGainMonitor([block]) as monitor:
        (block(torch.randn(2, WIDTH))[1] * 3).sum().backward()
        assert monitor.norms() == pytest.approx([3 * math.sqrt(2 * WIDTH)])


def test_frozen_blocks_still_pass_gradient_on():
    blocks = linears()
    blocks[2].requires_grad_(False)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
        assert None not in monitor.norms()


def test_frozen_first_blocks_and_outputs_without_grad_are_missing():
    blocks = linears()
    for block in blocks[:2]:
        block.requires_grad_(False)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
        norms = monitor.norms()
        assert norms[:2] == [None, None]
        assert None not in norms[2:]
        assert monitor.gains()[:2] == monitor.log_gains()[:2] == [None, None]
        assert monitor.summary_stats()["num_missing"] == 2
        assert "no tensor in its output requires grad" in monitor.report()


def test_a_detached_block_and_one_that_was_not_called_are_told_apart():
    blocks = linears(3)
    with GradientGainMonitor(blocks) as monitor:
        blocks[1](blocks[0](torch.randn(2, WIDTH)).detach()).sum().backward()
        assert monitor.norms()[0] is None
        assert monitor.norms()[1] is not None
        report = monitor.report()
        assert "no backward has come to its output" in report
        assert "the block was not called" in report


def test_no_grad_forward_records_nothing_and_breaks_nothing():
    blocks = linears()
    with GradientGainMonitor(blocks) as monitor:
        with torch.no_grad():
            chain(blocks, torch.randn(2, WIDTH))
        assert monitor.norms() == [None] * 4
        stats = monitor.summary_stats()
        assert math.isnan(stats["mean_gain"])
        assert stats["num_missing"] == 3


class InPlace(nn.Module):
    """What a full backward hook breaks: the output is written to by whoever gets it."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return self.linear(x)


def test_in_place_changes_of_the_output():
    torch.manual_seed(0)
    blocks = [InPlace() for _ in range(3)]
    h = torch.randn(1, WIDTH)
    with GradientGainMonitor(blocks) as monitor:
        for block in blocks:
            h = block(h)
            h += 1.0
            torch.relu_(h)
        h.square().sum().backward()
        # With a single sample, the gradient at a linear layer's own output is that of its bias.
        assert monitor.norms() == pytest.approx([block.linear.bias.grad.norm().item() for block in blocks])


def test_monitoring_changes_no_gradient():
    blocks = linears()
    x = torch.randn(2, WIDTH)
    chain(blocks, x).sum().backward()
    plain = [p.grad.clone() for p in blocks.parameters()]
    blocks.zero_grad()
    with GradientGainMonitor(blocks):
        chain(blocks, x).sum().backward()
    assert all(torch.equal(one, p.grad) for one, p in zip(plain, blocks.parameters(), strict=True))


def test_second_backward_raises_when_strict_and_names_the_block():
    blocks = linears(2)
    with GradientGainMonitor(blocks):
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
        with pytest.raises(RuntimeError, match=r"block 1 \(Sequential\).*reset\(\).*strict_single_backward=False"):
            chain(blocks, torch.randn(2, WIDTH)).sum().backward()


def test_retained_graph_counts_as_a_second_backward():
    blocks = linears(2)
    with GradientGainMonitor(blocks) as monitor:
        loss = chain(blocks, torch.randn(2, WIDTH)).sum()
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match="second backward"):
            loss.backward()
        monitor.reset()
        assert monitor.norms() == [None, None]


def test_two_losses_over_two_forwards_count_as_a_second_backward():
    blocks = linears(2)
    with GradientGainMonitor(blocks):
        one, other = (chain(blocks, torch.randn(2, WIDTH)).sum() for _ in range(2))
        one.backward()
        with pytest.raises(RuntimeError, match="second backward"):
            other.backward()


def test_reset_between_backwards_satisfies_strict():
    blocks = linears(2)
    with GradientGainMonitor(blocks) as monitor:
        for _ in range(3):
            chain(blocks, torch.randn(2, WIDTH)).sum().backward()
            assert None not in monitor.norms()
            monitor.reset()
            assert monitor.norms() == [None, None]


def test_permissive_keeps_the_latest_backward():
    blocks = linears(3)
    first, second = torch.randn(2, WIDTH), 5 * torch.randn(2, WIDTH)
    with GradientGainMonitor(blocks, strict_single_backward=False) as monitor:
        chain(blocks, first).square().sum().backward()
        before = monitor.norms()
        chain(blocks, second).square().sum().backward()
        after = monitor.norms()
    assert before != after
    expected = [g.norm().item() for g in reference(blocks, second, lambda y: y.square().sum())]
    assert after == pytest.approx(expected, rel=1e-5)


def test_calls_within_one_backward_are_one_long_output():
    torch.manual_seed(0)
    block = nn.Linear(WIDTH, WIDTH)
    for norm_type, join in {
        "l2": lambda gs: torch.cat([g.flatten() for g in gs]).norm().item(),
        "l1": lambda gs: torch.cat([g.flatten() for g in gs]).abs().sum().item(),
        "linf": lambda gs: torch.cat([g.flatten() for g in gs]).abs().max().item(),
        "mean": lambda gs: torch.cat([g.flatten() for g in gs]).abs().mean().item(),
    }.items():
        left, right = torch.randn(2, WIDTH), torch.randn(5, WIDTH)
        with GradientGainMonitor([block], norm_type=norm_type) as monitor:
            a, b = block(left), block(right)
            (a.square().sum() + 3 * b.square().sum()).backward()
            measured = monitor.norms()
        assert measured == pytest.approx([join([2 * a, 6 * b])], rel=1e-5)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("strict", [True, False])
def test_checkpointing_measures_the_same(reentrant, strict):
    blocks = linears(4)
    x = torch.randn(3, WIDTH, requires_grad=True)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, x).square().sum().backward()
        expected = monitor.norms()
    with GradientGainMonitor(blocks, strict_single_backward=strict) as monitor:
        for _ in range(2):
            h = x
            for block in blocks:
                h = checkpoint(block, h, use_reentrant=reentrant)
            h.square().sum().backward()
            assert monitor.norms() == pytest.approx(expected, rel=1e-5)
            monitor.reset()


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointed_region_of_several_blocks(reentrant):
    blocks = linears(4)
    x = torch.randn(3, WIDTH, requires_grad=True)
    expected = [g.norm().item() for g in reference(blocks, x, lambda y: y.square().sum())]
    with GradientGainMonitor(blocks, strict_single_backward=False) as monitor:
        h = checkpoint(lambda h: chain(blocks[:2], h), x, use_reentrant=reentrant)
        h = checkpoint(lambda h: chain(blocks[2:], h), h, use_reentrant=reentrant)
        h.square().sum().backward()
        assert monitor.norms() == pytest.approx(expected, rel=1e-5)


def test_a_block_called_in_two_reentrant_checkpoints_is_joined():
    torch.manual_seed(0)
    block = nn.Linear(WIDTH, WIDTH)
    x = torch.randn(2, WIDTH, requires_grad=True)
    with GradientGainMonitor([block]) as monitor:
        (block(x).sum() + 2 * block(x).sum()).backward()
        expected = monitor.norms()
    with GradientGainMonitor([block]) as monitor:
        one, other = (checkpoint(block, x, use_reentrant=True) for _ in range(2))
        (one.sum() + 2 * other.sum()).backward()
        assert monitor.norms() == pytest.approx(expected)


def test_zero_gradient_at_the_later_block_is_vanishing():
    blocks = [Scale(1), Scale(2)]
    with GradientGainMonitor(blocks) as monitor:
        (chain(blocks, torch.ones(2)) * 0).sum().backward()
        assert monitor.norms() == [0, 0]
        assert monitor.gains() == monitor.log_gains() == [math.inf]
        assert monitor.summary_stats()["num_vanishing"] == 1
        assert "[VANISHING]" in monitor.report()


def test_zero_gradient_at_the_earlier_block_is_damping():
    blocks = [Scale(1), Scale(0)]
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.ones(2)).sum().backward()
        assert monitor.gains() == [0]
        assert monitor.log_gains() == [-math.inf]
        assert monitor.summary_stats()["num_damping"] == 1


def test_eps_says_what_counts_as_zero():
    blocks = [Scale(1), Scale(1)]
    for eps, gain in ((1e-30, 1.0), (1e-3, math.inf)):
        with GradientGainMonitor(blocks, eps=eps) as monitor:
            (chain(blocks, torch.ones(4)) * 1e-4).sum().backward()
            assert monitor.gains() == pytest.approx([gain])


def test_log_gains_do_not_overflow_where_ratios_would():
    blocks = [Scale(1), Scale(1e30), Scale(1)]
    with GradientGainMonitor(blocks, norm_type="linf") as monitor:
        (chain(blocks, torch.ones(1)) * 1e-15).sum().backward()
        assert monitor.log_gains()[0] == pytest.approx(math.log(1e30), rel=1e-5)


def test_not_a_number_is_its_own_label():
    blocks = [Scale(1), Scale(float("nan")), Scale(1)]
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.ones(2)).sum().backward()
        assert math.isnan(monitor.norms()[0])
        assert math.isnan(monitor.gains()[0])
        stats = monitor.summary_stats()
        assert sum(stats[key] for key in stats if key.startswith("num_")) == 1  # the other transition
        assert "[NOT FINITE]" in monitor.report()


def test_half_precision_norms_do_not_overflow():
    blocks = [Scale(1).half(), Scale(1).half()]
    with GradientGainMonitor(blocks) as monitor:
        (chain(blocks, torch.ones(4096, dtype=torch.float16)) * 100).sum().backward()
        assert monitor.norms() == pytest.approx([6400, 6400])  # its square is far beyond what half precision holds


def test_report_reads_as_documented():
    blocks = [Scale(1), Scale(0.9542), Scale(3), Scale(0.1)]
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.ones(2)).sum().backward()
        report = monitor.report()
        assert f"  Block  3: {math.sqrt(2):.4e}" in report
    assert "Gradient Gains (ratio of consecutive norms):" in report
    assert "  Transition  0 to  1: gamma=0.9542, log_gamma=-0.0469 [Healthy]" in report
    assert "  Transition  1 to  2: gamma=3.0000, log_gamma=1.0986 [AMPLIFYING]" in report
    assert "  Transition  2 to  3: gamma=0.1000, log_gamma=-2.3026 [DAMPING]" in report
    assert "Summary Statistics:" in report
    assert "  Mean gain: 1.3514" in report
    assert "  Healthy (0.5 <= gamma <= 2.0): 1" in report
    assert "  Damping (gamma < 0.5): 1" in report
    assert "  Amplifying (gamma > 2.0): 1" in report
    assert "  Max gain: 3.0000" in report
    assert "rules of thumb" in report


def test_one_block_has_norms_and_no_gains():
    block = nn.Linear(2, 2)
    with GradientGainMonitor([block]) as monitor:
        block(torch.ones(1, 2)).sum().backward()
        assert len(monitor.norms()) == 1
        assert monitor.gains() == []
        assert "Block  0" in monitor.report()


def test_hooks_are_gone_after_the_context_and_values_remain():
    blocks = linears(2)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
    norms = monitor.norms()
    assert None not in norms
    assert all(not block._forward_hooks for block in blocks)
    chain(blocks, torch.randn(2, WIDTH)).sum().backward()
    assert monitor.norms() == norms
    monitor.close()


def test_hooks_are_gone_after_an_error():
    blocks = linears(2)
    with pytest.raises(ZeroDivisionError), GradientGainMonitor(blocks):
        raise ZeroDivisionError
    assert all(not block._forward_hooks for block in blocks)


def test_closing_between_forward_and_backward_is_safe():
    blocks = linears(2)
    monitor = GradientGainMonitor(blocks)
    loss = chain(blocks, torch.randn(2, WIDTH)).sum()
    monitor.close()
    loss.backward()
    assert monitor.norms() == [None, None]


def test_no_graph_is_kept_alive():
    blocks = linears(2)
    with GradientGainMonitor(blocks, strict_single_backward=False) as monitor:
        x = torch.randn(2, WIDTH)
        y = chain(blocks, x).square().sum()
        (slope,) = torch.autograd.grad(y, [blocks[0][0].weight], create_graph=True)
        slope.square().sum().backward()
        assert all(not scalar.requires_grad for block in monitor._blocks for scalar, _ in block.measured.values())
        assert None not in monitor.norms()


def test_a_copied_and_a_saved_model_leave_the_monitor_behind():
    model = nn.Sequential(*linears(2))
    with GradientGainMonitor(model) as monitor:
        twin = copy.deepcopy(model)
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        loaded = torch.load(buffer, weights_only=False)
        for other in (twin, loaded):
            other(torch.randn(2, WIDTH)).sum().backward()
        assert monitor.norms() == [None, None]
        model(torch.randn(2, WIDTH)).sum().backward()
        assert None not in monitor.norms()


def test_compiled_model_is_measured_when_the_monitor_comes_first():
    blocks = nn.Sequential(*linears(3))
    x = torch.randn(2, WIDTH)
    expected = [g.norm().item() for g in reference(blocks, x, lambda y: y.square().sum())]
    with GradientGainMonitor(blocks) as monitor:
        try:
            torch.compile(blocks, backend="eager")(x).square().sum().backward()
        finally:
            torch._dynamo.reset()
        assert monitor.norms() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("blocks", "error", "words"),
    [
        ([], ValueError, "no block"),
        (nn.Linear(2, 2), TypeError, "Linear is one module"),
        ([nn.Linear(2, 2), "head"], TypeError, "Block 1 is not a module but str"),
        (nn.ModuleDict({"a": nn.Linear(2, 2)}), TypeError, "ModuleDict is one module"),
        ([nn.ReLU()] * 2, ValueError, "Blocks 0 and 1 are the same module"),
    ],
)
def test_blocks_that_cannot_be_monitored(blocks, error, words):
    with pytest.raises(error, match=words):
        GradientGainMonitor(blocks)


def test_options_that_do_not_exist():
    with pytest.raises(ValueError, match="'l2', 'l1', 'linf', 'mean', not 'L3'"):
        GradientGainMonitor([nn.Linear(2, 2)], norm_type="L3")
    with pytest.raises(ValueError, match="eps"):
        GradientGainMonitor([nn.Linear(2, 2)], eps=-1)


# Nothing waits ------------------------------------------------------------------------------------------------------------

WAITING = {"item", "tolist", "__bool__", "__float__", "__int__", "__index__", "numpy", "cpu", "nonzero", "equal", "is_nonzero"}


class Waits(TorchFunctionMode):
    """Records every function that has to know a value."""

    def __init__(self):
        super().__init__()
        self.seen = []
        self.calls = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        name = getattr(func, "__name__", str(func))
        if name in WAITING:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """Records every reading of a value, whichever way it came."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "_local_scalar_dense" in str(func) or "is_nonzero" in str(func):
            self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


def waits(monitor_class, norm_type="l2"):
    """What is asked for in two steps, and what is asked for by reading afterwards."""
    inside, reads = Waits(), Reads()

    class Watched(monitor_class):
        def _measure(self, *arguments):
            with inside:  # to the mode, a whole backward is one function, and it looks away while that runs
                super()._measure(*arguments)

    blocks = linears(4)
    monitor = Watched(blocks, norm_type=norm_type, strict_single_backward=False)
    with reads, inside:
        for _ in range(2):
            chain(blocks, torch.randn(2, WIDTH)).sum().backward()
    assert inside.calls >= 16
    with Waits() as afterwards:
        monitor.norms()
        monitor.gains()
        monitor.report()
    monitor.close()
    return (*inside.seen, *reads.seen), afterwards.seen


@pytest.mark.parametrize("norm_type", sorted(NORMS))
def test_hooks_never_ask_for_a_value_and_reading_asks_once(norm_type):
    inside, afterwards = waits(GradientGainMonitor, norm_type)
    assert inside == ()
    assert afterwards == ["tolist"]


class Impatient(GradientGainMonitor):
    """What the monitor must not be."""

    def _measure(self, block, call, made_in, gradient):
        gradient.norm().item()
        super()._measure(block, call, made_in, gradient)


def test_the_recorder_would_notice():
    inside, _ = waits(Impatient)
    assert inside.count("item") == 8
    assert sum("_local_scalar_dense" in name for name in inside) == 8


def test_norms_stay_on_their_device_as_scalars_of_no_dimension():
    blocks = linears(2)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
        kept = [scalar for block in monitor._blocks for scalar, _ in block.measured.values()]
        assert [scalar.shape for scalar in kept] == [torch.Size([])] * 2


# Plot ---------------------------------------------------------------------------------------------------------------------


def test_plot_draws_norms_and_log_gains(tmp_path):
    pytest.importorskip("matplotlib")
    blocks = [Scale(1), Scale(3), Scale(0.25), Scale(1)]
    with GradientGainMonitor(blocks) as monitor:
        blocks[3](blocks[2](blocks[1](blocks[0](torch.ones(2))))).sum().backward()
        figure = monitor.plot(tmp_path / "flow.png")
        log_gains, norms = monitor.log_gains(), monitor.norms()
    assert (tmp_path / "flow.png").read_bytes().startswith(b"\x89PNG")
    above, below = figure.axes
    assert list(above.lines[0].get_ydata()) == norms
    assert above.get_yscale() == "log"
    assert [bar.get_height() for bar in below.patches] == log_gains


def test_plot_leaves_gaps_for_what_is_missing():
    pytest.importorskip("matplotlib")
    blocks = linears(3)
    with GradientGainMonitor(blocks) as monitor:
        figure = monitor.plot()
        assert all(math.isnan(height) for height in figure.axes[0].lines[0].get_ydata())


def test_plot_into_axes_of_a_larger_figure():
    figure_module = pytest.importorskip("matplotlib.figure")
    figure = figure_module.Figure()
    axes = figure.subplots(1, 2)
    blocks = linears(3)
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, torch.randn(2, WIDTH)).sum().backward()
        assert monitor.plot(axes=axes) is figure
        assert len(axes[1].patches) == 2


def test_plot_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with GradientGainMonitor([nn.Linear(2, 2)]) as monitor, pytest.raises(ImportError, match=r"torch-gradlint\[plot\]"):
        monitor.plot()


# CUDA ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_cuda_norms_equal_those_of_the_cpu_and_nothing_synchronises(dtype):
    blocks = linears(4).to(getattr(torch, dtype))
    x = torch.randn(3, WIDTH, dtype=getattr(torch, dtype))
    with GradientGainMonitor(blocks) as monitor:
        chain(blocks, x).square().sum().backward()
        expected = monitor.norms()
    blocks, x = blocks.cuda(), x.cuda()
    blocks.zero_grad()
    with GradientGainMonitor(blocks) as monitor:
        torch.cuda.set_sync_debug_mode("error")
        try:
            chain(blocks, x).square().sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert monitor.norms() == pytest.approx(expected, rel=1e-4 if dtype == "float32" else 5e-2)
