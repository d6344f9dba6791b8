"""Who is in the optimizer, who is frozen, and who moves all the same?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.places import overlap
from gradlint.verify.probes.run import Run


def not_in_optimizer(asked: Asked, run: Run) -> Verdict:
    """``not-in-optimizer``: what is unfrozen, replaced or added here is in no optimizer."""
    recorder = run.recorder
    number = asked.number
    if not recorder.reached[number]:
        return run.unreached()
    if run.ending.kind == "error" and run.ending.place and overlap(run.ending.place, asked.claim.site):
        if "empty parameter list" in run.ending.text:
            return run.confirmed("The optimizer gets no parameter at all", Evidence(run.ending.text, asked.claim.site))
    tensors = [tensor for tensor in _concerned(asked, run) if tensor.requires_grad]
    if not tensors:
        return run.refuted("The line ran, and no parameter that requires gradient came from it")
    after = recorder.steps - recorder.reached_at.get(number, 0)
    if not after:
        return run.inconclusive(f"No optimizer stepped after the line ran{run.how_it_ended()}")
    held = recorder.held()
    missing = [tensor for tensor in tensors if id(tensor) not in held]
    if not missing:
        return run.refuted("Every parameter concerned is in an optimizer", run.tell(tensors, "in an optimizer"))
    got = [tensor for tensor in missing if run.mask([tensor]) & recorder.got]
    moved = [tensor for tensor in missing if _moved(recorder.initial.get(id(tensor)))]
    evidence = [run.tell(missing, f"in no optimizer after {after} more steps")]
    if got:
        evidence.append(run.tell(got, "a gradient comes, and no step applies it"))
    if moved:
        evidence.append(run.tell(moved, "the values changed nevertheless"))
        if len(moved) == len(missing):
            return run.inconclusive("The parameters are in no optimizer, and something else changes them", *evidence)
    return run.confirmed("Parameters that require gradient are in no optimizer", *evidence)


def _concerned(asked: Asked, run: Run) -> list[Any]:
    """The parameters that a line unfreezes, puts in place or makes; else those that the claim names and that get a gradient."""
    recorder = run.recorder
    concerned: dict[int, Any] = dict(recorder.freezings[asked.number].unfrozen)
    placed = [value for owner, name, value in recorder.replaced[asked.number] if getattr(owner, name, None) is value]
    for value in [*placed, *recorder.made[asked.number].values()]:
        parameters = value.parameters() if isinstance(value, nn.Module) else [value]
        concerned.update((id(parameter), parameter) for parameter in parameters)
    for leaf in recorder.tracer.trace.leaves:
        tensor = leaf.tensor()
        if tensor is not None and leaf.place is not None and overlap(leaf.place, asked.claim.site):
            concerned[id(tensor)] = tensor
    if concerned:
        return list(concerned.values())
    return [tensor for tensor in run.meant(asked.claim.subjects) if run.mask([tensor]) & recorder.got]


def _moved(before: tuple[Any, Any] | None) -> bool:
    return before is not None and before[0].shape == before[1].shape and not torch.equal(before[0].detach(), before[1])


def frozen_in_optimizer(asked: Asked, run: Run) -> Verdict:
    """``frozen-in-optimizer``: what is frozen here stays in an optimizer."""
    found = _frozen(asked, run)
    if isinstance(found, Verdict):
        return found
    held = run.recorder.held()
    carried = [tensor for tensor in found if id(tensor) in held]
    if carried:
        return run.confirmed(
            "An optimizer holds what is frozen here and goes on stepping", run.tell(carried, "frozen, and in an optimizer")
        )
    return run.refuted("No optimizer holds what is frozen here", run.tell(found, "frozen, in no optimizer"))


def moves_though_frozen(asked: Asked, run: Run) -> Verdict:
    """``moves-though-frozen``: a step changes what is frozen here."""
    found = _frozen(asked, run)
    if isinstance(found, Verdict):
        return found
    moved = [tensor for tensor in found if id(tensor) in run.recorder.moved]
    if moved:
        largest = max(run.recorder.moved[id(tensor)][1] for tensor in moved)
        return run.confirmed(
            "Optimizer steps change what is frozen here",
            run.tell(moved, f"moved by up to {largest:.3g} in a step though frozen"),
        )
    return run.refuted(f"What is frozen here did not move in {run.steps()}", run.tell(found, "unchanged by each step"))


def _frozen(asked: Asked, run: Run) -> list[Any] | Verdict:
    """The parameters that are frozen at the site, if an optimizer stepped afterwards."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    tensors = list(recorder.freezings[asked.number].frozen.values())
    if not tensors:
        return run.refuted("The line ran and froze nothing")
    if recorder.steps <= recorder.reached_at.get(asked.number, 0):
        return run.inconclusive(f"No optimizer stepped after the line ran{run.how_it_ended()}")
    return tensors


def flag_without_effect(asked: Asked, run: Run) -> Verdict:
    """``flag-without-effect``: an assignment that changes no parameter."""
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    flags = run.recorder.flags[asked.number]
    if not flags:
        return run.inconclusive(f"The line ran, but not to its end{run.how_it_ended()}")
    wrong = sum(flag.wrong for flag in flags)
    total = sum(flag.total for flag in flags)
    value = flags[0].value
    if not total:
        return run.inconclusive("The line ran, but on nothing that holds parameters")
    if wrong:
        state = "requires_grad=False" if value else "requires_grad=True"
        receivers = {f"`{type(flag.receiver).__name__}`" for flag in flags if flag.wrong}
        return run.confirmed(
            "The assignment changes no parameter",
            Evidence(
                f"after it {wrong} of {total} tensors of {', '.join(sorted(receivers))} still have {state}", asked.claim.site
            ),
        )
    return run.refuted("The parameters have the value that is meant all the same")


PROBES = {
    "not-in-optimizer": not_in_optimizer,
    "frozen-in-optimizer": frozen_in_optimizer,
    "moves-though-frozen": moves_though_frozen,
    "flag-without-effect": flag_without_effect,
}
