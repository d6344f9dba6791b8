"""The state of a model, its optimizers and the random generators: kept, compared, and put back."""

from __future__ import annotations

import copy
import math
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from types import TracebackType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from gradlint.verify.monitors.selection import unwrapped

Restore = Callable[[], Any]
"""Puts a value back as it was and returns it."""


class Stateful(Protocol):
    """A scheduler, gradient scaler, moving average: what can say and take back its state."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Snapshot:
    """A copy of everything that a training step changes.

    Parameters, buffers, gradients, ``requires_grad``, train/eval modes and plain attributes of modules, the state and the
    settings of the optimizers, the generators of Python, NumPy and torch, and whatever is given as ``also``.  What modules
    keep inside their own lists or objects is not copied.  Needs as much memory again as the model and its optimizers take.

    As a context manager it restores everything on leaving, also after an error.

    Raises:
        ValueError: a parameter has no value to copy (a lazy module that never ran, a tensor on the meta device).
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Any] = (), also: Iterable[Stateful] = ()) -> None:
        self.values: dict[int, tuple[Tensor, Tensor]] = {}
        """By identity, each parameter and buffer with a copy of its value."""
        self.gradients: dict[int, Tensor | None] = {}
        """By identity, a copy of each parameter's gradient."""
        _refuse_valueless(model)
        self._restore: list[Restore] = []
        with torch.no_grad():
            for module in model.modules():
                self._restore.append(_attributes(module))
            for tensor in _tensors(model, optimizers):
                self._keep(tensor)
            for optimizer in optimizers:
                self._restore.append(_optimizer(plain(optimizer)))
        for each in also:
            self._restore.append(_stateful(each))
        self._generators = _generators()

    def restore(self) -> None:
        """Put everything back."""
        with torch.no_grad():
            for restore in self._restore:
                restore()
        self._generators()

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.restore()

    def _keep(self, tensor: Tensor) -> None:
        if id(tensor) in self.values:
            return
        value, gradient, trains = tensor.detach().clone(), tensor.grad, tensor.requires_grad
        slope = None if gradient is None else gradient.detach().clone()
        self.values[id(tensor)] = tensor, value
        self.gradients[id(tensor)] = slope

        def restore() -> None:
            if tensor.shape != value.shape or tensor.dtype != value.dtype:
                tensor.data = value.clone()
            elif not same(tensor, value):
                tensor.detach().copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(trains)
            if gradient is not None and slope is not None and not same(gradient, slope):
                gradient.detach().copy_(slope)
            if tensor.is_leaf:
                tensor.grad = gradient

        self._restore.append(restore)


def plain(optimizer: Any) -> Optimizer:
    """The optimizer of torch inside what wraps it.

    Raises:
        TypeError: there is none.
    """
    inner = optimizer
    # A wrapper may call itself an optimizer without being made as one; only what was made as one has hooks.
    while not (isinstance(inner, Optimizer) and "_optimizer_step_pre_hooks" in vars(inner)):
        inner = getattr(inner, "optimizer", None)
        if inner is None:
            raise TypeError(f"{type(optimizer).__name__} is no optimizer and wraps none")
    return inner


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same values; NaN equals NaN."""
    return largest_difference(one, other) == 0.0


def largest_difference(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference between the elements; infinite between other shapes, or where one side is NaN."""
    one, other = one.detach(), other.detach()
    if one.shape != other.shape:
        return math.inf
    other = other.to(one.device)
    if one.layout != torch.strided:
        one, other = one.to_dense(), other.to_dense()
    if not one.numel() or torch.equal(one, other):
        return 0.0
    if not (one.is_floating_point() or one.is_complex()):
        one, other = one.to(torch.float64), other.to(torch.float64)
    elif one.dtype in (torch.float16, torch.bfloat16) or one.element_size() == 1:
        one, other = one.to(torch.float32), other.to(torch.float32)
    apart = torch.where((one == other) | (one.isnan() & other.isnan()), 0, (one - other).abs())
    return float(apart.nan_to_num(nan=math.inf, posinf=math.inf).max())


def _tensors(model: nn.Module, optimizers: Sequence[Any]) -> Iterable[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for optimizer in optimizers:
        for group in plain(optimizer).param_groups:
            yield from group["params"]


def _refuse_valueless(model: nn.Module) -> None:
    inner = unwrapped(model)
    for name, tensor in [*inner.named_parameters(), *inner.named_buffers()]:
        if is_lazy(tensor):
            raise ValueError(f"`{name}` has no value yet, because its lazy module never ran: run one forward first")
        if tensor.is_meta:
            raise ValueError(f"`{name}` is on the meta device and has no value: move the model to a real device first")


def _attributes(module: nn.Module) -> Restore:
    """The attributes of a module by name, and what is registered with it."""
    if isinstance(module, torch.jit.ScriptModule):  # what it holds lives elsewhere; its tensors are kept as all others are
        return lambda: None
    attributes, training = dict(module.__dict__), module.training
    registered = {kind: dict(attributes[kind]) for kind in ("_parameters", "_buffers", "_modules")}

    # Wrappers for compiling and for many devices set themselves up in their first forward, and have to stay set up.
    wrapper = type(module).__module__.startswith(("torch.distributed", "torch.nn.parallel", "torch._dynamo"))

    def restore() -> None:
        if wrapper:
            if module.training != training:
                module.training = training
        else:
            module.__dict__.clear()
            module.__dict__.update(attributes)
        for kind, content in registered.items():
            attributes[kind].clear()
            attributes[kind].update(content)

    return restore


def _optimizer(optimizer: Optimizer) -> Restore:
    state = _kept(optimizer.state)
    groups = list(optimizer.param_groups)
    settings = [{key: value if key == "params" else _kept(value) for key, value in group.items()} for group in groups]
    members = [list(group["params"]) for group in groups]

    def restore() -> None:
        state()
        optimizer.param_groups[:] = groups
        for group, setting, params in zip(groups, settings, members, strict=True):
            group.clear()
            group.update({key: value if key == "params" else value() for key, value in setting.items()})
            group["params"][:] = params

    return restore


def _stateful(thing: Stateful) -> Restore:
    state = copy.deepcopy(thing.state_dict())
    return lambda: thing.load_state_dict(state)


def _kept(value: Any) -> Restore:
    """How to put a nested value back: containers and tensors stay the objects they are and get their content again."""
    if isinstance(value, Tensor):
        copied = value.detach().clone()

        def tensor() -> Tensor:
            if value.shape == copied.shape:
                value.detach().copy_(copied)
            else:
                value.data = copied.clone()
            return value

        return tensor
    if isinstance(value, MutableMapping):
        entries = [(key, _kept(each)) for key, each in value.items()]

        def mapping() -> Any:
            value.clear()
            for key, each in entries:
                value[key] = each()
            return value

        return mapping
    if isinstance(value, (list, deque)):
        elements = [_kept(each) for each in value]

        def sequence() -> Any:
            restored = [each() for each in elements]
            value.clear()
            value.extend(restored)
            return value

        return sequence
    return lambda: value


def _generators() -> Callable[[], None]:
    """How to put the random generators back."""
    python, cpu = random.getstate(), torch.get_rng_state()
    numpy: Any = sys.modules.get("numpy")
    array = numpy.random.get_state() if numpy is not None else None
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None

    def restore() -> None:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if array is not None:
            numpy.random.set_state(array)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return restore
