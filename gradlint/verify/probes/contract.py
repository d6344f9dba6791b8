"""Is a contract of the settings kept?"""

from __future__ import annotations

from typing import Any

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.probes.run import Run
from gradlint.verify.promises import Held, covers

MOST_SHOWN = 4


def broken(asked: Asked, run: Run) -> Verdict:
    """``contract``: the run breaks what the settings say of a module."""
    name, promise = asked.claim.subjects
    word, *parts = promise.split()
    held = run.recorder.promises.held.get(name, [])
    if not held:
        return run.inconclusive(f"No `{name.rpartition(':')[2]}` ran{run.how_it_ended()}")
    if not run.recorder.gradients:
        return run.inconclusive(f"`{name.rpartition(':')[2]}` ran, but no backward did{run.how_it_ended()}")
    # A copy that nobody trains, such as an average of the weights, keeps no promise and breaks none.
    trained = [each for each in held if run.mask(each.module.parameters()) & run.recorder.got]
    if not any(covers(part, parameter) for part in parts for each in held for parameter, _ in each.module.named_parameters()):
        return run.inconclusive(f"`{name.rpartition(':')[2]}` has no parameters called `{parts[0]}`")
    match word:
        case "trains":
            return _trains(parts[0], trained or held, run)
        case "frozen":
            return _frozen(parts[0], trained or held, run)
        case _:
            return _isolated(asked, parts, run)


def _of(part: str, each: Held) -> list[Any]:
    return [tensor for name, tensor in each.module.named_parameters() if covers(part, name)]


def _trains(part: str, held: list[Held], run: Run) -> Verdict:
    recorder = run.recorder
    inside = recorder.held() if recorder.optimizers else None
    best: tuple[Any, ...] | None = None
    for each in held:
        tensors = _of(part, each)
        still = [t for t in tensors if not run.mask([t]) & recorder.nonzero]
        outside = [t for t in tensors if inside is not None and id(t) not in inside]
        moved = each.moved(part)
        names = [name for name, _ in each.module.named_parameters() if covers(part, name)]
        unmoved = [t for name, t in zip(names, tensors, strict=True) if each.before and recorder.steps and name not in moved]
        if not (still or outside or unmoved):
            return run.refuted(f"All of `{part}` gets gradient and moves", run.tell(tensors, "trains"))
        if best is None or len(still) < len(best[0]):
            best = still, outside, unmoved
    assert best is not None
    still, outside, unmoved = best
    evidence = []
    if still:
        frozen = [t for t in still if not t.requires_grad]
        cut = [t for t in still if t.requires_grad]
        evidence += [run.tell(frozen, "frozen")] if frozen else []
        evidence += [run.tell(cut, "no gradient")] if cut else []
    if outside:
        evidence.append(run.tell(outside, "in no optimizer"))
    if unmoved and not (still or outside):
        evidence.append(run.tell(unmoved, f"did not move in {run.steps()}"))
    return run.confirmed(f"`{part}` is to train, and in {run.steps()} some of it did not", *evidence)


def _frozen(part: str, held: list[Held], run: Run) -> Verdict:
    evidence: list[Evidence] = []
    for each in held:
        tensors = _of(part, each)
        reached = [t for t in tensors if run.mask([t]) & run.recorder.got]
        if reached:
            evidence.append(run.tell(reached, "gradient arrives"))
        moved = each.moved(part)
        for name, size in list(moved.items())[:MOST_SHOWN]:
            evidence.append(Evidence(f"`{name}` moved by up to {size:.3g}"))
    if not evidence:
        return run.refuted(f"`{part}` gets no gradient and nothing of it moves")
    if run.alone:
        return run.inconclusive(f"`{part}` trains in a run without the program that may freeze it", *evidence)
    return run.confirmed(f"`{part}` is to be frozen, and it is not", *evidence)


def _isolated(asked: Asked, parts: list[str], run: Run) -> Verdict:
    found = run.recorder.promises.leaks.get(asked.number)
    if found is None:
        return run.inconclusive(f"No module called `{parts[0]}` ran")
    if found:
        return run.confirmed(
            f"No gradient is to go from `{parts[0]}` to `{parts[1]}`, and the graph of its output leads there",
            run.tell(list(found.values()), f"behind the output of `{parts[0]}`"),
        )
    return run.refuted(f"Nothing of `{parts[1]}` is in the graph of what `{parts[0]}` gives")


PROBES = {"contract": broken}
