"""Auto-drive: builds an ``nn.Module`` class, feeds it, and takes it through forward and backward with no help.

Only to be used inside a worker process: it runs the class's code.
"""

from __future__ import annotations

import time

import torch
from torch import nn

from gradlint.verify.drive.failures import Failure
from gradlint.verify.drive.result import Run, Undriven
from gradlint.verify.drive.search import Search, quiet
from gradlint.verify.drive.values import Scope, Unrenderable

__all__ = ["Run", "Undriven", "drive"]


def drive(cls: type[nn.Module], *, device: str = "cpu", seed: int = 0, time_limit: float = 20.0) -> Run | Undriven:
    """Find arguments for a module class and run it forward and backward.

    Args:
        cls: the class.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        seed: set before everything random.
        time_limit: in seconds, for all attempts together. Python code that never calls torch is not interrupted by it: that is
            for the process around it to do.
    """
    began = time.monotonic()
    if cls.forward is nn.Module.forward or getattr(cls.forward, "__name__", "") == "_forward_unimplemented":
        return Undriven("it defines no forward", "nothing")
    if getattr(cls, "__abstractmethods__", None):
        missing = ", ".join(sorted(cls.__abstractmethods__))  # type: ignore[attr-defined]
        return Undriven(f"it is abstract: {missing} not defined", "nothing")
    scope = Scope()
    try:
        scope.name(cls)
    except Unrenderable:
        return Undriven("its module does not hold it under its name", "nothing")
    state = torch.get_rng_state()
    try:
        with quiet():
            return _drive(cls, scope, device, seed, began, time_limit)
    finally:
        torch.set_rng_state(state)


def _drive(cls: type[nn.Module], scope: Scope, device: str, seed: int, began: float, time_limit: float) -> Run | Undriven:
    search = Search(cls, scope, device=device, seed=seed, deadline=began + time_limit)
    trial = search.run(search.seeds())
    if trial is not None:
        result = search.finished(trial, "signature", began)
        if not isinstance(result, Failure):
            return result
    return search.failed(began)
