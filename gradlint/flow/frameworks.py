"""Frameworks that own the loop: what they call, in which order, and what they back-propagate."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradlint.flow import calls, containers, modules
from gradlint.flow.heap import FunctionRef, Items, LibRef, Obj
from gradlint.flow.lattice import Value, ref

if TYPE_CHECKING:
    from gradlint.flow.classes import ClassInfo
    from gradlint.flow.run import Run
    from gradlint.knowledge import Row


def framework_of(run: Run, cls: ClassInfo) -> Row | None:
    """The framework that drives objects of a class, if any."""
    for item in run.program.mro(run, cls):
        if isinstance(item, LibRef):
            row = run.program.knowledge.framework(item.name)
            if row is not None:
                return row
    return None


def drive(run: Run, obj: Obj, node: ast.AST) -> None:
    """Train an object as its framework does: optimizers first, then the methods whose results are back-propagated."""
    if obj.cls is None or obj.attrs.get("%driven"):
        return
    row = framework_of(run, obj.cls)
    if row is None:
        return
    obj.attrs["%driven"] = True
    built: list[Obj] = []
    for name in row.get("configures", ()):
        info = modules.find_method(run, obj, name)
        if info is None:
            continue
        value = calls.call_function(run, FunctionRef(info, None, ref(obj)), [], {}, node)
        for inner in containers.everything(run, value):
            for item in inner.refs:
                if isinstance(item, Obj):
                    if modules.is_optimizer(run, item):
                        built.append(item)
                    elif item.kind == "opaque":
                        run.watch.opaque_optimizer(item)
    for name in row.get("returns_loss", ()):
        info = modules.find_method(run, obj, name)
        if info is None:
            continue
        steps = 2 if built else 1
        for _ in range(steps):
            result = calls.call_function(run, FunctionRef(info, None, ref(obj)), [], {}, node)
            loss = loss_of(run, result)
            if loss is not None:
                run.watch.backward(loss, info.node, returned=True)
            for optimizer in built:
                run.watch.stepped(optimizer, info.node)


def loss_of(run: Run, result: Value) -> Value | None:
    """The loss in what a training step returns: the value itself, the entry ``loss``, or the first element."""
    for item in result.refs:
        if isinstance(item, Obj):
            items = item.attrs.get("%items")
            if isinstance(items, Items):
                if isinstance(items.known, dict):
                    return items.known.get("loss")
                return items.known[0] if items.known else None
    if result.is_const and result.const is None:
        return None
    return result
