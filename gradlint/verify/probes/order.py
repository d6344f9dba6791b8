"""What is called, and in which order?"""

from __future__ import annotations

from collections.abc import Callable

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.probes.run import Run


def never_called(asked: Asked, run: Run) -> Verdict:
    """``never-called``: the statement names a method and does not call it."""
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    values = run.recorder.values[asked.number]
    methods = [value for value in values if value]
    if methods:
        name = asked.claim.subjects[0] if asked.claim.subjects else ""
        called = run.recorder.calls[name]
        rest = f"; `{name}` was called {called} times elsewhere" if called else ""
        return run.confirmed(
            "The statement gives the method itself and calls nothing",
            Evidence(f"{methods[0]}, evaluated {len(values)} times and never called{rest}", asked.claim.site),
        )
    if not values:
        return run.inconclusive(f"The line ran, but not to its end{run.how_it_ended()}")
    return run.refuted("The expression is no method: reading it is enough to make it happen")


def counted(happens: str, total: str, confirmed: str, refuted: str, every: bool = False) -> Callable[[Asked, Run], Verdict]:
    """A probe that asks how often something was the case when the line ran.

    Args:
        happens: the name of what was counted.
        total: what has to have been counted at all for an answer; empty for the line being reached.
        confirmed, refuted: the reasons.
        every: it has to be the case each time.
    """

    def probe(asked: Asked, run: Run) -> Verdict:
        facts = run.recorder.sequence.facts[asked.number]
        ran = facts[total] if total else run.recorder.reached[asked.number]
        if facts[happens] and (not every or facts[happens] >= ran):
            return run.confirmed(confirmed, Evidence(f"{facts[happens]} of {max(ran, facts[happens])} times", asked.claim.site))
        if not run.recorder.reached[asked.number] and not ran:
            return run.unreached()
        if not ran:
            return run.inconclusive(f"The line ran, but nothing of the kind was seen there{run.how_it_ended()}")
        return run.refuted(refuted, Evidence(f"{ran} times", asked.claim.site))

    return probe


def not_cleared(asked: Asked, run: Run) -> Verdict:
    """``gradients-not-cleared``: a backward adds to gradients that the step has used already."""
    log = run.recorder.sequence
    optimizers = log.optimizers[asked.number]
    if not optimizers:
        if not run.recorder.reached[asked.number]:
            return run.unreached()
        return run.inconclusive(f"The line ran, but no optimizer stepped there{run.how_it_ended()}")
    times = sum(log.accumulated[key] for key in optimizers)
    if times:
        return run.confirmed(
            "A backward adds to gradients that the step here has already used",
            Evidence(f"{times} backward passes in {run.steps()}", asked.claim.site),
        )
    if run.recorder.sequence.facts[asked.number]["stepped"] < 2:
        return run.inconclusive("The step was taken only once")
    return run.refuted("Between one step and the next backward the gradients are cleared")


