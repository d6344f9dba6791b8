"""Does gradient reach what should train, and if not, is it this line that stops it?"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator

from gradlint.core.verdict import Evidence, Verdict
from gradlint.verify.instrument import Asked
from gradlint.verify.places import Place, overlap
from gradlint.verify.probes.run import Run
from gradlint.verify.recorder import Backward
from gradlint.verify.tracer import Cut

Stack = tuple[Place, ...]
"""The user's frames around a backward, the innermost first."""


class _Flow:
    """The facts that the flow claims turn on."""

    def __init__(self, asked: Asked, run: Run) -> None:
        self.run = run
        self.recorder = run.recorder
        self.cuts = run.cuts(asked) or run.cuts(asked, ("custom",))  # a function's own backward may let nothing through
        self.bits = sum(1 << cut.number for cut in self.cuts)
        self.trainable = self.recorder.ever_trainable
        self.behind = 0
        for cut in self.cuts:
            self.behind |= cut.behind
        subjects = run.mask(run.meant(asked.claim.subjects)) if asked.claim.subjects else 0
        self.waiting = run.mask(t for t in run.leaves(self.behind) if id(t) in run.waiting)
        self.targets = self.behind & self.trainable & ~self.waiting
        if self.targets & subjects:
            self.targets &= subjects
        gradient = self.recorder.nonzero
        if not any(cut.kind in ("zero", "custom") for cut in self.cuts):
            gradient |= self.recorder.got  # a gradient of zeros is one unless this line is what zeroes it
        self.starved = self.targets & ~gradient

    def records(self) -> Iterator[tuple[Stack, Backward]]:
        """Each way in which a backward went, with its place."""
        for place, group in self.recorder.backwards.items():
            for record in group:
                yield place, record

    def served(self, place: Stack, record: Backward) -> int:
        """The leaves that a backward is for: those of the optimizers that step after it, as far as they require grad."""
        return self.recorder.served[place] & record.trainable or record.trainable

    def reaching(self) -> list[tuple[Stack, Backward]]:
        """The backwards whose loss depends on a value cut at the site."""
        return [(place, record) for place, record in self.records() if record.cuts & self.bits]

    def where(self, place: Stack) -> str:
        """The place of a backward in a sentence."""
        return f"the loss at {self.run.place(place[0].span())}" if place else "the loss"

    def line(self) -> Evidence:
        """What the line does."""
        cut = self.cuts[0]
        return Evidence(f"{WHAT.get(cut.kind, 'gradient stops here')}, {_times(cut)}", cut.place.span() if cut.place else None)


WHAT = {
    "detach": "the value is detached here",
    "data": "the value is read through `.data` here",
    "python": "the value leaves the graph for Python or NumPy here",
    "no-grad": "gradient is switched off here",
    "inference-mode": "inference mode is entered here",
    "nondifferentiable": "the result of this operation has no gradient",
    "zero": "the derivative of this operation is zero everywhere",
    "parameter": "a computed value becomes a new parameter here",
    "custom": "the backward of this function lets no gradient through",
    "checkpoint": "none of the inputs that are checkpointed here requires gradient",
    "grad": "the gradient is computed here without a graph of its own (`create_graph`)",
    "function": "this function returns a value without gradient",
}


def _times(cut: Cut) -> str:
    return f"{cut.count} value{'s' if cut.count != 1 else ''} passed"


def severed_or_starved(asked: Asked, run: Run) -> Verdict:
    """``starved``, ``severed``: the subjects get no gradient because of this line."""
    flow = _Flow(asked, run)
    revived = _revived(asked, run)
    if revived is not None:
        return revived
    early = _early(asked, flow)
    if early is not None:
        return early
    reaching = flow.reaching()
    if asked.claim.kind == "severed" and (whole := _whole(flow, reaching)) is not None:
        return whole
    if flow.starved and reaching:
        place = reaching[0][0]
        return run.confirmed(
            f"In {run.steps()} no gradient came to what is cut off here, although {flow.where(place)} depends on it",
            run.tell(run.leaves(flow.starved), "no gradient"),
            flow.line(),
        )
    inert = _inert(flow)
    if inert is not None and asked.claim.kind == "severed":
        return inert
    return _otherwise(flow, asked)


