"""What a run observes: back-propagation, freezing, modes, optimizers, in the order they happen.

The observations are turned into facts here where order decides (optimizers, modes) and in ``verdicts`` where liveness does.
Observations made in different arms of one branch never meet: each carries the path of branch arms that led to it.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Step
from gradlint.flow import facts
from gradlint.flow.autograd import Autograd
from gradlint.flow.crossings import Crossings
from gradlint.flow.heap import DataOf, FileRef, FunctionRef, LibRef, Obj, Parameter, ParamSet
from gradlint.flow.lattice import NOTHING, TENSOR, UNKNOWN, Cut, Site, Trait, Value
from gradlint.flow.leaks import Leaks
from gradlint.flow.membership import Membership
from gradlint.flow.mutations import Mutations
from gradlint.flow.restless import Restless
from gradlint.flow.trace import (
    BACKWARD,
    BUILT,
    CLIP,
    FORWARD,
    GRADIENTS,
    HANDED,
    MODE,
    SCHEDULE,
    STEP,
    TOUCH,
    UNSCALE,
    UPDATE,
    ZERO,
    Trace,
)

if TYPE_CHECKING:
    from gradlint.flow.classes import FunctionInfo
    from gradlint.flow.run import Run
    from gradlint.knowledge import Row
    from gradlint.survey.source import SourceFile

Path = tuple[tuple[int, int], ...]


class OptimizerState(NamedTuple):
    """What an optimizer holds: its parameters, where it was built, and what it does to a parameter without a gradient.

    ``opaque``: it may hold more than is known.  ``decays``: momentum or weight decay may move what has a gradient no longer.
    ``skips_none``: it leaves parameters alone whose gradient is None.
    """

    params: tuple[Parameter, ...]
    site: Site
    serial: int
    opaque: bool
    decays: bool
    skips_none: bool


class Note:
    """A place remembered on an object, with the object the operation was called on."""

    __slots__ = ("site", "top")

    def __init__(self, site: Site, top: Obj | None = None) -> None:
        self.site = site
        self.top = top


class Root(NamedTuple):
    """One back-propagation: the loss, where, and which of its sources were frozen then."""

    value: Value
    site: Site
    path: Path
    frozen: dict[Obj, object]
    modes: dict[Obj, object]
    returned: bool
    targets: list[Obj]


class Pending(NamedTuple):
    """Something done to parameters that matters only if an optimizer steps afterwards."""

    kind: str
    site: Site
    optimizer: Obj
    parts: tuple[Obj, ...]
    path: Path
    gradients: bool
    names: tuple[str, ...] = ()
    staged: bool = False
    added: bool = False


class Watch:
    """The observations of one run."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.entry_file: SourceFile | None = None
        self.symbolic = False
        self.path: list[tuple[int, int]] = []
        self.branches = 0
        self.roots: list[Root] = []
        self.optimizers: list[Obj] = []
        self.opaque_optimizers: list[Obj] = []
        self.pending: list[Pending] = []
        self.facts: list[facts.Fact] = []
        self.ordered: list[tuple[facts.Fact, tuple[Obj, ...]]] = []
        self.executed: set[ast.AST] = set()
        self.unfrozen: set[Obj] = set()
        self.copies: set[Obj] = set()
        self.gradients_alive = False
        self.trained = False
        self.drifting: list[tuple[Obj, Note, Path]] = []
        self.resets: list[tuple[Obj, Note, Note, Path]] = []
        self.confirmed_drift: list[tuple[Obj, Note]] = []
        self.confirmed_resets: list[tuple[Obj, Note, Note]] = []
        self._arguments: dict[tuple[object, ...], Value] = {}
        self._loop_depth = 0
        self.trace = Trace()
        self.membership = Membership(run)
        self.leaks = Leaks(run)
        self.autograd = Autograd(run)
        self.crossings = Crossings(run)
        self.restless = Restless(run)
        self.mutations = Mutations(run)
        self.bare: ast.expr | None = None
        self.loss = Value()
        self.several = False
        self.steppers: set[Obj] = set()
        self.switched: dict[int, Cut] = {}
        self.loaded_into: set[Obj] = set()
        self._nested = 0
        self._together: list[Root] = []
        self.callbacks: dict[ast.AST, FunctionRef] = {}
        self._random: set[Obj] = set()
        self.made: list[Obj] = []

    # -- paths ---------------------------------------------------------------------------------------------------------

    def here(self) -> Path:
        return tuple(self.path)

    @staticmethod
    def compatible(first: Path, second: Path) -> bool:
        """Whether two observations can belong to one execution."""
        arms = dict(first)
        return all(arms.get(branch, arm) == arm for branch, arm in second)

    # -- small events --------------------------------------------------------------------------------------------------

    def allocated(self, obj: Obj) -> None:
        if obj.kind == "instance" and self.run.program.contracts:
            self.made.append(obj)
        frame = self.run.frame
        if frame.info is not None and frame.info.cls is not None:
            obj.attrs["%maker"] = frame.info.cls

    def entered(self, info: FunctionInfo) -> None:
        self.executed.add(info.node)

    def loop_entered(self, node: ast.AST, *, exact: bool = False) -> None:
        self._loop_depth += 1
        self.trace.loop(node, exact=exact)

    def loop_left(self, node: ast.AST) -> None:
        self._loop_depth -= 1
        self.trace.loop_done()

    def argument(self, info: FunctionInfo, name: str) -> Value:
        """The value of a parameter that nobody passed: an object of its own, the same throughout the run."""
        key = ("argument", info.file.path, info.qualname, name)
        found = self._arguments.get(key)
        if found is None:
            found = self._arguments[key] = Value(UNKNOWN, refs=(Obj("opaque", key, label=name),), opaque=True)
        return found

    def parameters_taken(self, obj: Obj) -> None:
        obj.attrs["%evidence"] = True

    def opaque_called(self, obj: Obj, arguments: int) -> None:
        obj.attrs["%called_with"] = max(arguments, obj.attrs.get("%called_with", 0))

    def loaded(self, obj: Obj, state: Value) -> None:
        self.loaded_into.add(obj)
        for item in state.refs:
            if isinstance(item, Obj) and "%state_of" in item.attrs and item.attrs["%state_of"] is not obj:
                self.copies.add(obj)

    def written(self, value: Value) -> None:
        """A tensor is changed in place, outside of autograd or not."""
        for item in value.refs:
            if isinstance(item, DataOf | ParamSet):
                self.membership.changed(item.params if isinstance(item, DataOf) else item)

    def copied_into(self, params: ParamSet) -> None:
        """Parameters are written from other parameters: their owners follow, as averaged and target networks do."""
        self.copies.update(entry.owner for entry in params.entries)

    def wrapped(self, obj: Obj, row: Row, kwargs: dict[str, Value], node: ast.AST) -> None:
        self.membership.wrapped(obj, row, kwargs, node)

    def gradients_cleared(self, entries: tuple[Parameter, ...], node: ast.AST) -> None:
        """``p.grad = None`` for parameters; none are given where nobody knows whose gradient it is."""
        owners = {e.owner for e in entries}
        self.trace.event(ZERO, self.run.site(node), None, frozenset(owners), closed=bool(owners))
        if not owners:
            return
        self.pending = [p for p in self.pending if not (p.kind == "freeze" and set(p.parts) <= owners)]

    def gradient_stored(self, holder: Value, value: Value, node: ast.AST) -> None:
        """``p.grad = …``."""
        owners = _owners(holder)
        if not (value.is_const and value.const is None):
            self.trace.event(TOUCH, self.run.site(node), None, owners, closed=bool(owners), note="write")
        elif not any(isinstance(item, ParamSet) for item in holder.refs):
            self.gradients_cleared(tuple(Parameter(owner, "") for owner in owners), node)

    def gradient_touched(self, holder: Value, node: ast.AST) -> None:
        """The program looks at a gradient."""
        if not any(isinstance(item, LibRef | FileRef) for item in holder.refs):
            owners = _owners(holder)
            self.trace.event(TOUCH, self.run.site(node), None, owners, closed=bool(owners))
            if isinstance(node, ast.Attribute):
                self.autograd.gradient_read(holder, node)

    def written_in_place(self, target: ast.expr, node: ast.AST) -> None:
        """``….zero_()``: of a gradient, that clears it."""
        from gradlint.flow.expressions import evaluate

        while isinstance(target, ast.Attribute) and target.attr == "data":
            target = target.value
        if isinstance(target, ast.Attribute) and target.attr == "grad":
            owners = _owners(evaluate(self.run, target.value))
            self.gradients_cleared(tuple(Parameter(owner, "") for owner in owners), node)
        elif isinstance(target, ast.Name) and "grad" in target.id:
            self.gradients_cleared((), node)

    def handed(self, values: Sequence[Value], node: ast.AST, receiver: Obj | None = None) -> None:
        """Objects are given to code nobody can see into: it may do with them what their methods do."""
        from gradlint.flow import containers

        self.leaks.escaped(values, node)
        found: set[Obj] = set()
        for value in values:
            if not value.refs:
                continue
            for inner in containers.everything(self.run, value):
                for item in inner.refs:
                    if isinstance(item, Obj) and item.kind in ("instance", "library", "opaque", "leaf"):
                        found.add(item)
                    elif isinstance(item, ParamSet):
                        found.update(entry.owner for entry in item.entries)
                    elif isinstance(item, FunctionRef) and item.receiver is not None:
                        found.update(r for r in item.receiver.refs if isinstance(r, Obj))
                    elif isinstance(item, FunctionRef) and item.closure is not None:
                        self.callbacks[item.info.node] = item
        if receiver is not None:
            found.add(receiver)
        if found:
            called = node.func if isinstance(node, ast.Call) else None
            name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
            self.trace.event(HANDED, self.run.site(node), receiver, frozenset(found), closed=False, note=name)

    def clipped(self, params: Value | None, node: ast.AST) -> None:
        """Gradients are clipped."""
        from gradlint.flow import containers

        owners: set[Obj] = set()
        for value in containers.everything(self.run, params) if params is not None else ():
            owners |= _owners(value)
        bare = node is self.bare
        self.trace.event(CLIP, self.run.site(node), None, frozenset(owners), closed=bool(owners), note="bare" if bare else "")

    def scheduled(self, obj: Obj, optimizer: object, node: ast.AST, *, told: bool) -> None:
        """A learning-rate scheduler steps; ``told``: it is told where training stands."""
        owner = optimizer if isinstance(optimizer, Obj) else None
        self.trace.event(
            SCHEDULE,
            self.run.site(node),
            obj,
            frozenset((owner,)) if owner is not None else NOTHING,
            note="told" if told else "",
        )

    def unscaled(self, scaler: Obj, optimizer: Value | None, node: ast.AST) -> None:
        """A gradient scaler takes its factor out of the gradients of an optimizer."""
        found = frozenset(item for item in (optimizer.refs if optimizer is not None else ()) if isinstance(item, Obj))
        self.trace.event(UNSCALE, self.run.site(node), scaler, found, closed=bool(found))

    def gradients_asked(self, node: ast.AST) -> None:
        """Gradients are computed as values."""
        self.trace.event(GRADIENTS, self.run.site(node))

    def scaler_updated(self, scaler: Obj, node: ast.AST) -> None:
        self.trace.event(UPDATE, self.run.site(node), scaler)

    # -- plain text faults ---------------------------------------------------------------------------------------------

    def statement(self, node: ast.Expr) -> None:
        """Expressions that stand alone: methods that are not called, comparisons that were meant to assign."""
        from gradlint.flow.expressions import evaluate

        inner = self.bare = node.value
        if isinstance(inner, ast.Attribute) and inner.attr in UNCALLED:
            receiver = evaluate(self.run, inner.value)
            kind = self._receiver_kind(receiver, inner.attr)
            if kind:
                self._fact(
                    facts.UncalledMethod,
                    inner,
                    Confidence.HIGH if kind != "unknown" else Confidence.MEDIUM,
                    receiver=kind,
                    method=inner.attr,
                )
        elif isinstance(inner, ast.Compare) and len(inner.ops) == 1 and isinstance(inner.ops[0], ast.Eq):
            left, right = inner.left, inner.comparators[0]
            if isinstance(left, ast.Attribute) and left.attr == "requires_grad" and isinstance(right, ast.Constant):
                receiver = evaluate(self.run, left.value)
                self._fact(
                    facts.MisspelledGradAttribute,
                    node,
                    Confidence.HIGH,
                    written="requires_grad ==",
                    right="requires_grad",
                    form="comparison",
                    on_module=self._is_module(receiver),
                )

    # -- scores -----------------------------------------------------------------------------------------------------------

    def scored(self, wants: str, value: Value | None, node: ast.AST) -> None:
        """A loss that normalises scores itself is given some."""
        trait = value.trait if value is not None else None
        if trait is None or trait.kind != wants:
            return
        from gradlint.flow.verdicts import span_of

        run, inner = self.run, trait.site
        body = run.frame.info.node if run.frame.info is not None else None
        layer = trait.subject
        container = layer is not None and layer.owner is not None and "%items" in layer.owner[0].attrs
        here = inner.file is run.frame.file and not container
        if body is not None:
            here = here and body.lineno <= inner.node.lineno <= (body.end_lineno or body.lineno)  # type: ignore[attr-defined]
        elif here:
            here = not any(
                isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
                and part.lineno <= inner.node.lineno <= (part.end_lineno or 0)  # type: ignore[attr-defined]
                for part in inner.file.tree.body  # type: ignore[union-attr]
            )
        loss, first = span_of(run.site(node)), span_of(inner)
        path = (
            Step(loss, f"the loss applies {'a softmax' if wants == 'softmax' else 'a sigmoid'} itself"),
            Step(first, "the first one is here"),
        )
        self.facts.append(
            facts.DoubleSoftmax(first if here else loss, Confidence.HIGH, path, squash=wants, inner=first, loss=loss)
        )

    def _receiver_kind(self, value: Value, method: str) -> str:
        from gradlint.flow import modules

        run = self.run
        for item in value.refs:
            if isinstance(item, Obj):
                if modules.find_method(run, item, method) is not None and not modules.is_module(run, item):
                    info = modules.find_method(run, item, method)
                    return "" if info is not None and info.decorated_with("property", "cached_property") else "unknown"
                if modules.is_optimizer(run, item):
                    return "optimizer" if method in ("step", "zero_grad") else ""
                if modules.is_module(run, item):
                    return "module" if method in ("train", "eval", "zero_grad") else ""
                if "%scheduler" in item.attrs:
                    return "scheduler" if method == "step" else ""
                if item.kind == "opaque":
                    return "unknown" if method in UNCALLED else ""
                if item.kind == "leaf":
                    return "tensor" if method == "backward" else ""
        if value.kind == TENSOR or value.live:
            return "tensor" if method in ("backward", "detach_") else ""
        return "unknown" if not value.refs and value.kind == UNKNOWN else ""

    def _is_module(self, value: Value) -> bool:
        from gradlint.flow import modules

        return any(isinstance(item, Obj) and modules.is_module(self.run, item) for item in value.refs)

    def attribute_stored(self, holder: Value, name: str, value: Value, node: ast.AST) -> None:
        """Assignments to gradient attributes that do not do what they say."""
        if "grad" not in name and "requires" not in name:
            return
        from gradlint.flow import modules

        run = self.run
        flag = bool(value.const) if value.is_const and isinstance(value.const, bool | int) else None
        if name == "requires_grad":
            for item in holder.refs:
                if isinstance(item, Obj) and modules.is_module(run, item) and not self._defines(item, name):
                    if self._is_self(node) and not isinstance(getattr(node, "value", None), ast.Constant):
                        return  # an option of the class, kept under that name
                    confidence = Confidence.HIGH if item.kind != "opaque" else Confidence.MEDIUM
                    self._fact(facts.ModuleFlagAssigned, node, confidence, module=item.name() or "the module", value=flag)
                    return
            return
        written = name
        if name == "requires_grad_":
            form = "method"
        elif misspelled(name):
            form = "attribute"
        else:
            return
        is_module = self._is_module(holder)
        is_parameter = any(isinstance(item, ParamSet) for item in holder.refs) or any(
            isinstance(item, Obj) and item.kind == "leaf" for item in holder.refs
        )
        unknown = (
            form == "method" and bool(holder.refs) and not any(isinstance(i, Obj) and i.kind == "instance" for i in holder.refs)
        )
        if not (is_module or is_parameter or unknown) or (form == "attribute" and flag is None):
            return
        if is_module and any(isinstance(i, Obj) and (self._defines(i, name) or self._is_self(node)) for i in holder.refs):
            return
        confidence = Confidence.HIGH if is_module or is_parameter else Confidence.MEDIUM
        self._fact(
            facts.MisspelledGradAttribute,
            node,
            confidence,
            written=written,
            right="requires_grad",
            form=form,
            on_module=is_module,
        )

    def _is_self(self, node: ast.AST) -> bool:
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "self"

    def _defines(self, item: Obj, name: str) -> bool:
        from gradlint.flow import modules

        if item.cls is None:
            return False
        return (
            modules.find_method(self.run, item, name) is not None
            or modules.find_method(self.run, item, f"{name}.setter") is not None
            or self.run.program.class_value(self.run, item.cls, name) is not None
        )

    # -- back-propagation ----------------------------------------------------------------------------------------------

    def backward(self, value: Value, node: ast.AST, *, returned: bool = False) -> None:
        """A loss is back-propagated (or handed to a framework that will)."""
        from gradlint.flow.modules import frozen

        self.gradients_alive = True
        path = self.here()
        if not returned:
            trait = self._scaling(value)
            reached = frozenset(s for term in value.summands() for s in term.live if frozen(s) is not True)
            self.trace.event(
                BACKWARD,
                self.run.site(node),
                None,
                reached,
                closed=not value.opaque,
                by=trait.subject if trait is not None else None,
                open_scale=trait is not None and trait.kind == "open",
                note="retain" if retains(node) else "",
            )
        for leaf, note, at in self.drifting:
            if self.compatible(at, path):
                self.confirmed_drift.append((leaf, note))
        for leaf, off, on, at in self.resets:
            if self.compatible(at, path):
                self.confirmed_resets.append((leaf, off, on))
        self.drifting, self.resets = [], []
        states = {source: frozen(source) for term in value.summands() for source in (*term.live, *(s for s, _ in term.dead))}
        site = self.run.site(node)
        if returned:
            site = Site(self.file_of(node) or site.file, node)
        for known in self.roots:
            if known.site.node is node and known.value is value:
                return
        self._together = []
        if len(self.roots) < 400:
            modes = {source: source.attrs.get("%mode") for source in states}
            self.roots.append(Root(value, site, path, states, modes, returned, []))
            self.membership.backward(self.roots[-1])
            self.leaks.backward(self.roots[-1], retains=retains(node))
            self.autograd.backward(self.roots[-1])
            self.restless.backward(self.roots[-1])
            self.mutations.backward(self.roots[-1])

    def backward_unseen(self, obj: Obj, node: ast.AST) -> None:
        """``obj.backward()``, and nobody knows what the loss was computed from."""
        self.gradients_alive = True
        trait = self._scaling(self.loss)
        by = trait.subject if trait is not None else None
        open_scale = trait is not None and trait.kind == "open"
        self.trace.event(BACKWARD, self.run.site(node), None, frozenset((obj,)), closed=False, by=by, open_scale=open_scale)

    def _scaling(self, value: Value) -> Trait | None:
        """What a gradient scaler did to a loss."""
        for trait in (value.trait, self.loss.trait):
            if trait is not None and trait.kind in ("scaled", "open"):
                return trait
        return None

    def file_of(self, node: ast.AST) -> SourceFile | None:
        return self.run.program.file_of_function(node)

    # -- optimizers ----------------------------------------------------------------------------------------------------

    def optimizer_built(self, obj: Obj, node: ast.AST) -> None:
        state: OptimizerState = obj.attrs["%optimizer"]
        for entry in state.params:
            entry.owner.attrs["%evidence"] = True
        self.membership.built(state.params)
        # built again at the same place: the old one is gone
        rebuilt = {id(o) for o in self.optimizers if o.key == obj.key}
        self.optimizers = [o for o in self.optimizers if id(o) not in rebuilt]
        self.pending = [p for p in self.pending if id(p.optimizer) not in rebuilt]
        self.optimizers.append(obj)
        held = {e.owner for e in state.params}
        self.trace.event(BUILT, self.run.site(node), obj, frozenset(held), closed=not state.opaque)
        path = self.here()

        def settled(item: Pending) -> bool:
            if item.kind in ("unfreeze", "replace"):
                return any(part in held for part in item.parts)
            # the model has a new optimizer, made after the freeze
            old: OptimizerState = item.optimizer.attrs["%optimizer"]
            return self.compatible(item.path, path) and any(e.owner in held for e in old.params)

        self.pending = [p for p in self.pending if not settled(p)]

    def opaque_optimizer(self, obj: Obj) -> None:
        """An optimizer (or something that steps) whose parameters are not known."""
        if obj not in self.opaque_optimizers:
            self.opaque_optimizers.append(obj)

    def group_added(self, obj: Obj) -> None:
        state: OptimizerState = obj.attrs["%optimizer"]
        held = {e.owner for e in state.params}
        self.membership.built(state.params)
        self.pending = [
            p
            for p in self.pending
            if not (p.kind in ("unfreeze", "replace") and (any(part in held for part in p.parts) or state.opaque))
        ]

    def _promote(self, obj: Obj) -> bool:
        """What unknown code made of parameters, and then steps, is an optimizer over them."""
        candidate = obj.attrs.get("%candidate")
        if not candidate or "%optimizer" in obj.attrs:
            return "%optimizer" in obj.attrs
        assert obj.site is not None
        obj.attrs["%optimizer"] = OptimizerState(candidate, obj.site, obj.serial, True, True, True)
        self.optimizers.append(obj)
        for entry in candidate:
            entry.owner.attrs["%evidence"] = True
        return True

    def stepped(self, obj: Obj, node: ast.AST, by: Obj | None = None) -> None:
        """An optimizer steps: what was done to its parameters behind its back takes effect."""
        from gradlint.flow.modules import frozen

        if not self._promote(obj):
            self.trace.event(STEP, self.run.site(node), obj, closed=False, by=by)
            self.opaque_optimizer(obj)
            return
        own: OptimizerState = obj.attrs["%optimizer"]
        self.steppers.add(obj)
        held = frozenset(e.owner for e in own.params)
        self.trace.event(STEP, self.run.site(node), obj, held, closed=not own.opaque, by=by)
        self.mutations.stepped(held, node)
        path = self.here()
        for root in reversed(self.roots):
            if obj in root.targets or (root.targets and root not in self._together):
                break
            root.targets.append(obj)
            self._together.append(root)
        left: list[Pending] = []
        for item in self.pending:
            if item.optimizer is not obj or not self.compatible(item.path, path):
                left.append(item)
                continue
            if item.kind == "freeze":
                parts = tuple(p for p in item.parts if frozen(p) in (True, "maybe") and p not in self.unfrozen)
                if parts:
                    self._frozen_in_optimizer(item, parts, obj, node)
            elif item.kind == "unfreeze":
                parts = tuple(p for p in item.parts if not self.covered(p))
                if parts and (self._related(obj.attrs["%optimizer"], parts) or any(p in self._reached() for p in parts)):
                    self._outside_optimizer(facts.UnfrozenAfterOptimizer, item, parts, obj, node)
            elif item.kind == "replace":
                parts = tuple(p for p in item.parts if not self.covered(p, strictly=True) and p not in self.copies)
                if item.added and not any(p in self._reached() for p in parts):
                    left.append(item)  # until the loss depends on it
                elif parts:
                    self._outside_optimizer(facts.ReplacedAfterOptimizer, item, parts, obj, node)
        self.pending = left

    def _reached(self) -> set[Obj]:
        """What the last loss gives gradient to."""
        return {s for term in self.roots[-1].value.summands() for s in term.live} if self.roots else set()

    def zeroed(self, obj: Obj, node: ast.AST, *, keeps: bool) -> None:
        from gradlint.flow import modules

        state = obj.attrs.get("%optimizer")
        if isinstance(state, OptimizerState):
            owners, closed = frozenset(e.owner for e in state.params), not state.opaque
        else:
            owners, closed = (
                frozenset((obj, *(e.owner for e in modules.parameters(self.run, obj)))),
                modules.is_module(self.run, obj),
            )
        self.trace.event(ZERO, self.run.site(node), obj, owners, closed=closed)
        if not keeps:
            self.gradients_alive = False
            self.pending = [p._replace(gradients=False) if p.gradients else p for p in self.pending]

    def covered(self, part: Obj, *, strictly: bool = False) -> bool:
        """Whether some optimizer holds a part."""
        return any(self.holds(o.attrs["%optimizer"], part) for o in self.optimizers) or bool(
            self.opaque_optimizers and not strictly and not self.optimizers
        )

    @staticmethod
    def holds(state: OptimizerState, part: Obj) -> bool:
        """Whether an optimizer holds a part, itself or through the opaque object it was read from."""
        here: Obj | None = part
        while here is not None:
            if any(e.owner is here for e in state.params):
                return True
            here = here.parent if here.kind == "opaque" else None
        return False

    # -- freezing ------------------------------------------------------------------------------------------------------

    def froze(self, entries: tuple[Parameter, ...], trains: bool | None, changed: list[Obj], node: ast.AST) -> None:
        """Parameters were frozen or unfrozen."""
        from gradlint.flow.modules import frozen

        run = self.run
        note = Note(run.site(node))
        path = self.here()
        owners = list(dict.fromkeys(e.owner for e in entries))
        self.membership.froze(owners, trains, node)
        if trains is False:
            for owner in owners:
                run.heap.write(owner, "%froze_at", note)
            hits = [o for o in owners if frozen(o) is True]
            for optimizer in self.optimizers:
                state: OptimizerState = optimizer.attrs["%optimizer"]
                held = tuple(o for o in hits if o in changed and self.holds(state, o))
                if held:
                    self.pending.append(
                        Pending("freeze", note.site, optimizer, held, path, self.gradients_alive, staged=bool(self.roots))
                    )
        elif trains is None:
            self.unfrozen.update(owners)
            self.pending = [p for p in self.pending if not (p.kind == "freeze" and any(o in p.parts for o in owners))]
        elif trains is True:
            self.unfrozen.update(owners)
            fresh = [o for o in changed if o in owners]
            self.pending = [p for p in self.pending if not (p.kind == "freeze" and any(o in p.parts for o in fresh))]
            outside = tuple(o for o in fresh if not self.covered(o) and "%handling" not in o.attrs)
            if outside and not self.opaque_optimizers and not run.handling:
                for optimizer in self.optimizers:
                    state = optimizer.attrs["%optimizer"]
                    if not state.opaque:
                        self.pending.append(Pending("unfreeze", note.site, optimizer, outside, path, False))
                        break

    def _related(self, state: OptimizerState, parts: tuple[Obj, ...]) -> bool:
        """Whether an optimizer holds something of the same model as ``parts``."""
        tops = {self._top(e.owner) for e in state.params}
        return any(self._top(p) in tops for p in parts)

    @staticmethod
    def _top(obj: Obj) -> Obj:
        here, count = obj, 0
        while count < 30 and (here.owner is not None or here.parent is not None):
            here = here.owner[0] if here.owner is not None else here.parent  # type: ignore[assignment]
            count += 1
        return here

    def part_stored(self, obj: Obj, name: str, value: Value, node: ast.AST) -> None:
        """A module or parameter is put into a module: does an optimizer hold the old one, or the module, already?"""
        from gradlint.flow import modules

        self.membership.stored(obj, name, value, node)

        run = self.run
        fresh: list[Obj] = []
        for item in value.refs:
            if isinstance(item, Obj):
                if item.kind == "leaf" and "%parameter" in item.attrs:
                    fresh.append(item)
                elif item.kind in ("library", "instance") and modules.is_module(run, item):
                    fresh.extend(e.owner for e in modules.parameters(run, item))
        if not fresh or not self.optimizers:
            return
        old = obj.attrs.get(name)
        old_parts = {
            e.owner
            for r in (old.refs if isinstance(old, Value) else ())
            if isinstance(r, Obj) and r not in value.refs
            for e in (modules.parameters(run, r) if r.kind != "leaf" else (Parameter(r, name),))
        }
        whole = obj
        while whole.owner is not None and modules.may_be_module(run, whole.owner[0]):
            whole = whole.owner[0]
        mine = {e.owner for e in modules.parameters(run, whole)} | ({obj} if obj.kind == "opaque" else set())
        for optimizer in self.optimizers:
            state: OptimizerState = optimizer.attrs["%optimizer"]
            if (state.opaque and not state.params) or obj.serial > state.serial:
                continue
            newer = tuple(dict.fromkeys(f for f in fresh if not self.covered(f, strictly=True) or f.serial > state.serial))
            newer = tuple(f for f in newer if not any(e.owner is f for e in state.params))
            if not newer:
                continue
            if not run.handling and any(self.holds(state, p) for p in (old_parts or mine)):
                label = f"{obj.name()}.{name}" if obj.name() else name
                self.pending.append(
                    Pending("replace", run.site(node), optimizer, newer, self.here(), False, (label,), added=not old_parts)
                )
                return

    def parts_injected(self, obj: Obj, node: ast.AST) -> None:
        """A library adds trainable parts to a module."""
        for optimizer in self.optimizers:
            state: OptimizerState = optimizer.attrs["%optimizer"]
            if self.holds(state, obj):
                part = Obj("opaque", ("injected", id(node)), label="adapters")
                self.pending.append(
                    Pending("replace", self.run.site(node), optimizer, (part,), self.here(), False, (obj.name(),))
                )

    def _frozen_in_optimizer(self, item: Pending, parts: tuple[Obj, ...], obj: Obj, node: ast.AST) -> None:
        state: OptimizerState = obj.attrs["%optimizer"]
        moves = item.gradients or not state.skips_none
        confidence = Confidence.HIGH if moves else Confidence.LOW if item.staged else Confidence.MEDIUM
        self._order_fact(facts.FrozenAfterOptimizer, item, parts, state, node, confidence, moves=moves)

    def _outside_optimizer(self, kind: type, item: Pending, parts: tuple[Obj, ...], obj: Obj, node: ast.AST) -> None:
        state: OptimizerState = obj.attrs["%optimizer"]
        self.membership.left_out(parts)
        self._order_fact(kind, item, parts, state, node, Confidence.HIGH if not state.opaque else Confidence.MEDIUM)

    def _order_fact(
        self,
        kind: type,
        item: Pending,
        parts: tuple[Obj, ...],
        state: OptimizerState,
        node: ast.AST,
        confidence: Confidence,
        **more: object,
    ) -> None:
        from gradlint.flow.verdicts import names_of, span_of

        names = item.names or names_of(self.run, parts)
        what = ", ".join(f"`{name}`" for name in names)
        built, step = span_of(state.site), span_of(self.run.site(node))
        done = {"freeze": "is frozen here", "unfreeze": "is unfrozen here", "replace": "is put in here"}[item.kind]
        path = (
            Step(step, "the optimizer steps"),
            Step(span_of(item.site), f"{what} {done}"),
            Step(built, "the optimizer was built before that"),
        )
        fact = kind(span_of(item.site), confidence, path, optimizer=built, step=step, parts=tuple(names), **more)
        self.ordered.append((fact, parts))

    # -- modes ---------------------------------------------------------------------------------------------------------

    def mode_set(self, obj: Obj, mode: str, node: ast.AST, top: Obj) -> None:
        """A module is put into train or eval mode, itself or through ``top``."""
        from gradlint.flow import modules

        run = self.run
        if obj is top:
            parts = frozenset(part for _, part in modules.walk(run, obj))
            self.trace.event(MODE, run.site(node), obj, parts, note=mode, closed=not self.several)
        if mode == "eval":
            present = obj.attrs.get("%eval_at")
            if not (isinstance(present, Note) and present.top is not None and self._within(present.top, top)):
                run.heap.write(obj, "%eval_at", Note(run.site(node), top))
            if obj.attrs.get("%reset_at") is not None:
                run.heap.write(obj, "%reset_at", None)
        elif mode == "train":
            note = obj.attrs.get("%eval_at")
            before = note.top if isinstance(note, Note) else None
            if before is not None and ((before is not top and self._within(before, top)) or self._settled(before)):
                run.heap.write(obj, "%reset_at", Note(run.site(node), top))
            elif note is not None:
                run.heap.write(obj, "%eval_at", None)

    def _settled(self, obj: Obj) -> bool:
        """Whether all parameters of a module are frozen for good, as far as the run has seen."""
        from gradlint.flow import modules

        parts = [p for _, p in modules.walk(self.run, obj) if modules.has_own_parameters(p)]
        return bool(parts) and all(modules.frozen(p) is True and p not in self.unfrozen for p in parts)

    @staticmethod
    def _within(part: Obj, whole: Obj) -> bool:
        here: Obj | None = part
        for _ in range(30):
            if here is None:
                return False
            if here.owner is not None:
                here = here.owner[0]
            else:
                here = here.parent
            if here is whole:
                return True
        return False

    def forward(self, obj: Obj, node: ast.AST) -> None:
        """A layer runs: does it keep statistics that should stand still, or drop what should be left alone?"""
        from gradlint.flow.modules import frozen, mode_of

        self.membership.ran(obj)
        norm = obj.row.get("norm") if obj.row is not None and obj.kind == "library" else obj.attrs.get("%norm")
        dropout = obj.row.get("dropout") is True if obj.row is not None else False
        if norm not in ("batch", "sync", "maybe") and not dropout:
            return
        if mode_of(obj) == "train" and not obj.attrs.get("%inert"):
            self._random.add(obj)
        if mode_of(obj) != "train" or (obj.row is not None and obj.attrs.get("%symbolic")):
            return
        path = self.here()
        reset = obj.attrs.get("%reset_at")
        off = obj.attrs.get("%eval_at")
        state = frozen(obj)
        if isinstance(reset, Note) and isinstance(off, Note):
            meant = state is True or (norm in ("batch", "sync") and off.top is obj) or (dropout and self._frozen_around(obj))
            if meant:
                self.resets.append((obj, off, reset, path))
            return
        if norm in ("batch", "sync", "maybe") and state is True:
            note = obj.attrs.get("%froze_at") or self._inherited(obj, "%froze_at")
            if isinstance(note, Note):
                self.drifting.append((obj, note, path))

    def computing(self) -> None:
        """A module is called, perhaps from within another."""
        if not self._nested:
            self._random = set()
        self._nested += 1

    @property
    def inside_forward(self) -> bool:
        """Whether a module is being called."""
        return self._nested > 0

    def computed(self, obj: Obj, node: ast.AST) -> None:
        """The call of a module is over."""
        self._nested -= 1
        if self._nested:
            return
        regions = self.run.regions
        if regions:
            self.switched[id(node)] = regions[-1]
            self.restless.evaluated(obj, self._random, node)
        self.trace.event(FORWARD, self.run.site(node), obj, frozenset(self._random), note="off" if regions else "on")

    def _frozen_around(self, obj: Obj) -> bool:
        from gradlint.flow import modules

        top = obj.owner[0] if obj.owner is not None else None
        if top is None:
            return False
        parts = [p for _, p in modules.walk(self.run, top) if modules.has_own_parameters(p)]
        return bool(parts) and all(modules.frozen(p) is True for p in parts)

    @staticmethod
    def _inherited(obj: Obj, key: str) -> object:
        here = obj.parent
        while here is not None:
            if key in here.attrs:
                return here.attrs[key]
            here = here.parent
        return None

    # -- facts ---------------------------------------------------------------------------------------------------------

    def _fact(self, kind: type, node: ast.AST, confidence: Confidence, **fields: object) -> None:
        from gradlint.flow.verdicts import span_of

        self.facts.append(kind(span_of(self.run.site(node)), confidence, (), **fields))


def retains(node: ast.AST) -> bool:
    """Whether a call of ``backward`` says that it keeps the graph."""
    return isinstance(node, ast.Call) and any(
        keyword.arg == "retain_graph" and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
        for keyword in node.keywords
    )


def _owners(value: Value) -> frozenset[Obj]:
    """Whose parameters a value is one of, or stands for."""
    found = {entry.owner for item in value.refs if isinstance(item, ParamSet) for entry in item.entries}
    found.update(item for item in value.refs if isinstance(item, Obj) and item.kind == "leaf")
    return frozenset(found)


UNCALLED = frozenset(("train", "eval", "step", "zero_grad", "backward"))


def misspelled(name: str) -> bool:
    """Whether an attribute name is a slip of ``requires_grad``."""
    if name in ("requires_grad", "requires_grad_") or name.startswith("_"):
        return False
    from difflib import SequenceMatcher

    bare = name.lower().replace("_", "")
    return SequenceMatcher(None, bare, "requiresgrad").ratio() >= 0.87
