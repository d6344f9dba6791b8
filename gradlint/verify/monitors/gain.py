"""How the gradient grows or shrinks from block to block on its way back through a deep network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradlint.verify.monitors.outputs import first_with_gradient
from gradlint.verify.monitors.scalars import NORMS, measure, read

DAMPING = 0.5
"""Below this gain a transition is called damping."""

AMPLIFYING = 2.0
"""Above this gain a transition is called amplifying."""

NormType = Literal["l2", "l1", "linf", "mean"]

_TITLES = {"l2": "L2 norm", "l1": "L1 norm", "linf": "largest absolute value", "mean": "mean absolute value"}

backward_in_progress: Callable[[], int] = getattr(torch._C, "_current_graph_task_id", lambda: -1)
"""The number of the backward that runs right now, -1 outside of any. Asking it waits for nothing."""


class GainStats(TypedDict):
    """What `GradientGainMonitor.summary_stats` returns.

    Means and extremes are over the finite gains, NaN when there is none.  Each transition is in at most one of the counts.
    """

    mean_gain: float
    min_gain: float
    max_gain: float
    mean_log_gain: float
    num_amplifying: int
    num_damping: int
    num_healthy: int
    num_vanishing: int
    num_missing: int


class GradientGainMonitor:
    """Measures the gradient at the output of each block, and the gain from each block to the one before it.

    The norm of block ``i`` is ``‖∂L/∂h_i‖``, where ``h_i`` is the block's output: the first tensor that requires grad in the
    tensor, tuple, list, mapping or dataclass that the block returns.  The gain ``γ_i = ‖∂L/∂h_{i-1}‖ / ‖∂L/∂h_i‖`` is a
    *backward* gain: above 1 the gradient grows on its way to the input, below 1 it shrinks, and around 1 it is kept, which is
    often healthy for residual networks.  The monitor detects; it changes nothing.

    A block that is called several times before one backward counts as one block with one long output.  Nothing waits for the
    device in a forward or a backward: norms stay where they are and are read together when somebody asks.

    Args:
        blocks: a list, ``nn.ModuleList`` or ``nn.Sequential`` of separate modules, in forward order.
        norm_type: ``"l2"``, ``"l1"``, ``"linf"`` (largest absolute value, sees spikes) or ``"mean"`` (mean absolute value,
            independent of the size, not a true norm).
        strict_single_backward: raise `RuntimeError` when a second backward reaches a block before `reset`; when False, the
            later measurement replaces the earlier one.
        eps: a norm at or below it counts as zero.

    Raises:
        TypeError: ``blocks`` is not a sequence of modules.
        ValueError: there is no block, a module is given twice, or an option is not one of those above.
    """

    def __init__(
        self,
        blocks: Sequence[nn.Module] | nn.ModuleList | nn.Sequential,
        norm_type: NormType = "l2",
        strict_single_backward: bool = True,
        eps: float = 1e-30,
    ) -> None:
        if norm_type not in NORMS:
            raise ValueError(f"norm_type is one of {', '.join(map(repr, NORMS))}, not {norm_type!r}")
        if not eps >= 0:
            raise ValueError(f"eps is a number of at least 0, not {eps!r}")
        self.norm_type: NormType = norm_type
        self.strict_single_backward = strict_single_backward
        self.eps = eps
        self._blocks = [_Block(index, module) for index, module in enumerate(_modules(blocks))]
        self._numbers = itertools.count()
        self._norms: list[float | None] | None = None
        self._closed = False
        self._handles: list[RemovableHandle] = [
            block.module.register_forward_hook(_ForwardHook(self, block)) for block in self._blocks
        ]

    def norms(self) -> list[float | None]:
        """The gradient norm at each block's output; None where no gradient arrived. Waits for the device once."""
        if self._norms is None:
            pairs = [(block, each) for block in self._blocks for each in block.measured.values()]
            values = read([scalar for _, (scalar, _) in pairs])
            found: list[list[tuple[float, int]]] = [[] for _ in self._blocks]
            for (block, (_, size)), value in zip(pairs, values, strict=True):
                found[block.index].append((value, size))
            self._norms = [self._joined(each) if each else None for each in found]
        return list(self._norms)

    def gains(self) -> list[float | None]:
        """The gain of each transition between neighbours, one fewer than there are blocks.

        None where either norm is missing, ``inf`` where the gradient at the later block is zero (within ``eps``), NaN where a
        norm is not finite.
        """
        return [self._gain(before, after) for before, after in itertools.pairwise(self.norms())]

    def log_gains(self) -> list[float | None]:
        """The natural logarithm of each gain, as a difference of logarithms: no ratio overflows on the way."""
        return [self._log_gain(before, after) for before, after in itertools.pairwise(self.norms())]

    def summary_stats(self) -> GainStats:
        """Mean, extremes and counts over all transitions."""
        gains = self.gains()
        labels = [_label(gain) for gain in gains]
        finite = [gain for gain in gains if gain is not None and math.isfinite(gain)]
        logs = [gain for gain in self.log_gains() if gain is not None and math.isfinite(gain)]
        return GainStats(
            mean_gain=_mean(finite),
            min_gain=min(finite, default=math.nan),
            max_gain=max(finite, default=math.nan),
            mean_log_gain=_mean(logs),
            num_amplifying=labels.count("AMPLIFYING"),
            num_damping=labels.count("DAMPING"),
            num_healthy=labels.count("Healthy"),
            num_vanishing=labels.count("VANISHING"),
            num_missing=labels.count("MISSING"),
        )

    def report(self) -> str:
        """Norms, gains and the summary as text for people."""
        width = len(str(len(self._blocks) - 1))
        title = f"Gradient flow, {_TITLES[self.norm_type]}"
        lines = [title, "=" * len(title), "", "Gradient Norms (at the output of each block):"]
        for block, norm in zip(self._blocks, self.norms(), strict=True):
            said = f"no gradient ({block.why_none()})" if norm is None else f"{norm:.4e}"
            lines.append(f"  Block {block.index:>{width + 1}}: {said}")
        gains = self.gains()
        if gains:
            lines += ["", "Gradient Gains (ratio of consecutive norms):"]
        for index, (gain, log_gain) in enumerate(zip(gains, self.log_gains(), strict=True)):
            said = "no gain" if gain is None else f"gamma={_number(gain)}, log_gamma={_number(log_gain or 0.0)}"
            lines.append(f"  Transition {index:>{width + 1}} to {index + 1:>{width + 1}}: {said} [{_label(gain)}]")
        stats = self.summary_stats()
        lines += [
            "",
            "Summary Statistics:",
            f"  Mean gain: {_number(stats['mean_gain'])}",
            f"  Min gain: {_number(stats['min_gain'])}",
            f"  Max gain: {_number(stats['max_gain'])}",
            f"  Mean log-gain: {_number(stats['mean_log_gain'])}",
            f"  Healthy ({DAMPING} <= gamma <= {AMPLIFYING}): {stats['num_healthy']}",
            f"  Damping (gamma < {DAMPING}): {stats['num_damping']}",
            f"  Amplifying (gamma > {AMPLIFYING}): {stats['num_amplifying']}",
            f"  Vanishing (gamma = inf, the later block has no gradient left): {stats['num_vanishing']}",
            f"  Missing (no gradient arrived at one of the two): {stats['num_missing']}",
        ]
        if unclear := sum(_label(gain) == "NOT FINITE" for gain in gains):
            lines.append(f"  Not finite (a gradient holds NaN or infinity): {unclear}")
        lines += ["", "The labels are rules of thumb: what is healthy depends on the architecture."]
        return "\n".join(lines)

    def plot(self, path: str | Path | None = None, *, axes: Sequence[Any] | None = None) -> Any:
        """Draw the norms and the log-gains, one panel each, and return the matplotlib figure.

        Args:
            path: where to save the figure; its ending chooses the format.
            axes: two matplotlib axes to draw into, where the panels are to become part of a larger figure.

        Raises:
            ImportError: matplotlib is not installed; it comes with the ``plot`` extra.
        """
        from gradlint.verify.monitors.gain_plot import draw

        return draw(self.norms(), self.log_gains(), _TITLES[self.norm_type], path, axes)

    def reset(self) -> None:
        """Forget what was measured, ready for the next backward."""
        self._norms = None
        for block in self._blocks:
            block.forget()

    def close(self) -> None:
        """Take the hooks off the blocks. What was measured can still be read. A second call does nothing."""
        self._closed = True
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def __enter__(self) -> GradientGainMonitor:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _measure(self, block: _Block, call: int, made_in: int, gradient: Tensor) -> None:
        """A gradient arrived. ``made_in`` is the backward in which a checkpoint computed the output anew, -1 for none."""
        if self._closed:
            return
        backward = made_in if made_in != -1 else backward_in_progress()
        if block.measured and block.backward != backward:
            if self.strict_single_backward:
                raise RuntimeError(
                    f"A second backward reached block {block.index} ({type(block.module).__name__}) and the first was not "
                    "cleared. Call reset() after each backward, or create the monitor with strict_single_backward=False to "
                    "keep only the latest: for gradient accumulation, several losses, or backward(retain_graph=True)."
                )
            block.measured.clear()
        block.backward = backward
        block.measured[call] = measure(gradient, self.norm_type), gradient.numel()
        self._norms = None

    def _joined(self, parts: Sequence[tuple[float, int]]) -> float:
        """One norm for the outputs of all calls of a block, as if they were one long tensor."""
        values = [value for value, _ in parts]
        match self.norm_type:
            case "l2":
                return values[0] if len(values) == 1 else math.hypot(*values)
            case "l1":
                return math.fsum(values)
            case "linf":
                return math.nan if any(map(math.isnan, values)) else max(values)
            case "mean":
                return math.fsum(values) / max(1, sum(size for _, size in parts))

    def _gain(self, before: float | None, after: float | None) -> float | None:
        if before is None or after is None:
            return None
        if not (math.isfinite(before) and math.isfinite(after)):
            return math.nan
        return before / after if after > self.eps else math.inf

    def _log_gain(self, before: float | None, after: float | None) -> float | None:
        if before is None or after is None:
            return None
        if not (math.isfinite(before) and math.isfinite(after)):
            return math.nan
        if not after > self.eps:
            return math.inf
        return math.log(before) - math.log(after) if before > 0 else -math.inf


