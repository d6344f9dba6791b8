"""One table of what trains and what does not: switches, gradients, optimizers, movement, drift and modes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import nn

from gradlint.verify.monitors.isolation import as_optimizers
from gradlint.verify.monitors.kinds import Kinds, components, covering, kind_of
from gradlint.verify.monitors.observation import (
    Arrival,
    Arrivals,
    BufferSeen,
    Observation,
    ParameterSeen,
    StepSeen,
    arrival,
    glance,
    is_frozen,
)
from gradlint.verify.monitors.scalars import read
from gradlint.verify.monitors.selection import named_modules, named_parameters
from gradlint.verify.monitors.snapshot import Stateful
from gradlint.verify.monitors.stepping import Loss, TrainingStep

Mode = Literal["train", "eval", "mixed", ""]


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter: what a step showed of it, the part of the model it belongs to, and what it is for.

    ``later``: what arrived at it when the step was repeated with other numbers in the batch and in the parameters; None where
    that was not needed or not possible.
    """

    seen: ParameterSeen
    part: str
    kind: str
    later: Arrival | None = None

    @property
    def name(self) -> str:
        """The name in ``model.named_parameters()``."""
        return self.seen.name

    @property
    def unreached(self) -> bool:
        """Whether it should train and no gradient came to it."""
        return self.seen.trains and self.seen.gradient == "none" and self.later in (None, "none")

    @property
    def stays_zero(self) -> bool:
        """Whether it should train, and its gradient was zero, and no other came when the step was repeated."""
        zero = self.seen.gradient == "zero" or (self.seen.gradient == "none" and self.later == "zero")
        return self.seen.trains and zero and self.later in ("none", "zero")


@dataclass(frozen=True, slots=True)
class Group:
    """The parameters of one part and one kind, added up. Counts are of tensors; ``size`` of elements."""

    part: str
    kind: str
    tensors: int
    size: int
    trains: int
    gradient: int
    held: int | None
    moved: int | None
    gradient_norm: float | None
    mode: Mode


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about some parameters, buffers or modules, and their names."""

    text: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """What `audit` found, true when there is no problem.

    ``problems`` keep something from training, or let something move that is frozen; ``notes`` may well be meant.
    ``ran``: whether a step was run; without one, gradients are those that an earlier backward left, and movement is unknown.
    """

    rows: tuple[Row, ...]
    buffers: tuple[BufferSeen, ...]
    groups: tuple[Group, ...]
    problems: tuple[Remark, ...]
    notes: tuple[Remark, ...]
    loss: float | None
    ran: bool

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __bool__(self) -> bool:
        return self.ok

    def render(self, parameters: bool = False) -> str:
        """The table, the problems and the notes as text; with ``parameters``, one more table with a line for each."""
        from gradlint.verify.monitors.audit_text import text

        return text(self, parameters)

    def __str__(self) -> str:
        return self.render()

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data that ``json`` can write: numbers that are not finite become text."""
        return {
            "ok": self.ok,
            "ran": self.ran,
            "loss": _plain(self.loss),
            "groups": [_plain(asdict(each)) for each in self.groups],
            "parameters": [
                {
                    "part": each.part,
                    "kind": each.kind,
                    **_plain(asdict(each.seen)),
                    "later": each.later,
                    "moved": each.seen.moved,
                }
                for each in self.rows
            ],
            "buffers": [{**_plain(asdict(each)), "moved": each.moved} for each in self.buffers],
            "problems": [_plain(asdict(each)) for each in self.problems],
            "notes": [_plain(asdict(each)) for each in self.notes],
        }


