"""Does a custom ``Function`` keep the rules of its machinery?"""

from __future__ import annotations

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.probes.run import Run


def too_few_gradients(asked: Asked, run: Run) -> Verdict:
    """``too-few-gradients``: ``backward`` returns fewer gradients than ``forward`` took arguments."""
    facts = run.recorder.sequence.facts[asked.number]
    short = [what for what in facts if " for " in what]
    if short:
        given, _, needed = short[0].partition(" for ")
        more = [Evidence(f"the program ends with {run.ending.text}")] if "number of gradients" in run.ending.text else []
        return run.confirmed(
            "`backward` returns fewer gradients than `forward` takes arguments",
            Evidence(f"{given} returned, {needed} needed", asked.claim.site),
            *more,
        )
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["enough"]:
        return run.refuted("`backward` returns a gradient for each argument of `forward`")
    return run.inconclusive(f"The line ran, but not as the backward of a `Function`{run.how_it_ended()}")


def bypassed(asked: Asked, run: Run) -> Verdict:
    """``bypassed``: the result of a ``Function`` does not go back through its ``backward``."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["bypassed"]:
        return run.confirmed(
            "The result knows nothing of the `backward` that belongs to this `forward`",
            Evidence(f"{facts['bypassed']} of {facts['bypassed'] + facts['through backward']} tensors", asked.claim.site),
        )
    if facts["through backward"]:
        return run.refuted("Gradient goes back through the `backward` of the `Function`")
    return run.inconclusive(f"The line ran, but gave no tensor{run.how_it_ended()}")


def not_saved(asked: Asked, run: Run) -> Verdict:
    """``not-saved``: a tensor is kept as an attribute of ``ctx`` instead of by ``save_for_backward``."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["a tensor"]:
        return run.confirmed(
            "What is put on `ctx` here is a tensor: autograd does not see it, and cannot tell when it is changed or free it",
            Evidence(f"{facts['a tensor']} of {facts['a tensor'] + facts['no tensor']} times", asked.claim.site),
        )
    if facts["no tensor"]:
        return run.refuted("What is put on `ctx` here is no tensor")
    return run.inconclusive(f"The line ran, but not to its end{run.how_it_ended()}")


PROBES = {
    "too-few-gradients": too_few_gradients,
    "bypassed": bypassed,
    "not-saved": not_saved,
}