def graph_kept(asked: Asked, run: Run) -> Verdict:
    """``graph-kept``: the graph is kept after backward, and no other backward goes through it."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if not facts["graph kept"]:
        return run.inconclusive(f"The line ran, but no graph was kept there{run.how_it_ended()}")
    if facts["graph used again"]:
        return run.refuted(
            "A later backward goes through the graph that is kept here",
            Evidence(f"{facts['graph used again']} of {facts['graph kept']} times", asked.claim.site),
        )
    if facts["graph carried on"]:
        return run.confirmed(
            "Only the backward here goes through the kept graph again, after the step has changed the weights: "
            "a value is carried from turn to turn with its history",
            Evidence(f"{facts['graph carried on']} times; {facts['graph kept']} graphs kept", asked.claim.site),
        )
    return run.confirmed(
        "The graph is kept here, and no later backward goes through it",
        Evidence(f"{facts['graph kept']} graphs kept, none used again", asked.claim.site),
    )


def scheduler_first(asked: Asked, run: Run) -> Verdict:
    """``scheduler-before-optimizer``: the scheduler steps before any optimizer has."""
    steps = run.recorder.steps_at[asked.number]
    if not steps:
        return run.unreached()
    if not steps[0] and "before `optimizer.step()`" in run.ending.text:  # a program that makes errors of warnings
        return run.confirmed(
            "The scheduler steps before the optimizer's first step", Evidence(run.ending.text, asked.claim.site)
        )
    if not steps[0] and run.recorder.steps:
        return run.confirmed(
            "The scheduler steps before the optimizer's first step",
            Evidence("0 optimizer steps when this line ran first", asked.claim.site),
        )
    if not run.recorder.steps:
        return run.inconclusive(f"The line ran, but no optimizer stepped{run.how_it_ended()}")
    return run.refuted(f"The optimizer had stepped {steps[0]} times when the scheduler did first")


def never_stepped(asked: Asked, run: Run) -> Verdict:
    """``never-stepped``: an optimizer gets gradients and does not step, while another does."""
    recorder = run.recorder
    if not recorder.reached[asked.number]:
        return run.unreached()
    if recorder.steps <= recorder.reached_at.get(asked.number, 0):
        return run.inconclusive(f"No optimizer stepped after the line ran{run.how_it_ended()}")
    held = {id(tensor): tensor for each in recorder.optimizers if not each.steps for tensor in run.parameters(each.optimizer)}
    moving = {id(t) for each in recorder.optimizers if each.steps for t in run.parameters(each.optimizer)}
    waiting = [tensor for key, tensor in held.items() if key not in moving and run.mask([tensor]) & recorder.nonzero]
    if waiting:
        return run.confirmed(
            "An optimizer never steps, although its parameters get gradients",
            run.tell(waiting, f"gradients come, and none of the {recorder.steps} steps is of their optimizer"),
        )
    return run.refuted("Every optimizer whose parameters get gradients steps")


PROBES: dict[str, Callable[[Asked, Run], Verdict]] = {
    "never-called": never_called,
    "gradients-not-cleared": not_cleared,
    "cleared-before-step": counted(
        "step found nothing",
        "",
        "Gradients are cleared here before a step has used them, and the step finds none",
        "No step is left without the gradients that are cleared here",
    ),
    "step-before-backward": counted(
        "stepped without fresh gradients",
        "stepped",
        "The step here finds no gradient that was computed since the one before",
        "Each step here uses a gradient that was computed since the one before",
    ),
    "clip-without-effect": counted(
        "clipped nothing fresh",
        "clipped",
        "What is clipped here is used by no step",
        "What is clipped here has just been computed, and no step has used it",
        every=True,
    ),
    "clip-before-unscale": counted(
        "clipped scaled",
        "clipped",
        "The gradients that are clipped here carry the scaler's factor",
        "The gradients that are clipped here carry no factor",
    ),
    "amp-step": counted(
        "stepped with scaled gradients",
        "stepped",
        "The optimizer steps here with gradients that carry the scaler's factor",
        "The gradients that the optimizer steps with here carry no factor",
    ),
    "amp-update": counted(
        "scaler steps again without an update",
        "",
        "The scaler steps here again without an update since its last step",
        "The scaler is updated between its steps",
    ),
    "amp-backward": counted(
        "scaler steps with gradients that were not scaled",
        "backward",
        "The scaler steps with the gradients of this backward, which were not scaled",
        "The gradients of this backward are scaled, or the scaler does not step with them",
    ),
    "accumulation-not-scaled": counted(
        "backward adds to fresh gradients",
        "backward",
        "This backward adds to gradients that no step has used yet, and the loss is not divided",
        "The loss is divided, or each step uses the gradients of one backward",
    ),
    "graph-kept": graph_kept,
    "scheduler-before-optimizer": scheduler_first,
    "never-stepped": never_stepped,
}
