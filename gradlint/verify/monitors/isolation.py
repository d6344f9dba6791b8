"""Whether a part of a model stays as it is through a training step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from gradlint.verify.monitors.observation import Observation, StepSeen
from gradlint.verify.monitors.selection import Selected, Selection, unwrapped
from gradlint.verify.monitors.snapshot import Stateful
from gradlint.verify.monitors.stepping import Loss, TrainingStep, is_step


class IsolationError(AssertionError):
    """A part of the model changed though it was to stay as it is. ``result`` holds the details."""

    def __init__(self, result: Isolation) -> None:
        super().__init__(result.render())
        self.result = result


@dataclass(frozen=True, slots=True)
class Change:
    """Something of the part that changed. ``amount`` is the largest absolute difference of an element.

    For a gradient, which starts from nothing, it is the largest absolute value that arrived.
    """

    name: str
    kind: Literal["parameter", "gradient", "buffer"]
    amount: float

    def __str__(self) -> str:
        match self.kind:
            case "parameter":
                return f"parameter {self.name} moved, max difference {self.amount:.3e}"
            case "gradient":
                return f"parameter {self.name} received a gradient, max value {self.amount:.3e}"
            case "buffer":
                return f"buffer {self.name} changed, max difference {self.amount:.3e}"


@dataclass(frozen=True, slots=True)
class Isolation:
    """What a step did to the part that was to stay as it is. True when it stayed.

    ``parameters`` and ``buffers``: how many were compared.  ``trained``: how many parameters of the rest moved, which shows
    that the step was one.  ``notes``: what to know about the run.
    """

    part: str
    changes: tuple[Change, ...]
    parameters: int
    buffers: int
    trained: int
    loss: float | None
    notes: tuple[str, ...] = ()

    @property
    def isolated(self) -> bool:
        """Whether nothing of the part changed."""
        return not self.changes

    def __bool__(self) -> bool:
        return self.isolated

    def render(self) -> str:
        """The result as text for people."""
        counts = f"{self.parameters} parameter{'s' * (self.parameters != 1)}, {self.buffers} buffer{'s' * (self.buffers != 1)}"
        if self.isolated:
            lines = [f"{self.part} stayed as it is ({counts}); {self.trained} parameters of the rest moved."]
        else:
            lines = [f"{self.part} did not stay as it is in one training step ({counts}):"]
            lines += [f"  {change}" for change in self.changes]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.render()

    def as_dict(self) -> dict[str, Any]:
        """The result as plain data."""
        return {
            "part": self.part,
            "isolated": self.isolated,
            "changes": [{"name": each.name, "kind": each.kind, "amount": each.amount} for each in self.changes],
            "parameters": self.parameters,
            "buffers": self.buffers,
            "trained": self.trained,
            "loss": self.loss,
            "notes": list(self.notes),
        }


def verify_isolation(
    model: nn.Module,
    frozen: Selection,
    batch_or_step: Any,
    optimizer: Any = None,
    atol: float = 0.0,
    *,
    loss: Loss | None = None,
    also: Iterable[Stateful] = (),
    check: bool = True,
) -> Isolation:
    """Run one training step and compare a part of the model before and after: parameters, gradients and buffers.

    Afterwards the model, the optimizers, the random generators and ``also`` are as they were.

    Args:
        model: the whole model that trains, or a module that holds all of its parts.
        frozen: what is to stay as it is: a dotted name with all below it, a pattern, a module, or several of these.
        batch_or_step: a batch for ``model``, or a function without arguments that does a whole step; see `TrainingStep`.
        optimizer: the optimizer or optimizers of the step.  For a batch without one, plain gradient descent over all
            parameters that require grad stands in, which moves whatever gradient reaches.
        atol: the largest absolute difference to let pass.  The default lets none pass: what no step touches keeps every bit.
        loss: from the model's output and the target to the loss, where the model does not return its loss.
        also: schedulers, gradient scalers and other objects with ``state_dict`` that the step changes, to be put back.
        check: raise when the part changed; when False, only return what was seen.

    Raises:
        IsolationError: the part changed.  It is an `AssertionError` that names what changed and by how much.
        ValueError: ``frozen`` names nothing in the model, or the step sent no gradient to any parameter, so that it could not
            show anything.
    """
    selected = Selected(model, frozen)
    optimizers = as_optimizers(optimizer)
    step_with = optimizers
    if not optimizers and not is_step(batch_or_step):
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        step_with = [torch.optim.SGD(trainable, lr=1e-2)] if trainable else []
    step = TrainingStep(model, batch_or_step, step_with, loss)
    observation = Observation(model, step_with, also)
    try:
        step()
        seen = observation.finish()
    finally:
        observation.close()
        observation.restore()
    changes = changes_of(seen, selected, atol)
    rest = [each for each in seen.parameters if each.name not in selected.parameters]
    if not changes and all(each.gradient == "none" for each in seen.parameters):
        raise ValueError(
            f"The step sent no gradient to any parameter of {type(unwrapped(model)).__name__}, so it cannot show that "
            f"{selected} is isolated. " + ("The loss has no graph." if not step.backward_ran else "Does it call backward()?")
        )
    notes = []
    if step.function is None and not optimizers:
        notes.append("no optimizer was given: plain gradient descent stood in for it")
    if step.function is None and step.loss_source == "a random projection of the output":
        notes.append("the model returned no loss: a random projection of its output stood in for it")
    if optimizers and not seen.stepped:
        notes.append("no optimizer stepped, so only gradients and buffers were put to the test")
    elif rest and not any(each.moved for each in rest):
        notes.append("nothing else moved either: is the learning rate zero?")
    result = Isolation(
        part=str(selected),
        changes=changes,
        parameters=len(selected.parameters),
        buffers=len(selected.buffers),
        trained=sum(each.moved for each in rest),
        loss=None if step.loss_value is None else float(step.loss_value),
        notes=tuple(notes),
    )
    if check and changes:
        raise IsolationError(result)
    return result


def changes_of(seen: StepSeen, selected: Selected, atol: float) -> tuple[Change, ...]:
    """What of the chosen part a step changed by more than ``atol``: parameters, then gradients, then buffers."""
    parameters = [each for each in seen.parameters if each.name in selected.parameters]
    moved = [Change(each.name, "parameter", each.change) for each in parameters if each.change and each.change > atol]
    # Not a number is more than any tolerance.
    reached = [Change(each.name, "gradient", each.gradient_peak) for each in parameters if not each.gradient_peak <= atol]
    drifted = [
        Change(each.name, "buffer", each.change)
        for each in seen.buffers
        if each.name in selected.buffers and each.change and each.change > atol
    ]
    return (*moved, *reached, *drifted)


def as_optimizers(optimizer: Any) -> Sequence[Any]:
    """None, one optimizer or several, as a list."""
    if optimizer is None:
        return []
    return list(optimizer) if isinstance(optimizer, (list, tuple)) else [optimizer]
