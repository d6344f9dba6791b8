"""What is called, and in which order?"""

from __future__ import annotations

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


PROBES = {"never-called": never_called}
