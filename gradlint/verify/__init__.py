"""Proves or refutes findings by running the code. The only home of torch; user code runs in worker processes alone.

The monitors for use in training loops, notebooks and tests are offered here by name: ``GradientGainMonitor``,
``verify_isolation``, ``audit``, ``assert_gradients_flow`` and their results.  Importing this package imports no torch; asking
for one of these names does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gradlint.verify.monitors.audit import Audit, audit
    from gradlint.verify.monitors.contract import GradientFlowError, assert_gradients_flow
    from gradlint.verify.monitors.gain import GradientGainMonitor
    from gradlint.verify.monitors.isolation import Isolation, IsolationError, verify_isolation
    from gradlint.verify.monitors.lightning import LightningGradientMonitor
    from gradlint.verify.monitors.loop import LoopMonitor
    from gradlint.verify.monitors.trainer import TrainerGradientMonitor

__all__ = [
    "Audit",
    "GradientFlowError",
    "GradientGainMonitor",
    "Isolation",
    "IsolationError",
    "LightningGradientMonitor",
    "LoopMonitor",
    "TrainerGradientMonitor",
    "assert_gradients_flow",
    "audit",
    "verify_isolation",
]

_HOMES = {
    "Audit": "audit",
    "GradientFlowError": "contract",
    "GradientGainMonitor": "gain",
    "Isolation": "isolation",
    "IsolationError": "isolation",
    "LightningGradientMonitor": "lightning",
    "LoopMonitor": "loop",
    "TrainerGradientMonitor": "trainer",
    "assert_gradients_flow": "contract",
    "audit": "audit",
    "verify_isolation": "isolation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"gradlint.verify.monitors.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
