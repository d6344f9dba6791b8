"""Where a program is wrong about autograd: leaves that a name loses, inference tensors, checkpoints, dropped results."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from gradlint.core import Confidence, Span, Step
from gradlint.flow import facts
from gradlint.flow.heap import Obj, ParamSet
from gradlint.flow.lattice import TENSOR, UNKNOWN, Cut, Site, Trait, Value

if TYPE_CHECKING:
    from gradlint.flow.run import Run
    from gradlint.flow.watch import Root
    from gradlint.knowledge import Row

REBOUND = "rebound"
# Methods that may give the tensor itself back, and are no reason to say that a name has lost it.
SAME = frozenset(("float", "contiguous", "requires_grad_", "type", "to", "cpu", "register_hook", "double", "half"))
# Methods whose result shares the storage of what they are called on: it stays an inference tensor.
VIEWS = frozenset("view squeeze unsqueeze permute transpose t expand narrow select detach".split())
# Ways to make the inputs of a checkpoint require gradient from afar.
REQUIRES_INPUTS = re.compile(
    r"require_grads\b|register_forward(?:_pre)?_hook[\s\S]*requires_grad_|requires_grad_[\s\S]*register_forward"
)

# Objects that may hold, or be, tensors that require gradient.
UNSURE = frozenset(("opaque", "leaf", "instance", "generator"))


class Rebound(NamedTuple):
    """An assignment that gave a name a computed value in place of a leaf, as ``facts.LeafRebound`` tells it."""

    site: Site
    name: str
    form: str
    off: bool
    leaf: Obj


class Checkpoint(NamedTuple):
    """A reentrant checkpoint whose inputs require no gradient, and what lies in it."""

    site: Site
    switch: str
    sources: frozenset[Obj]
    sure: bool


class Autograd:
    """What one run observes of them."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rebound: dict[int, Rebound] = {}
        self.checkpoints: dict[int, Checkpoint] = {}
        self.trained: dict[int, tuple[Cut, set[Obj], Root]] = {}
        self.severed: dict[int, tuple[Checkpoint, set[Obj], Root]] = {}

    # -- results that are dropped --------------------------------------------------------------------------------------

    def detached(self, receiver: Value, node: ast.AST) -> None:
        """``x.detach()`` of a tensor."""
        run = self.run
        bare = run.watch.bare
        listed = isinstance(bare, ast.ListComp | ast.SetComp) and bare.elt is node
        if not (node is bare or listed) or not isinstance(node, ast.Call) or run.regions or not receiver.live:
            return
        if receiver.kind not in (TENSOR, UNKNOWN) or receiver.refs or not isinstance(node.func, ast.Attribute):
            return
        target = node.func.value
        each = listed or (isinstance(target, ast.Name) and self._varies(target.id, node))
        self._add(facts.ResultDropped, run.site(node), method="detach", form="detach", each=each)

    def _varies(self, name: str, node: ast.AST) -> bool:
        """Whether a name is the variable of a loop around a node."""
        frame = self.run.frame
        body = frame.info.node if frame.info is not None else frame.file.tree
        return body is not None and any(
            isinstance(loop, ast.For | ast.AsyncFor)
            and any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(loop.target))
            and any(part is node for statement in loop.body for part in ast.walk(statement))
            for loop in ast.walk(body)
        )

    # -- leaves that a name loses --------------------------------------------------------------------------------------

    def bound(self, target: ast.expr, value: Value, node: ast.AST) -> Value:
        """An assignment of a computed value: the value, marked where the name held, or was to hold, a leaf."""
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return value
        if value.refs or (value.trait is not None and value.trait.kind != "moved"):
            return value
        sources = value.live or frozenset(source for source, _ in value.dead)
        leaves = [source for source in sources if source.kind == "leaf" and "%revived" not in source.attrs]
        if not leaves:
            return value
        held = self._held(target)
        name = ast.unparse(target)
        off = bool(self.run.regions)
        if any(leaf is mine for leaf in leaves for mine in held):
            reads = any(
                isinstance(part, ast.Attribute) and part.attr == "grad" and ast.unparse(part.value) == name
                for part in ast.walk(node.value)
            )
            form = "update" if reads else "replaced"
        elif len(sources) == len(leaves) and not off and self._made_in(leaves, node.value) and _changes(node.value):
            if isinstance(target, ast.Attribute) and self._is_module(target):
                return value  # that it is not registered is a fault of its own kind
            form = "derived"
        else:
            return value
        if form != "update" and not value.live and not off:
            return value  # taken out of the graph on purpose
        site = self.run.site(node)
        self.rebound[id(node)] = Rebound(site, name, form, off, leaves[0])
        return value.replace(trait=Trait(REBOUND, site, leaves[0]))

    def _held(self, target: ast.expr) -> list[Obj]:
        """The leaves that a name or an attribute holds now."""
        run = self.run
        value: object = None
        if isinstance(target, ast.Name):
            value = run.frame.env.get(target.id)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            holder = run.frame.env.get(target.value.id)
            if holder is not None and len(holder.refs) == 1 and isinstance(holder.refs[0], Obj):
                value = holder.refs[0].attrs.get(target.attr)
        elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant | ast.Name):
            from gradlint.flow.expressions import evaluate

            value = evaluate(run, ast.copy_location(ast.Subscript(target.value, target.slice, ast.Load()), target))
        if not isinstance(value, Value):
            return []
        if value.trait is not None and value.trait.kind == REBOUND and value.trait.subject is not None:
            return [value.trait.subject]
        return [item for item in value.refs if isinstance(item, Obj) and item.kind == "leaf"]

    def _made_in(self, leaves: list[Obj], node: ast.expr) -> bool:
        inside = {id(part) for part in ast.walk(node)}
        return all(leaf.site is not None and id(leaf.site.node) in inside for leaf in leaves)

    def _is_module(self, target: ast.Attribute) -> bool:
        from gradlint.flow import modules

        holder = self.run.frame.env.get(target.value.id) if isinstance(target.value, ast.Name) else None
        return holder is None or any(isinstance(item, Obj) and modules.may_be_module(self.run, item) for item in holder.refs)

    def gradient_read(self, holder: Value, node: ast.Attribute) -> None:
        """``x.grad`` is read: of a tensor that is no leaf, there is none."""
        if holder.trait is not None and holder.trait.kind == REBOUND and not self._asks(node):
            self._lost(holder.trait, self.run.site(node), "grad")

    def optimized(self, values: Iterable[Value], node: ast.AST) -> None:
        """Values are given to an optimizer."""
        for value in values:
            if value.trait is not None and value.trait.kind == REBOUND and value.live:
                self._lost(value.trait, self.run.site(node), "optimizer")

    def rebinds(self, region: Cut, leaves: Iterable[Obj], root: Root) -> bool:
        """Whether what cut leaves off from a loss is that their names were given new tensors in a region; then that is told."""
        begin, end = getattr(region.site.node, "lineno", 0), getattr(region.site.node, "end_lineno", 0)
        found = [
            rebound
            for rebound in self.rebound.values()
            if rebound.off
            and rebound.leaf in leaves
            and rebound.site.file is region.site.file
            and begin <= rebound.site.node.lineno <= end  # type: ignore[attr-defined]
        ]
        for rebound in found:
            self._lost(Trait(REBOUND, rebound.site, rebound.leaf), root.site, "loss")
        return bool(found)

    def _lost(self, trait: Trait, use: Site, used: str) -> None:
        from gradlint.flow.verdicts import span_of

        rebound = self.rebound.get(id(trait.site.node))
        text = trait.site.file.text
        if rebound is None or "retain_grad" in text:
            return
        where, there = span_of(rebound.site), span_of(use)
        shown = {
            "grad": f"`{rebound.name}.grad` is None here",
            "optimizer": "the optimizer refuses it",
            "loss": "the loss is computed from the new tensor, which has no gradient",
        }[used]
        path = (Step(there, shown), Step(where, f"`{rebound.name}` is given a computed tensor here, which is no leaf"))
        name = re.escape(rebound.name)
        cleared = re.search(rf"{name}\.grad(?:\.data)?(?:\.zero_\(|\s*=\s*None)", text) is not None
        self._add(
            facts.LeafRebound,
            rebound.site,
            path=path,
            name=rebound.name,
            form=rebound.form,
            used=used,
            use=there,
            off=rebound.off,
            cleared=cleared,
        )

    def _asks(self, node: ast.Attribute) -> bool:
        """Whether a gradient is only asked for: ``x.grad is None``."""
        frame = self.run.frame
        body = frame.info.node if frame.info is not None else frame.file.tree
        return body is not None and any(
            isinstance(part, ast.Compare) and part.left is node and isinstance(part.ops[0], ast.Is | ast.IsNot)
            for part in ast.walk(body)
        )

    # -- inference tensors ---------------------------------------------------------------------------------------------

    def recorded(self, values: Iterable[Value], result: Value, node: ast.AST) -> None:
        """An operation that keeps its inputs for backward is recorded."""
        if self.run.regions or not result.live:
            return
        for value in values:
            region = value.region
            if region is None or region.kind != "inference-mode" or value.live or value.kind != TENSOR:
                continue
            if not any(self._surely_requires_grad(source) for source in result.live):
                continue
            self._in_inference(self.run.site(node), region, (), self.run.site(node))
            return

    def given_data(self, holder: Value, region: Cut) -> None:
        """``p.data = …`` of something made in inference mode: the parameter is an inference tensor from then on."""
        for item in holder.refs:
            owners = [e.owner for e in item.entries] if isinstance(item, ParamSet) else [item] if isinstance(item, Obj) else []
            for owner in owners:
                self.run.heap.write(owner, "%inference", region)

    def _surely_requires_grad(self, source: Obj) -> bool:
        from gradlint.flow.modules import frozen

        known = source.kind in ("library", "leaf") or (source.kind == "opaque" and "%evidence" in source.attrs)
        return known and frozen(source) is False

    def _in_inference(self, site: Site, region: Cut, parts: tuple[str, ...], use: Site) -> None:
        from gradlint.flow.verdicts import span_of

        there, where = span_of(region.site), span_of(use)
        path = (Step(where, "autograd records here"), Step(there, f"{region.api} switches to inference mode"))
        self._add(
            facts.InferenceTensorUsed,
            site,
            path=path,
            parts=parts,
            region=there,
            api=region.api,
            construct=region.construct,
            use=where,
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def checkpointed(
        self, row: Row, target: Value, inputs: list[Value], kwargs: dict[str, Value], result: Value, node: ast.AST
    ) -> None:
        """A function is run under a checkpoint, or several are one after the other, of which the last is run as it is."""
        from gradlint.flow import containers, modules
        from gradlint.flow.modules import frozen

        run = self.run
        switch = str(row.get("reentrant"))
        flag = kwargs.get(switch)
        if run.regions or "**" in kwargs or (flag is not None and not (flag.is_const and flag.const is True)):
            return
        sure = True
        last: Value | None = None
        if row.get("positional", ("",))[0] == "functions":
            parts = containers.contents(run, target)
            last = parts.known[-1] if parts is not None and isinstance(parts.known, tuple) and parts.known else None
        owners = last.refs if last is not None else ()
        plain = {e.owner for part in owners if isinstance(part, Obj) for e in modules.parameters(run, part)}
        lost = {source for checkpoint in self.checkpoints.values() for source in checkpoint.sources}
        for given in inputs:
            for value in containers.everything(run, given):
                if value.opaque or any(frozen(source) is not True and source not in lost for source in value.live):
                    return
                if any(
                    isinstance(item, Obj) and item.kind in ("opaque", "leaf", "instance", "generator") for item in value.refs
                ):
                    return
                sure = sure and not (value.kind == UNKNOWN and not value.depends and not value.refs)
        sources = frozenset(source for source in result.live if self._surely_requires_grad(source)) - plain
        if sources and not any(REQUIRES_INPUTS.search(file.text) for file in {run.frame.file, run.watch.entry_file} if file):
            site = run.site(node)
            known = self.checkpoints.get(id(node))
            held = known.sources if known is not None else frozenset()
            self.checkpoints[id(node)] = Checkpoint(site, switch, sources | held, sure)

    # -- back-propagation ----------------------------------------------------------------------------------------------

    def backward(self, root: Root) -> None:
        """A loss is back-propagated."""
        live = {source for term in root.value.summands() for source in term.live}
        for source in live:
            region = source.attrs.get("%inference")
            if isinstance(region, Cut) and root.frozen.get(source) is False and region.construct != "statement":
                self.trained.setdefault(id(region), (region, set(), root))[1].add(source)
        for checkpoint in self.checkpoints.values():
            reached = {source for source in checkpoint.sources & live if root.frozen.get(source) is False}
            if reached:
                self.severed.setdefault(id(checkpoint.site.node), (checkpoint, set(), root))[1].update(reached)

    def judge(self) -> None:
        """What one run says at its end."""
        from gradlint.flow.verdicts import names_of, span_of

        run = self.run
        for region, parts, root in self.trained.values():
            self._in_inference(region.site, region, names_of(run, parts), root.site)
        optimizers = [optimizer.attrs["%optimizer"] for optimizer in run.watch.optimizers]
        for checkpoint, sources, root in self.severed.values():
            held = {s for s in sources if not optimizers or any(run.watch.holds(state, s) for state in optimizers)}
            if not held:
                continue
            names, loss = names_of(run, held), span_of(root.site)
            path = (
                Step(loss, "backward starts here"),
                Step(span_of(checkpoint.site), "no input of the checkpoint requires gradient, so its result does not either"),
            )
            confidence = Confidence.HIGH if checkpoint.sure and not run.truncated else Confidence.MEDIUM
            self._add(
                facts.CheckpointSevered,
                checkpoint.site,
                confidence,
                path=path,
                parts=names,
                switch=checkpoint.switch,
                loss=loss,
            )

    def _add(
        self, kind: type, site: Site, confidence: Confidence = Confidence.HIGH, path: tuple[Step, ...] = (), **fields: object
    ) -> None:
        from gradlint.flow.verdicts import span_of

        where: Span = span_of(site)
        facts_ = self.run.watch.facts
        if not any(isinstance(fact, kind) and fact.span == where for fact in facts_):
            facts_.append(kind(where, confidence, path, **fields))


def _changes(node: ast.expr) -> bool:
    """Whether an expression surely makes another tensor of the one it begins with."""
    here = node
    while isinstance(here, ast.Call) and isinstance(here.func, ast.Attribute):
        name = here.func.attr
        inner = here.func.value
        if not isinstance(inner, ast.Call):
            return False  # the call that makes the leaf itself
        if name not in SAME or (name == "to" and _elsewhere(here)):
            return True
        here = inner
    return isinstance(here, ast.BinOp | ast.UnaryOp)


def _elsewhere(call: ast.Call) -> bool:
    """Whether ``.to(…)`` may move a tensor from where it was made."""
    assert isinstance(call.func, ast.Attribute)
    if not call.args and not any(keyword.arg == "device" for keyword in call.keywords):
        return False
    places = {ast.unparse(argument) for argument in (*call.args, *(k.value for k in call.keywords))}
    if places & {"'cpu'", "torch.float", "torch.float32"}:
        return False
    made = {
        ast.unparse(keyword.value)
        for part in ast.walk(call.func.value)
        if isinstance(part, ast.Call)
        for keyword in part.keywords
        if keyword.arg == "device"
    }
    return not places & made