def audit(
    model: nn.Module,
    optimizer: Any = None,
    batch_or_step: Any = None,
    *,
    loss: Loss | None = None,
    also: Iterable[Stateful] = (),
    kinds: Kinds | None = None,
    recheck: bool = True,
) -> Audit:
    """Run one training step and say of each parameter whether it trains as it seems to be meant.

    For each: does it require grad, does gradient arrive, does an optimizer hold it, does it move.  For frozen parts: do their
    buffers drift, are their layers in train mode.  Afterwards the model, the optimizers, the random generators and ``also``
    are as they were.

    A gradient of exactly zero is common in healthy models (a gate that starts at zero, the first factor of a fresh LoRA).  It
    becomes a problem only when it is still zero after a step, with other numbers in the batch and slightly moved parameters.

    Args:
        model: the whole model that trains, or a module that holds all of its parts.
        optimizer: the optimizer or optimizers; without one, nothing is said about membership.
        batch_or_step: a batch for ``model``, or a function without arguments that does a whole step; see `TrainingStep`.
            Without it nothing is run: the audit looks at switches, optimizers and the gradients that are there, as between
            ``loss.backward()`` and ``optimizer.step()`` in a loop.
        loss: from the model's output and the target to the loss, where the model does not return its loss.
        also: schedulers, gradient scalers and other objects with ``state_dict`` that the step changes, to be put back.
        kinds: titles for parameters, by names or patterns: ``{"seed": "seed", "gates": ["*.gate", "*.alpha"]}``.  What none
            fits is told by its name: LoRA, adapter, projection head, head, base.
        recheck: repeat the step, up to twice, for parameters without gradient.

    Raises:
        ValueError: a parameter has no value yet, or no loss can be computed from the batch.
        TypeError: ``optimizer`` is none, or the arguments do not go together.
    """
    optimizers = as_optimizers(optimizer)
    if batch_or_step is None:
        return conclude(model, glance(model, optimizers), ran=False, kinds=kinds)
    step = TrainingStep(model, batch_or_step, optimizers, loss)
    observation = Observation(model, optimizers, also)
    notes: list[Remark] = []
    try:
        step()
        seen = observation.finish()
        first = None if step.loss_value is None else float(step.loss_value)
        connected = step.backward_ran
        later: dict[str, Arrival] = {}
        doubtful = [each.name for each in seen.parameters if each.trains and each.gradient in ("none", "zero")]
        if recheck and doubtful and connected:
            later, failure = _again(model, step, doubtful)
            if failure:
                notes.append(Remark(f"The step could not be repeated with other numbers ({failure})"))
    finally:
        observation.close()
        observation.restore()
    if step.loss_source == "a random projection of the output":
        notes.append(Remark("The model returned no loss: a random projection of its output stood in for it"))
    return conclude(model, seen, loss=first, connected=connected, later=later, kinds=kinds, notes=notes)


def conclude(
    model: nn.Module,
    seen: StepSeen,
    *,
    loss: float | None = None,
    connected: bool = True,
    ran: bool = True,
    later: dict[str, Arrival] | None = None,
    kinds: Kinds | None = None,
    notes: Sequence[Remark] = (),
) -> Audit:
    """The audit of what was seen of a step."""
    parts = components(each.name for each in seen.parameters)
    rows = tuple(
        Row(each, parts[each.name], kind_of(each.name, kinds), (later or {}).get(each.name)) for each in seen.parameters
    )
    judge = _Judge(model, rows, seen, ran)
    problems = judge.problems(loss, connected)
    return Audit(rows, seen.buffers, _groups(model, rows, ran), problems, (*judge.notes(), *notes), loss, ran)


def _again(model: nn.Module, step: TrainingStep, doubtful: Sequence[str]) -> tuple[dict[str, Arrival], str]:
    """What arrives at some parameters when the step is done again, and why it could not be."""
    generator = torch.Generator().manual_seed(1)
    later: dict[str, Arrival] = {}
    for _ in range(2):
        parameters = named_parameters(model)
        open_ones = {name: parameters[name] for name in doubtful if name in parameters and later.get(name) != "nonzero"}
        if not open_ones:
            break
        _nudge(parameters.values(), generator)
        arrivals = Arrivals(open_ones.values())
        try:
            step(step.varied(generator))
        except Exception as error:  # the numbers are ours, and so is the blame
            return later, f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
        finally:
            arrivals.close()
        heard = [(name, arrivals.heard[id(each)][0]) for name, each in open_ones.items() if id(each) in arrivals.heard]
        peaks = read([peak for _, peak in heard])
        later |= {name: "none" for name in open_ones if name not in later}
        later |= {name: arrival(peak) for (name, _), peak in zip(heard, peaks, strict=True)}
    return later, ""


