"""A callback for Lightning. Importing this module imports Lightning."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Literal

from gradlint.verify.monitors.audit import Audit
from gradlint.verify.monitors.gain import GainStats, NormType
from gradlint.verify.monitors.kinds import Kinds
from gradlint.verify.monitors.loop import Blocks, LoopMonitor, finite

if TYPE_CHECKING:
    Callback = object
else:

    def _base() -> type:
        """The callback class of the Lightning that the program uses; it comes in two packages."""
        packages = ["lightning.pytorch", "pytorch_lightning"]
        packages.sort(key=lambda name: sys.modules.get(name) is None)  # what is imported already comes first
        for package in packages:
            try:
                return importlib.import_module(package).Callback
            except ImportError as error:
                missing = error
        raise ImportError("LightningGradientMonitor needs Lightning: pip install lightning") from missing

    Callback = _base()


class LightningGradientMonitor(Callback):
    """Logs gradient gains, and audits the first training step.

    The gains of every measured step go to the module's ``log_dict`` as ``grad_gain/mean_gain`` and so on.  The audit warns of
    parameters without gradient, outside the optimizer, frozen ones that move, and drifting buffers of frozen parts.

    Args:
        blocks: the dotted name of the list of blocks in the module (``"model.layers"``), a function from the module to its
            blocks, or the blocks; without it, no gains are measured.
        every: measure every so many training batches.
        norm_type: see `GradientGainMonitor`.
        audit: audit the first step.
        on_problem: ``"warn"``, ``"raise"`` or ``"ignore"``.
        kinds: see `gradlint.verify.audit`.
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
        self._loop: LoopMonitor | None = None

    @property
    def history(self) -> list[tuple[int, GainStats]]:
        """The number of each measured batch with its gains' statistics."""
        return self._loop.history if self._loop is not None else []

    @property
    def audit(self) -> Audit | None:
        """The audit of the first step, once it is done."""
        return self._loop.audit if self._loop is not None else None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Look for the blocks and the optimizers."""
        self._loop = LoopMonitor(pl_module, list(trainer.optimizers), **self._options)

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        """A step begins."""
        if self._loop is not None:
            self._loop.begin()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A step is done: log what was measured."""
        stats = self._loop.end() if self._loop is not None else None
        if stats is not None:
            pl_module.log_dict(finite(stats))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Take the hooks off."""
        if self._loop is not None:
            self._loop.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Take the hooks off."""
        if self._loop is not None:
            self._loop.close()