def _whole(flow: _Flow, reaching: list[tuple[Stack, Backward]]) -> Verdict | None:
    """Confirmed when a loss depends on the site and nothing at all trains by it."""
    for place in dict.fromkeys(place for place, _ in reaching):
        records = [record for other, record in reaching if other == place]
        lost = flow.targets & functools.reduce(operator.or_, (flow.served(place, record) for record in records))
        if lost and not any(record.live & flow.served(place, record) for record in records):
            error = next((record.error for record in records if record.error), "")
            more = [Evidence(f"backward fails: {error}", place[0].span() if place else None)] if error else []
            return flow.run.confirmed(
                f"No gradient goes from {flow.where(place)} to anything that it is there to train",
                flow.run.tell(flow.run.leaves(lost), "no gradient from this loss"),
                *more,
                flow.line(),
            )
    return None


def inert(asked: Asked, run: Run) -> Verdict:
    """``inert``: one summand of the loss depends on what trains and carries no gradient."""
    flow = _Flow(asked, run)
    early = _early(asked, flow)
    if early is not None:
        return early
    found = _inert(flow)
    if found is not None:
        return found
    reaching = flow.reaching()
    if flow.starved and reaching:
        return run.confirmed(
            f"In {run.steps()} no gradient came to what is cut off here, although {flow.where(reaching[0][0])} depends on it",
            run.tell(run.leaves(flow.starved), "no gradient"),
            flow.line(),
        )
    return _otherwise(flow, asked)


def _inert(flow: _Flow) -> Verdict | None:
    for place, record in flow.reaching():
        served = flow.served(place, record)
        for term in record.terms:
            lost = term.depends & flow.behind & served
            if not term.live & served and term.cuts & flow.bits and lost:
                alone = len(record.terms) == 1
                what = "The loss" if alone else f"One of the {len(record.terms)} summands"
                of = f" at {flow.run.place(place[0].span())}" if place and alone else ""
                whole = "" if alone else f" of {flow.where(place)}"
                return flow.run.confirmed(
                    f"{what}{of}{whole} depends on what trains here and carries no gradient to any of it",
                    flow.run.tell(flow.run.leaves(lost), "nothing comes back from this summand"),
                    flow.line(),
                )
    return None


def _early(asked: Asked, flow: _Flow) -> Verdict | None:
    """What can be said before the losses are looked at."""
    run, recorder = flow.run, flow.recorder
    if not flow.cuts:
        if not recorder.reached[asked.number]:
            return run.unreached()
        if not recorder.gradients:
            return run.inconclusive(f"The line ran, but no backward did{run.how_it_ended()}")
        return run.refuted(
            f"The line ran {_often(recorder.reached[asked.number])}, and nothing that gradient flows through was cut"
        )
    if not recorder.backwards:
        return run.inconclusive(f"The line ran, but no backward did{run.how_it_ended()}", flow.line())
    if not flow.targets:
        if not flow.behind:
            return run.refuted("What passes here depends on nothing that requires gradient", flow.line())
        if flow.waiting:
            return run.inconclusive("The optimizer of what is cut off here had not stepped when enough was seen", flow.line())
        return run.refuted(
            "What is cut off here is not meant to train: it is frozen or in no optimizer",
            run.tell(run.leaves(flow.behind), "not in an optimizer"),
            flow.line(),
        )
    return None


def _otherwise(flow: _Flow, asked: Asked) -> Verdict:
    """The line cuts, but the claim was not seen to hold."""
    run = flow.run
    reaching = flow.reaching()
    if flow.starved:
        return run.inconclusive(
            "What is cut off here gets no gradient, but no loss was seen to depend on it through this line",
            run.tell(run.leaves(flow.starved), "no gradient"),
            flow.line(),
        )
    if asked.claim.kind != "starved" and not reaching and flow.recorder.tracer.escaped & flow.bits:
        return run.inconclusive(
            "The value leaves PyTorch after this line and was not seen to come back into a loss", flow.line()
        )
    return run.refuted(
        "All that is cut off here gets gradient by another way"
        if reaching
        else "No loss depends on the value that is cut here",
        run.tell(run.leaves(flow.targets), "gradient arrives"),
        flow.line(),
    )