class _Block:
    """A block and what was measured at it: by call, the norm on its device and the number of elements."""

    __slots__ = ("backward", "called", "carried", "index", "measured", "module")

    def __init__(self, index: int, module: nn.Module) -> None:
        self.index = index
        self.module = module
        self.measured: dict[int, tuple[Tensor, int]] = {}
        self.forget()

    def forget(self) -> None:
        self.measured.clear()
        self.backward = -1
        self.called = self.carried = False

    def why_none(self) -> str:
        if not self.called:
            return "the block was not called, or is part of a graph that was compiled before the monitor was created"
        if not self.carried:
            return "no tensor in its output requires grad"
        return "no backward has come to its output"


class _ForwardHook:
    """Puts a tensor hook on a block's output. A full backward hook would break blocks that work in place."""

    __slots__ = ("block", "monitor")

    def __init__(self, monitor: GradientGainMonitor, block: _Block) -> None:
        self.monitor = monitor
        self.block = block

    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> None:
        block, monitor = self.block, self.monitor
        block.called = True
        tensor = first_with_gradient(output)
        if tensor is not None:
            block.carried = True
            hear = partial(monitor._measure, block, next(monitor._numbers), backward_in_progress())
            tensor.register_hook(hear)  # type: ignore[no-untyped-call]

    def __reduce__(self) -> tuple[Callable[[], Any], tuple[()]]:
        """A copied or saved model leaves the monitor behind."""
        return _unwatched, ()


