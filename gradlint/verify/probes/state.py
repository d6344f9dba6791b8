"""Do the buffers and the mode of what is frozen stay as they are?"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.names import matches
from gradlint.verify.probes.run import Run
from gradlint.verify.recorder import Drift
from gradlint.verify.tracer import tensors_in

MOST_SHOWN = 4


def drifts(asked: Asked, run: Run) -> Verdict:
    """``drifts``: buffers of what is frozen here change with each forward."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    frozen = recorder.freezings[asked.number].frozen
    found = [drift for drift in recorder.drifts.values() if _concerns(drift, frozen, asked, run)]
    if found:
        shown = [_evidence(drift, run) for drift in found[:MOST_SHOWN]]
        if len(found) > MOST_SHOWN:
            shown.append(Evidence(f"and {len(found) - MOST_SHOWN} more layers"))
        return run.confirmed(
            f"Buffers of {len(found)} frozen layer{'s' if len(found) > 1 else ''} move while {run.steps()} are taken", *shown
        )
    if not recorder.gradients:
        return run.inconclusive(f"The line ran, but no training did{run.how_it_ended()}")
    return run.refuted("No buffer of what is frozen here has moved")


def _concerns(drift: Drift, frozen: dict[int, Any], asked: Asked, run: Run) -> bool:
    if drift.module is run.recorder.owners.get(asked.number):
        return True  # the line is in its own forward
    own = [parameter for parameter in drift.module._parameters.values() if parameter is not None]
    if own and frozen:
        return any(id(parameter) in frozen for parameter in own)
    return any(
        matches(subject, name)
        for buffer in drift.module._buffers.values()
        for name in run.names.get(id(buffer), ())
        for subject in asked.claim.subjects
    )


def _evidence(drift: Drift, run: Run) -> Evidence:
    name = next((names[0] for b in drift.module._buffers.values() if (names := run.names.get(id(b)))), "")
    layer = name.rpartition(".")[0] or type(drift.module).__name__
    moved = ", ".join(f"{buffer} by up to {size:.3g}" for buffer, size in drift.largest.items())
    mode = "in train mode " if drift.training else ""
    return Evidence(f"`{layer}`: {mode}{moved} in a forward")


def mode_reset(asked: Asked, run: Run) -> Verdict:
    """``mode-reset``: what is put into eval mode here runs in train mode later."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    parts = recorder.evaluated[asked.number]
    if not parts:
        return run.refuted("The line ran and put nothing into eval mode")
    ran = [part for key, part in parts.items() if recorder.trained_after_eval[key] and _is_frozen(part)]
    telling = [part for part in ran if part._buffers or isinstance(part, _STOCHASTIC)] or ran
    if telling:
        _, place = recorder.reset[id(telling[0])]
        shown = [Evidence(_mode_evidence(part, run)) for part in telling[:MOST_SHOWN]]
        if place is not None:
            shown.append(Evidence("put back into train mode here", place.span()))
        return run.confirmed("What is put into eval mode here runs in train mode afterwards", *shown)
    if not recorder.gradients:
        return run.inconclusive(f"The line ran, but no training did{run.how_it_ended()}")
    return run.refuted("What is put into eval mode here never runs in train mode afterwards")


_STOCHASTIC = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)


def _is_frozen(module: Any) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _mode_evidence(part: Any, run: Run) -> str:
    tensors = [*part._buffers.values(), *part._parameters.values()]
    name = next((names[0] for tensor in tensors if (names := run.names.get(id(tensor)))), "")
    layer = name.rpartition(".")[0] or type(part).__name__
    times = run.recorder.trained_after_eval[id(part)]
    drift = run.recorder.drifts.get(id(part))
    moved = f", {', '.join(f'{key} by up to {size:.3g}' for key, size in drift.largest.items())}" if drift else ""
    return f"`{layer}` ({type(part).__name__}): {times} forward{'s' if times > 1 else ''} in train mode{moved}"


def trains_in_eval_mode(asked: Asked, run: Run) -> Verdict:
    """``trains-in-eval-mode``: what is put into eval mode here is back-propagated through in it."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    times = facts["trained in eval mode"]
    if times:
        return run.confirmed(
            "Training goes on in the eval mode that is set here",
            Evidence(f"{times} backward passes through layers in eval mode", asked.claim.site),
        )
    stays = [part for part in run.recorder.evaluated[asked.number].values() if not part.training]
    if stays and _came_round(run):
        return run.confirmed(
            "The next turn of the training loop begins in the eval mode that is set here",
            Evidence(f"{len(stays)} modules in eval mode when the program ended with {run.ending.text}", asked.claim.site),
        )
    if not facts["trained in train mode"]:
        return run.inconclusive(f"No backward was seen after the line ran{run.how_it_ended()}")
    return run.refuted("The layers that are put into eval mode here are back in train mode when training goes on")


def _came_round(run: Run) -> bool:
    """Whether the program ended with an error in a function that back-propagates, before its next backward."""
    place = run.ending.place
    return place is not None and any(
        stack and (stack[0].file, stack[0].function) == (place.file, place.function) and place.line < stack[0].line
        for stack in run.recorder.backwards
    )