def _revived(asked: Asked, run: Run) -> Verdict | None:
    """For a line that makes a computed value a leaf again: confirmed when backward ends there."""
    revived = 0
    for leaf in run.recorder.tracer.trace.leaves:
        computed = leaf.cuts or asked.claim.subjects
        if leaf.place is not None and not leaf.parameter and computed and overlap(leaf.place, asked.claim.site):
            revived |= 1 << leaf.number
    revived &= ~run.recorder.ever_trainable  # an optimizer's own leaf is no dead end
    if not revived:
        return None
    for place, group in run.recorder.backwards.items():
        records = [record for record in group if record.live & revived]
        if not records:
            continue
        where = run.place(place[0].span()) if place else "the loss"
        lost = list(run.leaves(records[0].trainable))
        if not any(record.live & record.trainable & ~revived for record in records):
            return run.confirmed(
                f"The backward at {where} ends at the value that is made a leaf here and reaches nothing that trains",
                *([run.tell(lost, "no gradient from this loss")] if lost else []),
            )
        return run.refuted(
            f"The backward at {where} also reaches what trains",
            run.tell(run.leaves(records[0].live & records[0].trainable), "gradient arrives"),
        )
    return None


def severed_way(asked: Asked, run: Run) -> Verdict:
    """``severed-way``: a loss depends on the subjects also by a way that is cut here."""
    flow = _Flow(asked, run)
    early = _early(asked, flow)
    if early is not None:
        return early
    reaching = flow.reaching()
    if reaching:
        return run.confirmed(
            f"{flow.where(reaching[0][0]).capitalize()} depends on a value that is cut off here",
            run.tell(run.leaves(flow.targets), "no gradient by this way"),
            flow.line(),
        )
    return _otherwise(flow, asked)


def leaves_device(asked: Asked, run: Run) -> Verdict:
    """``leaves-device``: a live value is moved here on its way to the loss."""
    cuts = run.cuts(asked, ("move",))
    if not cuts:
        if not run.recorder.reached[asked.number]:
            return run.unreached()
        return run.refuted("The line ran, and no value that depends on what trains came by")
    marked = sum(1 << cut.number for cut in cuts)
    behind = 0
    for cut in cuts:
        behind |= cut.behind
    for place, group in run.recorder.backwards.items():
        for record in group:
            if record.cuts & marked and behind & record.trainable:
                where = run.place(place[0].span()) if place else "a loss"
                note = "" if run.device != "cpu" else "; this run was on a CPU, where the move itself costs nothing"
                return run.confirmed(
                    f"Values that depend on what trains are moved here on their way to the loss at {where}",
                    Evidence(f"{_times(cuts[0])} in {run.steps()}{note}", cuts[0].place.span() if cuts[0].place else None),
                )
    if not run.recorder.backwards:
        return run.inconclusive(f"The line ran, but no backward did{run.how_it_ended()}")
    return run.refuted("No loss depends on the value that is moved here")


SECOND_TIME = "backward through the graph a second time"


def carried(asked: Asked, run: Run) -> Verdict:
    """``carried``: a backward reaches through the value that is kept here into a graph that is spent."""
    graphs, number = run.recorder.graphs, asked.number
    if not run.recorder.reached[number]:
        return run.unreached()
    failed = SECOND_TIME in run.ending.text
    place = run.ending.place.span() if run.ending.place else None
    if graphs.again[number]:
        more = [Evidence(f"backward fails: {run.ending.text}", place)] if failed else []
        return run.confirmed(
            "A backward reaches through the value that is kept here into the graph of an earlier iteration, "
            "through which a backward has gone before",
            Evidence(f"{_often(graphs.again[number])} in {run.recorder.gradients} backward passes", asked.claim.site),
            *more,
        )
    if failed and not graphs.values[number]:
        return run.confirmed("A backward goes through the graph of an earlier iteration", Evidence(run.ending.text, place))
    if graphs.turns[number] < 2 or run.recorder.gradients < 2:
        return run.inconclusive(f"The line ran too rarely to tell what is carried on{run.how_it_ended()}")
    if not graphs.with_graph[number]:
        return run.refuted("What is kept here has no graph")
    return run.refuted("No backward reaches into the graph of an iteration that is over through what is kept here")


