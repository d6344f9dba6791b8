"""Auto-drive: builds an ``nn.Module`` class, feeds it, and takes it through forward and backward with no help.

Only to be used inside a worker process: it runs the class's code.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from gradlint.verify.drive.examples import example_of, run_example
from gradlint.verify.drive.failures import Failure
from gradlint.verify.drive.limits import Clock
from gradlint.verify.drive.relatives import states_seen
from gradlint.verify.drive.result import Run, Undriven
from gradlint.verify.drive.search import Search, quiet
from gradlint.verify.drive.values import Scope, Unrenderable

__all__ = ["Run", "Undriven", "drive", "drive_example"]

_EXAMPLE_SHARE = 0.1  # of the time for the example of its docstring
_OWN_SHARE = 0.35  # of the time for the class by itself; the rest is for models that contain it


def drive(cls: type[nn.Module], *, device: str = "cpu", seed: int = 0, time_limit: float = 20.0) -> Run | Undriven:
    """Find arguments for a module class and run it forward and backward.

    Args:
        cls: the class.
        device: ``cpu``, ``cuda`` or ``cuda:1``.
        seed: set before everything random.
        time_limit: in seconds of processor time, for all attempts together; three times as long in passing time at most. Python code that never calls torch is not interrupted by it: that is
            for the process around it to do.
    """
    clock = Clock()
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
            example = example_of(cls)
            if example:
                shown = run_example(cls, example, clock, device=device, seed=seed, seconds=_EXAMPLE_SHARE * time_limit)
                if isinstance(shown, Run) and not shown.degenerate:
                    return shown
            return _drive(cls, scope, clock, device, seed, time_limit)
    finally:
        torch.set_rng_state(state)


def drive_example(cls: type[nn.Module], *, device: str = "cpu", seed: int = 0, time_limit: float = 20.0) -> Run | Undriven:
    """Run the example in a class's docstring and follow the gradient through the first call of the class in it.

    Args:
        cls: the class.
        device: where tensors are made that name no device.
        seed: set before the example runs.
        time_limit: in seconds, as for :func:`drive`.
    """
    source = example_of(cls)
    if not source:
        return Undriven("its docstring has no example that builds it", "nothing")
    state = torch.get_rng_state()
    try:
        with quiet():
            return run_example(cls, source, Clock(), device=device, seed=seed, seconds=time_limit)
    finally:
        torch.set_rng_state(state)


def _drive(cls: type[nn.Module], scope: Scope, clock: Clock, device: str, seed: int, time_limit: float) -> Run | Undriven:
    """First from the signature alone; then, where that does not do, from larger models that contain the class."""
    search = Search(cls, scope, clock, device=device, seed=seed, deadline=_OWN_SHARE * time_limit)
    best = search.run(search.seeds())
    origin = "signature"
    if best is None or best.degenerate or not best.carries:
        maker = scope.name(cls)
        for name, state in states_seen(cls, scope, clock, seed=seed, deadline=0.9 * time_limit, share=0.2 * time_limit):
            search.deadline = min(time_limit, clock.now() + 0.2 * time_limit)
            found = search.run([state if state.maker else replace(state, maker=maker)], builds=8, forwards=60)
            if found is not None and found is not best:
                best, origin = found, f"as used in {name}"
            if best is not None and best.carries and not best.degenerate:
                break
    if best is not None:
        search.deadline = clock.now() + max(0.5 * time_limit, 5.0)  # it ran once: it will again
        result = search.finished(best, origin)
        if not isinstance(result, Failure):
            return result
    search.deadline = time_limit
    return search.failed()