def evaluated_in_train_mode(asked: Asked, run: Run) -> Verdict:
    """``evaluated-in-train-mode``: without gradient, layers that mind the mode run in train mode."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["train mode without gradient"]:
        return run.confirmed(
            "Dropout or batch normalisation runs here without gradient and in train mode",
            Evidence(f"{facts['train mode without gradient']} forwards of such layers", asked.claim.site),
        )
    if facts["eval mode without gradient"]:
        return run.refuted("The layers that mind the mode run in eval mode here")
    return run.inconclusive("The line ran, but no layer that minds the mode ran without gradient there")


def random_in_evaluation(asked: Asked, run: Run) -> Verdict:
    """``random-in-evaluation``: in eval mode, the same input twice gives two outputs."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    owner = recorder.owners.get(asked.number)
    if owner is None or id(owner) not in recorder.inputs:
        return run.inconclusive("The line ran, but the module that it belongs to could not be run again")
    outputs = []
    owner.eval()
    with torch.no_grad():
        for seed in (0, 1):
            torch.manual_seed(seed)
            outputs.append([tensor.detach().clone() for tensor in tensors_in(owner(*recorder.inputs[id(owner)]))])
    name = type(owner).__name__
    if any(not torch.equal(first, second) for first, second in zip(*outputs, strict=True)):
        largest = max(float((a.double() - b.double()).abs().max()) for a, b in zip(*outputs, strict=True) if a.numel())
        return run.confirmed(
            f"In eval mode the same input gives `{name}` two outputs", Evidence(f"they differ by up to {largest:.3g}")
        )
    return run.refuted(f"In eval mode the same input gives `{name}` the same output twice")


def random_though_frozen(asked: Asked, run: Run) -> Verdict:
    """``random-though-frozen``: layers that draw numbers run in train mode within what is frozen here."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    frozen = recorder.freezings[asked.number].frozen
    inside: dict[int, Any] = {}
    covered = 0
    for module in list(recorder.modules.values()):
        parameters = list(module.parameters())
        if not parameters or not (_is_frozen(module) or _is_untrained(parameters, run)):
            continue
        if any(id(p) in frozen or (not frozen and run.is_meant(p, asked.claim.subjects)) for p in parameters):
            covered += 1
            inside |= {id(part): part for part in module.modules() if id(part) in recorder.random}
    if inside:
        kinds = sorted({type(part).__name__ for part in inside.values()})
        return run.confirmed(
            "What is frozen here draws other numbers in each forward",
            Evidence(f"{len(inside)} layers in train mode: {', '.join(kinds)}", asked.claim.site),
        )
    if not recorder.gradients or not covered:
        return run.inconclusive(f"The line ran, but nothing that is frozen here was trained with{run.how_it_ended()}")
    return run.refuted("No layer of what is frozen here runs in train mode and draws numbers")


def _is_untrained(parameters: list[Any], run: Run) -> bool:
    """Whether optimizers step, none holds any of these, and no gradient came to them."""
    held = run.recorder.held()
    return (
        bool(run.recorder.steps) and not any(id(p) in held for p in parameters) and not run.mask(parameters) & run.recorder.got
    )


def graph_outlives(asked: Asked, run: Run) -> Verdict:
    """``graph-outlives``: what is kept here holds the graphs of iterations that are over, and no backward goes through it."""
    graphs, number = run.recorder.graphs, asked.number
    if not run.recorder.reached[number]:
        return run.unreached()
    if not graphs.with_graph[number]:
        if not graphs.values[number] and run.ending.kind in ("error", "exit"):
            return run.inconclusive(f"The line ran, but nothing was seen to be kept there{run.how_it_ended()}")
        return run.refuted("What is kept here has no graph", Evidence(f"{graphs.turns[number]} times", asked.claim.site))
    if graphs.late[number]:
        return run.refuted(
            "A later backward goes through what is kept here",
            Evidence(f"{graphs.late[number]} backward passes through the graphs of earlier iterations", asked.claim.site),
        )
    most, turns = graphs.most_alive[number], graphs.turns[number]
    if most >= min(2, turns - 1) and most:
        return run.confirmed(
            "What is kept here holds on to the graphs of iterations that are over, and no backward uses them",
            Evidence(f"the graphs of {most} earlier iterations are still there when the line runs again", asked.claim.site),
        )
    if turns < 3:
        return run.inconclusive(f"The line ran too rarely to tell what becomes of the graphs{run.how_it_ended()}")
    return run.refuted("The graphs of earlier iterations are gone when the line runs again")


PROBES = {
    "random-though-frozen": random_though_frozen,
    "graph-outlives": graph_outlives,
    "drifts": drifts,
    "mode-reset": mode_reset,
    "trains-in-eval-mode": trains_in_eval_mode,
    "evaluated-in-train-mode": evaluated_in_train_mode,
    "random-in-evaluation": random_in_evaluation,
}
