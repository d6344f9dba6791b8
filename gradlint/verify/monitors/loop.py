"""The monitors in a training loop: gains every so many steps, and one audit of the first step."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

from torch import nn

from gradlint.verify.monitors.audit import Audit, conclude
from gradlint.verify.monitors.gain import GainStats, GradientGainMonitor, NormType
from gradlint.verify.monitors.isolation import as_optimizers
from gradlint.verify.monitors.kinds import Kinds
from gradlint.verify.monitors.observation import Observation
from gradlint.verify.monitors.selection import named_modules

Blocks = str | Sequence[nn.Module] | nn.ModuleList | nn.Sequential | Callable[[nn.Module], Sequence[nn.Module]]
"""The blocks to monitor: themselves, the dotted name of a list of them in the model, or a function from model to blocks."""


class AuditError(AssertionError):
    """The audit of a first step found a problem. ``audit`` holds the whole table."""

    def __init__(self, audit: Audit) -> None:
        super().__init__(audit.render())
        self.audit = audit


class LoopMonitor:
    """Watches a training loop without taking part in it.

    Hooks are on the model only during the steps that are measured, so the steps between cost nothing.  The audit compares the
    first step before and after, which takes a copy of the model and its optimizers until an optimizer has stepped; it repeats
    nothing and puts nothing back.

    Args:
        model: the model that trains.
        optimizer: the optimizer or optimizers, where there are some by now.
        blocks: what to measure gains of; without it, none are measured.
        every: measure the gains of every so many steps, the first included.
        norm_type: see `GradientGainMonitor`.
        audit: audit the first step.
        on_problem: what to do when the audit finds a problem: ``"warn"``, ``"raise"`` `AuditError`, or ``"ignore"``.
        kinds: see `gradlint.verify.audit`.

    Attributes:
        history: the number of each measured step with its gains' statistics.
        audit: the audit of the first step, once it is done.

    Raises:
        ValueError: ``every`` is less than one, or ``blocks`` names nothing in the model.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        blocks: Blocks | None = None,
        every: int = 100,
        norm_type: NormType = "l2",
        audit: bool = True,
        on_problem: Literal["warn", "raise", "ignore"] = "warn",
        kinds: Kinds | None = None,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is a number of steps, not {every}")
        if on_problem not in ("warn", "raise", "ignore"):
            raise ValueError(f"on_problem is 'warn', 'raise' or 'ignore', not {on_problem!r}")
        self.history: list[tuple[int, GainStats]] = []
        self.audit: Audit | None = None
        self._model = model
        self._optimizers = as_optimizers(optimizer)
        self._blocks = None if blocks is None else find_blocks(model, blocks)
        self._every = every
        self._norm_type: NormType = norm_type
        self._on_problem = on_problem
        self._kinds = kinds
        self._audits = audit
        self._steps = 0
        self._monitor: GradientGainMonitor | None = None
        self._observation: Observation | None = None

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """A training step, from clearing the gradients to the optimizer's step."""
        self.begin()
        try:
            yield
        except BaseException:
            self.close()
            raise
        self.end()

    def begin(self) -> None:
        """A step begins."""
        if self._audits and self._observation is None:
            self._observation = Observation(self._model, self._optimizers)
        if self._blocks is not None and self._steps % self._every == 0:
            self._monitor = GradientGainMonitor(self._blocks, self._norm_type, strict_single_backward=False)

    def end(self) -> GainStats | None:
        """The step is done. Returns the statistics of its gains where it was measured.

        Raises:
            AuditError: the audit found a problem, and that is to be raised.
        """
        step, stats = self._steps, None
        self._steps += 1
        if self._monitor is not None:
            stats = self._monitor.summary_stats()
            self.history.append((step, stats))
            self._monitor.close()
            self._monitor = None
        if self._observation is not None and (self._observation.stepped or not self._optimizers):
            seen = self._observation.finish()
            self._observation = None
            self._audits = False
            self.audit = conclude(self._model, seen, kinds=self._kinds)
            self._judge(self.audit)
        return stats

    def close(self) -> None:
        """Take all hooks off the model."""
        if self._monitor is not None:
            self._monitor.close()
            self._monitor = None
        if self._observation is not None:
            self._observation.close()
            self._observation = None

    def _judge(self, audit: Audit) -> None:
        if audit.ok or self._on_problem == "ignore":
            return
        if self._on_problem == "raise":
            raise AuditError(audit)
        warnings.warn(f"The first training step shows a problem.\n{audit.render()}", stacklevel=4)


def find_blocks(model: nn.Module, blocks: Blocks) -> Sequence[nn.Module]:
    """The blocks themselves, from whatever says which they are.

    Raises:
        ValueError: the model has no module of that name.
        TypeError: they are said in no way that is known.
    """
    if isinstance(blocks, str):
        modules = named_modules(model)
        if blocks not in modules:
            raise ValueError(f"The model has no module `{blocks}`")
        return list(modules[blocks].children())
    if isinstance(blocks, (list, tuple, nn.ModuleList, nn.Sequential)):
        return list(blocks)
    if isinstance(blocks, nn.Module) or not callable(blocks):
        raise TypeError(f"blocks is a name, a list of modules or a function from the model to one, not {type(blocks).__name__}")
    return blocks(model)


def finite(stats: GainStats, prefix: str = "grad_gain/") -> dict[str, float]:
    """Statistics under the names that loggers show, without those that are not a number."""
    return {f"{prefix}{key}": float(value) for key, value in stats.items() if float(value) == float(value)}  # type: ignore[arg-type]
