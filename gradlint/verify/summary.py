"""What a traced run shows by itself, whether or not anybody claimed something: what trained, what did not, and why not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradlint.verify.marks import bits
from gradlint.verify.names import summarise
from gradlint.verify.places import Place
from gradlint.verify.probes.flow import WHAT
from gradlint.verify.probes.run import Run
from gradlint.verify.tracer import Cut

_PASSING = ("move", "custom", "stay")


def summary(run: Run) -> dict[str, Any]:
    """The state of all parameters and the lines that starve some, as plain data.

    ``trains``, ``zero`` (only gradients of zeros came), ``starved`` (a loss depends on it, no gradient came), ``idle`` (in an
    optimizer, and no loss depends on it), ``left`` (gradient comes, no optimizer holds it), ``frozen``: groups of parameters as
    name, tensors, elements.  ``cuts``: the lines that starve.  ``inert``: summands of a loss that train nothing.
    """
    recorder = run.recorder
    trace = recorder.tracer.trace
    held = recorder.held()
    depends = 0
    meant: dict[int, int] = {}
    met: dict[int, int] = {}
    for stack, group in recorder.backwards.items():
        for record in group:
            behind = 0
            for term in record.terms:
                behind |= term.depends
            for number in bits(behind):
                met[number] = met.get(number, 0) | record.cuts
                if recorder.served[stack] >> number & 1:
                    meant[number] = meant.get(number, 0) | record.cuts
            for term in record.terms:
                depends |= term.depends
            depends |= record.live
    states: dict[str, list[Any]] = {name: [] for name in ("trains", "zero", "starved", "idle", "left", "frozen")}
    numbers = {id(leaf.tensor()): leaf.number for leaf in trace.leaves if leaf.tensor() is not None}
    starved = 0
    parameters = {id(tensor): tensor for tensor in run.every if _is_parameter(tensor) or id(tensor) in held}
    for key, tensor in parameters.items():
        bit = 1 << numbers[key] if key in numbers else 0
        inside = key in held
        if not tensor.requires_grad:
            state = "frozen"
        elif recorder.nonzero & bit:
            state = "trains" if inside or not held else "left"
        elif not inside and held:
            continue
        elif key in run.waiting:
            continue  # its gradient may come by hand, just before its step
        elif recorder.got & bit:
            state = "zero"
        elif depends & bit:
            state = "starved"
            starved |= bit
        else:
            state = "idle"
        states[state].append(tensor)
    every = list(parameters.values())
    blame = {1 << number: meant.get(number) or met.get(number, 0) for number in bits(starved)}

    def guilty(cut: Cut) -> int:
        """The leaves that a cut keeps a loss from which is there to train them; of leaves without such a loss, any loss."""
        return sum(bit for bit, blamed in blame.items() if blamed >> cut.number & 1)

    cuts = [
        {
            **_cut(cut, run),
            "parameters": summarise(run.leaves(cut.severed & starved & guilty(cut)), run.names, every),
        }
        for cut in trace.cuts
        if cut.kind not in _PASSING and cut.severed & starved & guilty(cut)
    ]
    return {
        "steps": recorder.steps,
        "backwards": recorder.gradients,
        "device": run.device,
        "seconds": round(run.seconds, 3),
        "states": {name: summarise(tensors, run.names, every) for name, tensors in states.items()},
        "cuts": cuts,
        "inert": list(_inert(run)),
        "compiled": recorder.compiled,
        "trouble": recorder.tracer.trouble,
    }


def _is_parameter(tensor: Any) -> bool:
    return type(tensor).__name__ == "Parameter" or getattr(tensor, "_is_param", False)


def _inert(run: Run) -> Iterator[dict[str, Any]]:
    """Single numbers that are added to a loss, depend on what it is there to train, and carry no gradient to it."""
    seen: set[tuple[Place | None, int]] = set()
    for stack, group in run.recorder.backwards.items():
        for record in group:
            served = run.recorder.served[stack] & record.trainable or record.trainable
            if len(record.terms) < 2:
                continue
            for term in record.terms:
                lost = term.depends & served
                if term.live & served or not lost or not term.scalar:
                    continue
                cuts = [
                    cut
                    for number in bits(term.cuts)
                    if (cut := run.recorder.tracer.trace.cuts[number]).kind not in _PASSING and cut.behind & lost
                ]
                key = (stack[0] if stack else None, term.cuts)
                if not cuts or key in seen:
                    continue
                seen.add(key)
                yield {
                    "loss": _place(stack[0] if stack else None),
                    "summands": len(record.terms),
                    "cuts": [_cut(cut, run) for cut in cuts],
                    "parameters": summarise(run.leaves(lost), run.names, run.every),
                }


def _cut(cut: Cut, run: Run) -> dict[str, Any]:
    return {"kind": cut.kind, "api": cut.api, "text": WHAT.get(cut.kind, "gradient stops here"), "place": _place(cut.place)}


def _place(place: Place | None) -> list[Any] | None:
    return [place.file, place.line, place.column, place.end_line, place.end_column] if place else None
