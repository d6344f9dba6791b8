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


def exhausted(asked: Asked, run: Run) -> Verdict:
    """``exhausted``: an iterator is gone over that has nothing left."""
    facts = run.recorder.sequence.facts[asked.number]
    if facts["iterated nothing"]:
        return run.confirmed(
            "What is gone over here is empty",
            Evidence(f"{facts['iterated nothing']} of {facts['iterated nothing'] + facts['iterated']} times", asked.claim.site),
        )
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["iterated"]:
        return run.refuted("What is gone over here has elements each time")
    return run.inconclusive("The line ran, but no iterator was seen there")


def frozen_with_another(asked: Asked, run: Run) -> Verdict:
    """``frozen-with-another``: the line freezes a parameter that goes by the subject's name as well."""
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    frozen = list(run.recorder.freezings[asked.number].frozen.values())
    shared = [tensor for tensor in frozen if run.is_meant(tensor, asked.claim.subjects)]
    if shared:
        names = run.names[id(shared[0])]
        return run.confirmed(
            "The line freezes a parameter that another layer uses too",
            Evidence("one tensor goes by the names " + ", ".join(f"`{name}`" for name in names[:MOST_NAMES]), asked.claim.site),
        )
    return run.refuted(
        "Nothing that is frozen here belongs to another layer", *([run.tell(frozen, "frozen")] if frozen else [])
    )


MOST_NAMES = 4


def made_anew(asked: Asked, run: Run) -> Verdict:
    """``made-anew``: each call makes a layer with new weights."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    made = [module for module in recorder.made[asked.number].values() if any(True for _ in module.parameters(recurse=False))]
    if len(made) > 1 and recorder.reached[asked.number] > 1:
        held = recorder.held()
        inside = sum(any(id(parameter) in held for parameter in module.parameters()) for module in made)
        return run.confirmed(
            "Each call makes a layer with new weights",
            Evidence(f"{len(made)} layers made in {run.steps()}, {inside} of them in an optimizer", asked.claim.site),
        )
    if recorder.reached[asked.number] < 2:
        return run.inconclusive("The line ran only once")
    return run.refuted(f"The line ran {recorder.reached[asked.number]} times and made {len(made)} layers")


def not_registered(asked: Asked, run: Run) -> Verdict:
    """``not-registered``: what the line keeps in an attribute is not among the parameters of the module."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    outside: list[Any] = []
    inside: list[Any] = []
    for flag in recorder.flags[asked.number]:
        if not isinstance(flag.receiver, nn.Module):
            continue
        registered = {id(parameter) for parameter in flag.receiver.parameters()}
        for subject in asked.claim.subjects:
            for tensor in _kept(getattr(flag.receiver, subject.rpartition(".")[2], None), 3):
                (inside if id(tensor) in registered else outside).append(tensor)
    if outside:
        used = [tensor for tensor in outside if tensor.is_leaf and run.mask([tensor]) & recorder.got]
        more = [run.tell(used, "gradient comes, and nothing that is built from `parameters()` applies it")] if used else []
        return run.confirmed(
            "What is kept here is not among the parameters of the module",
            Evidence(f"{len(outside)} tensors that require gradient, {len(inside)} of them registered", asked.claim.site)
            if not inside
            else Evidence(f"{len(outside)} of {len(outside) + len(inside)} tensors are not registered", asked.claim.site),
            *more,
        )
    if inside and run.cuts(asked, ("stay",)):
        return run.inconclusive(
            "In this run the parameter is where it is to be moved already, and stays the registered one; a move to another "
            "device or type gives a computed tensor in its place",
            run.tell(inside, f"registered, on {inside[0].device}"),
        )
    if inside:
        return run.refuted("All that is kept here is among the parameters of the module", run.tell(inside, "registered"))
    return run.refuted("The line ran and kept nothing that requires gradient")


def _kept(value: Any, depth: int) -> list[Any]:
    """The tensors that require gradient in a value, in layers, containers and plain objects."""
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    if isinstance(value, nn.Module):
        return [parameter for parameter in value.parameters() if parameter.requires_grad]
    if not depth:
        return []
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [tensor for element in value for tensor in _kept(element, depth - 1)]
    return (
        [tensor for element in vars(value).values() for tensor in _kept(element, depth - 1)]
        if hasattr(value, "__dict__")
        else []
    )


WRAPPERS = ("DistributedDataParallel", "FullyShardedDataParallel", "OptimizedModule")


def toggled_after_wrap(asked: Asked, run: Run) -> Verdict:
    """``toggled-after-wrap``: a wrapper has the parameters that are frozen or unfrozen here."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    freezing = recorder.freezings[asked.number]
    toggled = [*freezing.frozen.values(), *freezing.unfrozen.values()]
    wrappers = [module for module in recorder.modules.values() if type(module).__name__ in WRAPPERS]
    for wrapper in wrappers:
        wrapped = {id(parameter) for parameter in wrapper.parameters()}
        inside = [tensor for tensor in toggled if id(tensor) in wrapped]
        if inside:
            return run.confirmed(
                "What changes here is held by a wrapper already",
                run.tell(inside, f"in a `{type(wrapper).__name__}` when `requires_grad` was changed"),
            )
    if not wrappers:
        return run.inconclusive(f"No wrapper was made{run.how_it_ended()}")
    return run.refuted("What changes here is in no wrapper")


def unused(asked: Asked, run: Run) -> Verdict:
    """``unused``: a backward through a wrapped module gives some of its parameters no gradient."""
    recorder = run.recorder
    if run.ending.kind == "error" and "finished reduction" in run.ending.text:
        return run.confirmed("The wrapper waits for gradients that never come", Evidence(run.ending.text))
    if not recorder.reached[asked.number]:
        return run.unreached()
    wrapped = [parameter for module in recorder.made[asked.number].values() for parameter in module.parameters()]
    every = run.mask(parameter for parameter in wrapped if parameter.requires_grad)
    times = 0
    lost = 0
    for group in recorder.backwards.values():
        for record, count in group.items():
            if record.got & every:
                times += count
                lost |= every & ~record.got
    never = [parameter for parameter in wrapped if parameter.requires_grad and not run.mask([parameter])]
    if times and (lost or never):
        return run.confirmed(
            "A backward gives some of the wrapped parameters no gradient",
            run.tell([*run.leaves(lost), *never], f"no gradient in at least one of {times} backward passes"),
        )
    if not times:
        return run.inconclusive(f"No backward went through what is wrapped here{run.how_it_ended()}")
    return run.refuted(f"Each of {times} backward passes gives every wrapped parameter a gradient")


PROBES = {
    "exhausted": exhausted,
    "frozen-with-another": frozen_with_another,
    "made-anew": made_anew,
    "not-registered": not_registered,
    "toggled-after-wrap": toggled_after_wrap,
    "unused": unused,
    "not-in-optimizer": not_in_optimizer,
    "frozen-in-optimizer": frozen_in_optimizer,
    "moves-though-frozen": moves_though_frozen,
    "flag-without-effect": flag_without_effect,
}