@torch.no_grad()
def _nudge(parameters: Iterable[nn.Parameter], generator: torch.Generator) -> None:
    """Move all that trains a little, so that a gate that starts at zero opens also where the learning rate is still zero."""
    for each in parameters:
        if each.requires_grad and each.is_floating_point() and each.numel():
            scale = each.square().mean().sqrt()
            noise = torch.randn(each.shape, generator=generator).to(each.device, each.dtype)
            each.add_(noise * torch.where(scale > 0, scale, torch.ones_like(scale)) * 0.02)


class _Judge:
    """Words for what the rows show."""

    def __init__(self, model: nn.Module, rows: Sequence[Row], seen: StepSeen, ran: bool) -> None:
        self.model = model
        self.rows = rows
        self.seen = seen
        self.ran = ran
        self.sizes = {each.name: each.seen.size for each in rows}

    def problems(self, loss: float | None, connected: bool) -> tuple[Remark, ...]:
        rows = self.rows
        found: list[Remark] = []
        if not connected:
            found.append(Remark("The loss has no graph: no gradient can reach anything"))
        elif loss is not None and not math.isfinite(loss):
            found.append(Remark(f"The loss is {loss}"))
        looked = self.ran or any(each.seen.gradient_norm is not None for each in rows)
        if connected and looked:
            found += self.about("No gradient arrives", [each for each in rows if each.unreached])
            found += self.about(
                "The gradient stays zero, also after a step and with other numbers",
                [each for each in rows if each.stays_zero],
            )
        found += self.about("NaN or infinity in the gradient", [each for each in rows if each.seen.gradient == "not finite"])
        found += self.about("NaN or infinity in the value", [each for each in rows if not math.isfinite(each.seen.norm)])
        outside = [each for each in rows if each.seen.trains and each.seen.held is False]
        replaced = set(self.seen.strangers) & {each.seen.shape for each in outside}
        hint = " (it holds tensors of the same shape that the model does not have: was it built before the part was replaced?)"
        found += self.about("Trainable, but in no optimizer" + hint * bool(replaced), outside)
        found += self.about(
            "Frozen, but moved",
            [each for each in rows if not each.seen.trains and each.seen.moved and not self.average(each)],
        )
        if self.seen.stepped:
            text = "In the optimizer and reached by gradient, but not moved (is the update too small for the type?)"
            found += self.about(text, [each for each in stuck(rows) if each.seen.learning_rate != 0])
        drifted = [each for each in self.seen.buffers if each.frozen and each.moved and not self.copied(each)]
        if drifted:
            names = tuple(each.name for each in drifted)
            amounts = [each.change or 0.0 for each in drifted if "float" in each.dtype] or [
                each.change or 0.0 for each in drifted
            ]
            words = covering(names, [each.name for each in self.seen.buffers])
            said = ", ".join(f"`{name}`" for name in words[:6])
            found.append(Remark(f"Buffers drift in a frozen part, by up to {max(amounts):.2e}: {said}", names))
        return tuple(found)

    def notes(self) -> list[Remark]:
        rows = self.rows
        found = self.about(
            "A gradient came only when the step was repeated with other numbers",
            [each for each in rows if each.seen.trains and each.seen.gradient in ("none", "zero") and each.later == "nonzero"],
        )
        found += self.about(
            "The gradient is exactly zero",
            [each for each in rows if each.seen.trains and each.seen.gradient == "zero" and each.later is None],
        )
        found += self.about("Frozen, and in an optimizer", [each for each in rows if not each.seen.trains and each.seen.held])
        found += self.about("A gradient is left from before this step", [each for each in rows if each.seen.stale])
        found += self.about(
            "Moved without an optimizer, as a moving average does", [each for each in rows if self.average(each)]
        )
        found += self.about(
            "Learning rate of zero", [each for each in rows if each.seen.trains and each.seen.learning_rate == 0]
        )
        if self.ran and not self.seen.stepped and any(each.seen.held is not None for each in rows):
            found.append(Remark("No optimizer stepped, so nothing is known about movement"))
        if self.seen.strangers:
            count = len(self.seen.strangers)
            found.append(Remark(f"The optimizer holds {count} tensor{'s' * (count != 1)} that the model does not have"))
        modules = named_modules(self.model)
        active = tuple(
            name
            for name, module in modules.items()
            if isinstance(module, nn.modules.dropout._DropoutNd)
            and module.p > 0
            and module.training
            and is_frozen(modules, name)
        )
        if active:
            found.append(Remark(f"Dropout is active in a frozen part: {', '.join(f'`{name}`' for name in active[:6])}", active))
        return found

    def about(self, text: str, rows: Sequence[Row]) -> list[Remark]:
        """A remark on some parameters, named in few words."""
        if not rows:
            return []
        names = tuple(each.name for each in rows)
        words = covering(names, self.sizes)
        said = ", ".join(f"`{word}`" for word in words[:6]) + (f" and {len(words) - 6} more" if len(words) > 6 else "")
        size = sum(each.seen.size for each in rows)
        tensors = f"{len(names)} tensor{'s' * (len(names) != 1)}"
        return [Remark(f"{text}: {said} ({tensors}, {short(size)} parameters)", names)]

    def average(self, row: Row) -> bool:
        """Moved by hand: no optimizer that is known could have."""
        return not row.seen.trains and row.seen.moved and row.seen.held is False

    def copied(self, buffer: BufferSeen) -> bool:
        """Whether the buffer follows another network, as the parameters beside it do."""
        part = buffer.name.rpartition(".")[0].partition(".")[0]
        return not buffer.training and any(self.average(each) for each in self.rows if each.name.partition(".")[0] == part)