def let_through(asked: Asked, run: Run) -> Verdict:
    """``let-through``: gradient goes back through the value that is computed here, to what is behind it."""
    graphs, number = run.recorder.graphs, asked.number
    if not run.recorder.reached[number]:
        return run.unreached()
    if not graphs.values[number]:
        return run.inconclusive(f"The line ran, but no tensor was seen there{run.how_it_ended()}")
    if not graphs.with_graph[number]:
        return run.refuted("What is computed here has no graph, and no gradient goes through it")
    arrived = graphs.arrived[number]
    if arrived:
        return run.confirmed(
            "Gradient goes back through the value that is computed here",
            run.tell(run.leaves(arrived), f"gradient in {graphs.through[number]} backward passes"),
        )
    if not run.recorder.gradients:
        return run.inconclusive(f"The line ran, but no backward did{run.how_it_ended()}")
    return run.refuted("No backward gives what is behind this value a gradient through it")


def leaks_into(asked: Asked, run: Run) -> Verdict:
    """``leaks-into``: gradient goes through what is given to the call, and is still there when what is behind it steps."""
    graphs, number = run.recorder.graphs, asked.number
    if not run.recorder.reached[number]:
        return run.unreached()
    place = run.ending.place.span() if run.ending.place else None
    if graphs.reused[number] and SECOND_TIME in run.ending.text:
        return run.confirmed(
            "The backward of this call goes through the graph of what it is given, which a later backward needs again",
            Evidence(f"backward fails: {run.ending.text}", place),
        )
    arrived = graphs.arrived[number]
    stepped = run.recorder.sequence.facts[number]["stepped with leaked gradients"]
    if arrived and stepped:
        return run.confirmed(
            "Gradient goes back through what the call is given, and is still there when the optimizer of what made it steps",
            run.tell(run.leaves(arrived), f"{stepped} steps with gradient from this loss"),
        )
    if arrived:
        return run.refuted(
            "Gradient goes back through what the call is given, and is cleared before it is used",
            run.tell(run.leaves(arrived), "a gradient that no step uses"),
        )
    if not graphs.values[number] or not run.recorder.gradients:
        return run.inconclusive(f"The line ran, but nothing was seen to be back-propagated through it{run.how_it_ended()}")
    return run.refuted("No gradient goes back through what the call is given")


AUTOGRAD_ERRORS = re.compile(
    r"inference tensor|leaf variable|in-?place|does(n't| not) require grad|second time|differentia|autograd|"
    r"save_for_backward|gradient|requires_grad|requires grad|\bgrad\b|backward|hook",
    re.I,
)
"""What PyTorch says when a program does what autograd does not allow."""


LEGACY = "Legacy autograd function"


def raises(asked: Asked, run: Run) -> Verdict:
    """``raises``: autograd refuses what the line does."""
    ending = run.ending
    if ending.kind == "error" and any(overlap(place, asked.claim.site) for place in ending.stack):
        if AUTOGRAD_ERRORS.search(ending.text):
            return run.confirmed("The line raises an error of autograd", Evidence(ending.text, asked.claim.site))
        return run.inconclusive(f"The line raises, but nothing that speaks of gradient: {ending.text}")
    if asked.claim.probe == "autograd" and LEGACY in ending.text:
        return run.confirmed("PyTorch refuses the function", Evidence(ending.text, asked.claim.site))
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if "nference tensor" in ending.text and any(overlap(place, asked.claim.site) for place in run.recorder.tracer.inference):
        where = ending.place.span() if ending.place else None
        return run.confirmed("Autograd refuses what is made in the region that is entered here", Evidence(ending.text, where))
    return run.refuted(f"The line ran {_often(run.recorder.reached[asked.number])}, and nothing was raised")


def saved_changed(asked: Asked, run: Run) -> Verdict:
    """``saved-changed``: backward fails because the line has changed what it needs."""
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    facts = run.recorder.sequence.facts[asked.number]
    times = facts["changed in place"] or facts["stepped"]  # a step changes the weights in place
    if times and "modified by an inplace operation" in run.ending.text:
        place = run.ending.place.span() if run.ending.place else None
        return run.confirmed(
            "Backward needs a value that is changed in place here",
            Evidence(f"{_often(times)} before backward fails: {run.ending.text}", place),
        )
    if not run.recorder.gradients:
        return run.inconclusive(f"The line ran, but no backward did{run.how_it_ended()}")
    return run.refuted("Backward works after the line has run")


