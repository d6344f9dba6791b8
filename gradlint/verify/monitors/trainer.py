"""A callback for the Trainer of transformers. Importing this module imports transformers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from gradlint.verify.monitors.audit import Audit
from gradlint.verify.monitors.gain import GainStats, NormType
from gradlint.verify.monitors.kinds import Kinds
from gradlint.verify.monitors.loop import Blocks, LoopMonitor, finite

if TYPE_CHECKING:
    TrainerCallback = object
else:
    try:
        from transformers import TrainerCallback
    except ImportError as error:
        raise ImportError("TrainerGradientMonitor needs transformers: pip install transformers") from error


class TrainerGradientMonitor(TrainerCallback):
    """Reports gradient gains, and audits the first optimizer step.

    The gains of the last measured step join the numbers that the Trainer logs next, as ``grad_gain/mean_gain`` and so on.  A
    reporter that the Trainer set up itself, such as TensorBoard, has been called by then: give ``report`` to reach it.  The
    audit warns of parameters without gradient, outside the optimizer, frozen ones that move, and drifting buffers of frozen
    parts.

    Args:
        blocks: the dotted name of the list of blocks in the model (``"bert.encoder.layer"``), a function from the model to
            its blocks, or the blocks; without it, no gains are measured.
        every: measure every so many optimizer steps.
        norm_type: see `GradientGainMonitor`.
        audit: audit the first step.
        on_problem: ``"warn"``, ``"raise"`` or ``"ignore"``.
        kinds: see `gradlint.verify.audit`.
        report: called with the number of the step and the statistics of each measured step.
    """

    def __init__(
        self,
        blocks: Blocks | None = None,
        *,
        every: int = 100,
        norm_type: NormType = "l2",
        audit: bool = True,
        on_problem: Literal["warn", "raise", "ignore"] = "warn",
        kinds: Kinds | None = None,
        report: Callable[[int, dict[str, float]], object] | None = None,
    ) -> None:
        super().__init__()
        self._options: dict[str, Any] = {
            "blocks": blocks,
            "every": every,
            "norm_type": norm_type,
            "audit": audit,
            "on_problem": on_problem,
            "kinds": kinds,
        }
        self._report = report
        self._loop: LoopMonitor | None = None
        self._latest: dict[str, float] = {}

    @property
    def history(self) -> list[tuple[int, GainStats]]:
        """The number of each measured step with its gains' statistics."""
        return self._loop.history if self._loop is not None else []

    @property
    def audit(self) -> Audit | None:
        """The audit of the first step, once it is done."""
        return self._loop.audit if self._loop is not None else None

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Look for the blocks and the optimizer."""
        self._loop = LoopMonitor(parts["model"], parts.get("optimizer"), **self._options)

    def on_step_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """A step begins, with all of its accumulated batches."""
        if self._loop is not None:
            self._loop.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """A step is done."""
        stats = self._loop.end() if self._loop is not None else None
        if stats is not None:
            self._latest = finite(stats)
            if self._report is not None:
                self._report(state.global_step, self._latest)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **parts: Any) -> None:
        """Add the latest gains to what is logged."""
        if logs is not None and self._latest:
            logs.update(self._latest)
            self._latest = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Take the hooks off."""
        if self._loop is not None:
            self._loop.close()
