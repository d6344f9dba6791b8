"""What a training step does to each parameter and buffer of a model."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradlint.verify.monitors.scalars import measure, read
from gradlint.verify.monitors.selection import named_buffers, named_modules, named_parameters
from gradlint.verify.monitors.snapshot import Snapshot, Stateful, largest_difference, plain, same

Arrival = Literal["none", "zero", "nonzero", "not finite"]


@dataclass(frozen=True, slots=True)
class ParameterSeen:
    """One parameter: as it was before the step, and what the step did to it.

    ``held``: whether an optimizer holds it, None where no optimizer is known.  ``gradient``: what arrived at it in this step;
    ``gradient_peak``: the largest absolute value of an element of that.  ``gradient_norm``: the L2 norm of its gradient when
    the optimizer stepped, or of what arrived where no step was seen; None without one.  ``stale``: it holds a gradient that
    did not come from this step.  ``change``: the largest absolute difference of an element, infinite where NaN came or went;
    None where no step was run.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    device: str
    trains: bool
    held: bool | None
    learning_rate: float | None
    weight_decay: float | None
    norm: float
    gradient: Arrival
    gradient_peak: float
    gradient_norm: float | None
    stale: bool
    change: float | None

    @property
    def size(self) -> int:
        """The number of elements."""
        product = 1
        for length in self.shape:
            product *= length
        return product

    @property
    def moved(self) -> bool:
        """Whether its value is known to have changed."""
        return self.change is not None and self.change > 0


@dataclass(frozen=True, slots=True)
class BufferSeen:
    """One buffer and how far the step moved it. ``frozen``: its module has parameters here or above it, and none trains."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    frozen: bool
    training: bool
    change: float | None

    @property
    def moved(self) -> bool:
        """Whether its value is known to have changed."""
        return self.change is not None and self.change > 0


@dataclass(frozen=True, slots=True)
class StepSeen:
    """What one step did to a whole model. ``stepped``: whether an optimizer of torch was seen stepping."""

    parameters: tuple[ParameterSeen, ...]
    buffers: tuple[BufferSeen, ...]
    stepped: bool
    strangers: tuple[tuple[int, ...], ...]
    """Shapes of the tensors that the optimizers hold and the model does not."""


class Arrivals:
    """Hears the gradients that arrive at parameters, until `close`. Each is kept as its largest value and its L2 norm."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self.heard: dict[int, tuple[Tensor, Tensor]] = {}
        self._handles: list[RemovableHandle] = [
            each.register_hook(partial(self.hear, id(each)))  # type: ignore[no-untyped-call]
            for each in parameters
            if each.requires_grad
        ]

    def hear(self, parameter: int, gradient: Tensor) -> None:
        """Note a gradient; those of several backwards count together."""
        peak, norm = measure(gradient, "linf"), measure(gradient, "l2")
        if parameter in self.heard:
            earlier_peak, earlier_norm = self.heard[parameter]
            peak, norm = torch.maximum(peak, earlier_peak), torch.hypot(norm, earlier_norm)
        self.heard[parameter] = peak, norm

    def close(self) -> None:
        """Stop hearing."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


class Observation:
    """Watches a model from now until `finish`.

    Args:
        model: the model.
        optimizers: the optimizers of the step.
        also: what else should be put back by `restore`.

    Raises:
        ValueError: a parameter has no value yet.
        TypeError: an optimizer is none.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Any] = (), also: Iterable[Stateful] = ()) -> None:
        self._model = model
        self._optimizers = [plain(optimizer) for optimizer in optimizers]
        self._before = Snapshot(model, optimizers, also)
        self._parameters = named_parameters(model)
        self._buffers = named_buffers(model)
        self._trains = {name: parameter.requires_grad for name, parameter in self._parameters.items()}
        self._frozen_buffers = _buffers_of_frozen(model)
        self._modes = _modes(model)
        self._groups = _groups(self._optimizers)
        self._strangers = _strangers(self._optimizers, self._parameters.values())
        self._at_step: dict[int, Tensor] = {}
        self._stepped = False
        self._arrivals = Arrivals(self._parameters.values())
        self._handles = [optimizer.register_step_pre_hook(self._before_step) for optimizer in self._optimizers]

    @property
    def stepped(self) -> bool:
        """Whether an optimizer has stepped since the observation began."""
        return self._stepped

    def finish(self) -> StepSeen:
        """Stop watching and compare with how things were at the beginning."""
        self.close()
        now = named_parameters(self._model)
        with torch.no_grad():
            parameters = [self._parameter(name, before, now.get(name, before)) for name, before in self._parameters.items()]
            stores = named_buffers(self._model)
            buffers = [self._buffer(name, before, stores.get(name, before)) for name, before in self._buffers.items()]
        return StepSeen(tuple(parameters), tuple(buffers), self._stepped, self._strangers)

    def restore(self) -> None:
        """Put everything back as it was at the beginning."""
        self._before.restore()

    def close(self) -> None:
        """Stop watching."""
        self._arrivals.close()
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _before_step(self, optimizer: Any, *_: object) -> None:
        self._stepped = True
        with torch.no_grad():
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._look(parameter)
                        self._at_step[id(parameter)] = measure(parameter.grad, "l2")

    def _look(self, parameter: Tensor) -> None:
        """A gradient may have come unheard: to what was frozen when the step began, or by assignment."""
        key, gradient = id(parameter), parameter.grad
        if gradient is None or key in self._arrivals.heard or key not in self._before.gradients:
            return
        earlier = self._before.gradients[key]
        if earlier is None or not same(earlier, gradient):
            self._arrivals.hear(key, gradient)

    def _parameter(self, name: str, before: nn.Parameter, now: nn.Parameter) -> ParameterSeen:
        key = id(before)
        self._look(before)
        arrived, applied = self._arrivals.heard.get(key), self._at_step.get(key)
        shown = applied if applied is not None else arrived[1] if arrived is not None else None
        scalars = [measure(self._before.values[key][1], "l2"), *(arrived[:1] if arrived is not None else ())]
        norm, *numbers = read(scalars if shown is None else [*scalars, shown])
        group = self._groups.get(key)
        return ParameterSeen(
            name=name,
            shape=tuple(before.shape),
            dtype=str(before.dtype).removeprefix("torch."),
            device=str(before.device),
            trains=self._trains[name],
            held=key in self._groups if self._optimizers else None,
            learning_rate=_number(group, "lr"),
            weight_decay=_number(group, "weight_decay"),
            norm=norm,
            gradient="none" if arrived is None else arrival(numbers[0]),
            gradient_peak=0.0 if arrived is None else numbers[0],
            gradient_norm=None if shown is None else numbers[-1],
            stale=arrived is None and (applied is not None or before.grad is not None),
            change=largest_difference(self._before.values[key][1], now),
        )

    def _buffer(self, name: str, before: Tensor, now: Tensor) -> BufferSeen:
        _, value = self._before.values[id(before)]
        owner = name.rpartition(".")[0]
        return BufferSeen(
            name=name,
            shape=tuple(before.shape),
            dtype=str(before.dtype).removeprefix("torch."),
            frozen=name in self._frozen_buffers,
            training=self._modes.get(owner, False),
            change=largest_difference(value, now),
        )