def _unwatched() -> Callable[..., None]:
    return _no_hook


def _no_hook(*_: object) -> None:
    pass


def _modules(blocks: Any) -> list[nn.Module]:
    if isinstance(blocks, nn.Module) and not isinstance(blocks, (nn.ModuleList, nn.Sequential)):
        raise TypeError(f"blocks is a list, ModuleList or Sequential of modules; {type(blocks).__name__} is one module")
    modules: list[Any] = list(blocks)
    if not modules:
        raise ValueError("There is no block to monitor")
    first: dict[int, int] = {}
    for index, module in enumerate(modules):
        if not isinstance(module, nn.Module):
            raise TypeError(f"Block {index} is not a module but {type(module).__name__}")
        if first.setdefault(id(module), index) != index:
            raise ValueError(
                f"Blocks {first[id(module)]} and {index} are the same module: their gradients cannot be told apart. "
                "Pass each module once; what it receives over all its calls is measured together."
            )
    return modules


def _label(gain: float | None) -> str:
    if gain is None:
        return "MISSING"
    if math.isnan(gain):
        return "NOT FINITE"
    if math.isinf(gain):
        return "VANISHING"
    if gain > AMPLIFYING:
        return "AMPLIFYING"
    return "DAMPING" if gain < DAMPING else "Healthy"


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _number(value: float) -> str:
    """Four decimals, unless the number is so large or small that they would say nothing."""
    plain = value == 0 or not math.isfinite(value) or 1e-3 <= abs(value) < 1e5
    return f"{value:.4f}" if plain else f"{value:.4e}"