def stuck(rows: Sequence[Row]) -> list[Row]:
    """The parameters that an optimizer holds, that got a gradient, and that did not move.

    A gradient of nothing but rounding errors, as a bias in front of a normalisation has it, is none in this sense.
    """
    peaks = [each.seen.gradient_peak for each in rows if each.seen.gradient == "nonzero"]
    largest = max(peaks, default=0.0)
    return [
        each
        for each in rows
        if each.seen.trains
        and each.seen.held
        and each.seen.gradient == "nonzero"
        and each.seen.gradient_peak > largest * 8 * torch.finfo(getattr(torch, each.seen.dtype)).eps
        and each.seen.change == 0
    ]


def _groups(model: nn.Module, rows: Sequence[Row], ran: bool) -> tuple[Group, ...]:
    together: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        together.setdefault((row.part, row.kind), []).append(row)
    modules = named_modules(model)
    return tuple(
        Group(
            part=part,
            kind=kind,
            tensors=len(members),
            size=sum(each.seen.size for each in members),
            trains=sum(each.seen.trains for each in members),
            gradient=sum(each.seen.gradient == "nonzero" for each in members),
            held=None if members[0].seen.held is None else sum(bool(each.seen.held) for each in members),
            moved=sum(each.seen.moved for each in members) if ran else None,
            gradient_norm=_norm([each.seen.gradient_norm for each in members if each.seen.gradient_norm is not None]),
            mode=_mode(modules, part, members),
        )
        for (part, kind), members in together.items()
    )


def _norm(norms: Sequence[float]) -> float | None:
    return math.hypot(*norms) if norms else None


def _mode(modules: dict[str, nn.Module], part: str, members: Sequence[Row]) -> Mode:
    owners = {each.name.rpartition(".")[0] for each in members}
    modes = {modules[owner].training for owner in owners if owner in modules}
    # Normalisation and dropout without parameters are what the mode is about.
    if len({each.part for each in members}) == 1 and part in modules:
        modes |= {
            module.training for name, module in modules.items() if name.startswith(f"{part}.") and not [*module.parameters()]
        }
    if not modes:
        return ""
    return "mixed" if len(modes) > 1 else "train" if modes.pop() else "eval"


def short(count: int) -> str:
    """A count in few characters: 512, 12.3 k, 1.2 M."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value