def not_a_leaf(asked: Asked, run: Run) -> Verdict:
    """``not-a-leaf``: the name holds a computed tensor from here on, which gets no ``grad``."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    if facts["no leaf"]:
        ended = [Evidence(f"the program ends with {run.ending.text}")] if run.ending.kind == "error" else []
        total = facts["no leaf"] + facts["a leaf"]
        return run.confirmed(
            "What is assigned here is no leaf that requires gradient: it gets no `grad`, and no optimizer can hold it",
            Evidence(f"{facts['no leaf']} of {total} tensors", asked.claim.site),
            *ended,
        )
    if facts["a leaf"] and run.cuts(asked, ("stay",)):
        return run.inconclusive("In this run the tensor is where it is to be moved already, and stays a leaf")
    if facts["a leaf"]:
        return run.refuted("What is assigned here is a leaf that requires gradient")
    return run.inconclusive(f"The line ran, but assigned no tensor{run.how_it_ended()}")


def discarded(asked: Asked, run: Run) -> Verdict:
    """``discarded``: the statement makes a tensor that nothing keeps, and leaves the one it is called on as it was."""
    facts = run.recorder.sequence.facts[asked.number]
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    methods = [value for value in run.recorder.values[asked.number] if value]
    if facts["dropped"]:
        return run.confirmed(
            "The statement makes another tensor, which nothing keeps", Evidence(_often(facts["dropped"]), asked.claim.site)
        )
    if methods:
        return run.confirmed("The statement gives the method itself and calls nothing", Evidence(methods[0], asked.claim.site))
    if facts["itself"]:
        return run.inconclusive(
            "In this run the call gives back the very tensor it is called on, as there is nothing to change"
        )
    return run.refuted("The statement makes no tensor")


def late_bound(asked: Asked, run: Run) -> Verdict:
    """``late-bound``: when the function runs, the variable that it closes over has another value than when it was made."""
    facts = run.recorder.sequence.facts[asked.number]
    name = asked.claim.subjects[0] if asked.claim.subjects else "the variable"
    if facts["moved on"]:
        total = facts["moved on"] + facts["as it was"]
        return run.confirmed(
            f"When the function is called, `{name}` is no longer what it was when the function was made",
            Evidence(f"{facts['moved on']} of {total} calls", asked.claim.site),
        )
    if facts["as it was"]:
        return run.refuted(f"Each time the function is called, `{name}` is what it was when the function was made")
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    return run.inconclusive(f"The function was made and never called{run.how_it_ended()}")


def hook_changes_dtype(asked: Asked, run: Run) -> Verdict:
    """``hook-changes-dtype``: given a gradient of low precision, the hook returns one of another type."""
    facts = run.recorder.sequence.facts[asked.number]
    if facts["another type"]:
        more = [Evidence(f"the program ends with {run.ending.text}")] if "hook" in run.ending.text else []
        return run.confirmed(
            "Given a gradient in bfloat16, as autocast makes them, the hook returns another type",
            Evidence(_often(facts["another type"]), asked.claim.site),
            *more,
        )
    if "has changed the type" in run.ending.text and run.recorder.reached[asked.number]:
        return run.confirmed("Autograd refuses what the hook returns", Evidence(run.ending.text, asked.claim.site))
    if facts["asked"] and facts["same type"]:
        return run.refuted("The hook returns a gradient of the type that it is given")
    if not run.recorder.reached[asked.number]:
        return run.unreached()
    return run.inconclusive(f"The hook was not seen to run on a gradient of low precision{run.how_it_ended()}")


def _often(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


PROBES = {
    "starved": severed_or_starved,
    "severed": severed_or_starved,
    "inert": inert,
    "severed-way": severed_way,
    "leaves-device": leaves_device,
    "carried": carried,
    "let-through": let_through,
    "leaks-into": leaks_into,
    "raises": raises,
    "saved-changed": saved_changed,
    "not-a-leaf": not_a_leaf,
    "discarded": discarded,
    "late-bound": late_bound,
    "hook-changes-dtype": hook_changes_dtype,
}
