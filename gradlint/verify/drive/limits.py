"""Bounds on what an attempt may cost, enforced inside the process: time and numbers of elements."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

__all__ = ["Clock", "Limits", "OutOfTime", "TooBig"]


class Clock:
    """Seconds of work since it was made: of processor time, so that a busy machine does not make results poorer; or a third of the
    seconds that passed, where that is more, so that waiting for something counts too.
    """

    def __init__(self) -> None:
        self._worked = time.process_time()
        self._began = time.monotonic()

    def now(self) -> float:
        """Seconds since the clock was made."""
        return max(time.process_time() - self._worked, (time.monotonic() - self._began) / 3)


class OutOfTime(BaseException):
    """The time for an attempt is over. Not an ``Exception``: user code that catches those must not swallow it."""


class TooBig(BaseException):
    """A tensor of an attempt has more elements than allowed."""


_FACTORIES = {
    getattr(torch, name)
    for name in (
        "empty",
        "zeros",
        "ones",
        "rand",
        "randn",
        "full",
        "eye",
        "arange",
        "linspace",
        "randint",
        "tril_indices",
        "randperm",
    )
}


# What context managers call when they are left: has to go through, or the unwinding itself would fail
_RESTORING = {
    torch._C._set_grad_enabled,
    torch.set_autocast_enabled,
    torch.set_autocast_dtype,
    torch.set_autocast_cache_enabled,
}

_FILLING = {
    getattr(torch.Tensor, f"{name}_")
    for name in (
        "uniform",
        "normal",
        "zero",
        "fill",
        "erfinv",
        "mul",
        "add",
        "sub",
        "div",
        "clamp",
        "copy",
        "exponential",
        "log_normal",
        "bernoulli",
    )
}


class Limits(TorchFunctionMode):
    """While active, every call of torch is checked against the clock, and what it makes against a number of elements.

    ``seconds``: from entering on.  ``single``: elements of one tensor.  ``total``: elements of all tensors that factories such as
    ``torch.empty`` make, which is where parameters come from.  ``uninitialized``: leave tensors on the meta device as they are
    instead of filling them, which changes nothing about them and takes long.
    """

    def __init__(
        self, clock: Clock, seconds: float, single: int = 40_000_000, total: int = 120_000_000, *, uninitialized: bool = False
    ) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds
        self._single = single
        self._total = total
        self._uninitialized = uninitialized
        self._made = 0
        self._deadline = math.inf

    def __enter__(self) -> Limits:
        self._deadline = self._clock.now() + self._seconds
        self._made = 0
        super().__enter__()
        return self

    def __torch_function__(self, func: Any, types: Iterable[type], args: Any = (), kwargs: Any = None) -> Any:
        """Check, call, check."""
        if func in _RESTORING:
            return func(*args, **(kwargs or {}))
        if self._uninitialized and func in _FILLING and args[0].device.type == "meta":
            return args[0]
        if self._clock.now() > self._deadline:
            raise OutOfTime
        kwargs = kwargs or {}
        factory = func in _FACTORIES
        if factory and not _is_meta(kwargs.get("device")):
            wanted = _requested(func, args, kwargs)
            if wanted > self._single:
                raise TooBig(f"{wanted} elements")
            self._made += wanted
            if self._made > self._total:
                raise TooBig(f"{self._made} elements in all")
        result = func(*args, **kwargs)
        if type(result) is torch.Tensor and result.device.type != "meta" and result.numel() > self._single:
            raise TooBig(f"{result.numel()} elements")
        return result


def _is_meta(device: Any) -> bool:
    device = device if device is not None else torch.get_default_device()
    return str(device).startswith("meta")


def _requested(func: Any, args: Any, kwargs: Any) -> int:
    """How many elements a factory is asked for; 1 where it cannot be told."""
    try:
        if func in {torch.arange, torch.linspace, torch.randperm}:
            return max((int(value) for value in args if isinstance(value, int | float)), default=1)
        if func is torch.eye:
            return int(args[0]) * int(args[1] if len(args) > 1 and isinstance(args[1], int) else args[0])
        size = kwargs.get("size", args)
        if func is torch.randint and "size" not in kwargs:
            size = next(value for value in args if isinstance(value, tuple | list | torch.Size))
        elif func is torch.full and "size" not in kwargs:
            size = args[0]
        elif size and isinstance(size[0], tuple | list | torch.Size):
            size = size[0]
        return math.prod(int(item) for item in size)
    except (TypeError, ValueError, StopIteration, IndexError, OverflowError):
        return 1