def arrival(peak: float) -> Arrival:
    """A gradient by its largest absolute value."""
    if peak == 0:
        return "zero"
    return "nonzero" if peak < math.inf else "not finite"


def glance(model: nn.Module, optimizers: Sequence[Any] = ()) -> StepSeen:
    """The model as it stands, with the gradients that an earlier backward left, and nothing known of any step."""
    inner = [plain(optimizer) for optimizer in optimizers]
    groups, modes, frozen = _groups(inner), _modes(model), _buffers_of_frozen(model)
    parameters = []
    for name, each in named_parameters(model).items():
        gradient, group = each.grad, groups.get(id(each))
        scalars = [measure(each, "l2")]
        if gradient is not None:
            scalars += [measure(gradient, "linf"), measure(gradient, "l2")]
        norm, *numbers = read(scalars)
        parameters.append(
            ParameterSeen(
                name=name,
                shape=tuple(each.shape),
                dtype=str(each.dtype).removeprefix("torch."),
                device=str(each.device),
                trains=each.requires_grad,
                held=id(each) in groups if inner else None,
                learning_rate=_number(group, "lr"),
                weight_decay=_number(group, "weight_decay"),
                norm=norm,
                gradient=arrival(numbers[0]) if numbers else "none",
                gradient_peak=numbers[0] if numbers else 0.0,
                gradient_norm=numbers[1] if numbers else None,
                stale=gradient is not None and not each.requires_grad,
                change=None,
            )
        )
    buffers = [
        BufferSeen(
            name=name,
            shape=tuple(each.shape),
            dtype=str(each.dtype).removeprefix("torch."),
            frozen=name in frozen,
            training=modes.get(name.rpartition(".")[0], False),
            change=None,
        )
        for name, each in named_buffers(model).items()
    ]
    return StepSeen(tuple(parameters), tuple(buffers), False, _strangers(inner, named_parameters(model).values()))


def _groups(optimizers: Sequence[Any]) -> dict[int, dict[str, Any]]:
    return {id(each): group for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}


def _strangers(optimizers: Sequence[Any], parameters: Iterable[nn.Parameter]) -> tuple[tuple[int, ...], ...]:
    known = {id(parameter) for parameter in parameters}
    held = {id(each): each for optimizer in optimizers for group in optimizer.param_groups for each in group["params"]}
    return tuple(tuple(each.shape) for key, each in held.items() if key not in known)


def _number(group: Mapping[str, Any] | None, key: str) -> float | None:
    value = None if group is None else group.get(key)
    return float(value) if isinstance(value, (int, float, Tensor)) else None


def _modes(model: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in named_modules(model).items()}


def _buffers_of_frozen(model: nn.Module) -> set[str]:
    modules = named_modules(model)
    return {name for name in named_buffers(model) if is_frozen(modules, name.rpartition(".")[0])}


def is_frozen(modules: Mapping[str, nn.Module], name: str) -> bool:
    """Whether no parameter trains in a module or, where it has none of its own, in the nearest one around it that has some."""
    while True:
        parameters = list(modules[name].parameters()) if name in modules else []
        if parameters:
            return not any(parameter.requires_grad for parameter in parameters)
        if not name:
            return False
        name = name.rpartition(".")[0]
