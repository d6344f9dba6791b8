"""Probes: each answers one kind of claim from what was noted in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradlint.core.verdict import Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.probes import autograd, contract, flow, membership, order, state
from gradlint.verify.probes.run import Run

Probe = Callable[[Asked, Run], Verdict]

PROBES: Mapping[str, Probe] = {
    **flow.PROBES,
    **membership.PROBES,
    **state.PROBES,
    **order.PROBES,
    **autograd.PROBES,
    **contract.PROBES,
}
"""The probes by the kind of claim."""


def judge(asked: Asked, run: Run) -> Verdict:
    """The verdict on a claim. Never raises: a probe that breaks is inconclusive and says so."""
    probe = PROBES.get(asked.claim.kind)
    if probe is None:
        return run.inconclusive(f"There is no probe for claims of the kind {asked.claim.kind}")
    try:
        return probe(asked, run)
    except Exception as error:
        return run.inconclusive(f"The probe itself failed: {type(error).__name__}: {error}")
