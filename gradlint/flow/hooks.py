"""Forward hooks at work: what they return takes the place of what the module computed, and what they keep comes back later."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradlint.flow.heap import FunctionRef
from gradlint.flow.lattice import Site

if TYPE_CHECKING:
    from gradlint.flow.lattice import Cut, Value
    from gradlint.flow.run import Run


class Hook:
    """One run of a forward hook.

    ``returned``: where it returns what takes the place of the module's output.  ``asked``: the call in another file that has
    the hook registered.  ``mixed``: what it keeps is put together with what it was cut off from, and goes into a layer.
    """

    __slots__ = ("asked", "mixed", "returned")

    def __init__(self, asked: Site | None) -> None:
        self.asked = asked
        self.mixed = False
        self.returned: Site | None = None

    def replaced(self, hook: Value, result: Value) -> None:
        """The hook has returned something that goes on in place of the output."""
        for item in hook.refs:
            if isinstance(item, FunctionRef):
                node = item.info.node
                place = node.body if isinstance(node, ast.Lambda) else _return(node)
                if place is not None:
                    self.returned = Site(item.info.file, place)


def asked_by(run: Run, hook: Value) -> Site | None:
    """The call that has a hook registered, where it stands in another file than the hook."""
    for item in hook.refs:
        if isinstance(item, FunctionRef):
            call = run.watch.trace.call
            while call is not None:
                if call.file is not None and call.file is not item.info.file:
                    return Site(call.file, call.node) if isinstance(call.node, ast.Call) else None
                call = call.outer
    return None


def meet(value: Value) -> None:
    """A layer is given a value: one that is made of the same thing twice, alive and as a hook has kept it?"""
    if not value.live:
        return
    for source, cuts in value.dead:
        if len(cuts) == 1 and cuts[0].hook is not None and source in value.live:
            cuts[0].hook.mixed = True


def unasked(cut: Cut) -> bool:
    """Whether nobody said that a hook should cut what it keeps: there is no flag, or it was left as it is by default."""
    if not cut.guarded:
        return True
    asked = cut.hook.asked if cut.hook is not None else None
    if asked is None or not isinstance(asked.node, ast.Call):
        return False
    given = (*asked.node.args, *(keyword.value for keyword in asked.node.keywords))
    return not any(isinstance(part, ast.Constant) and isinstance(part.value, bool) for part in given)


def _return(function: ast.AST) -> ast.Return | None:
    """The return statement of a function that gives something back, where there is one of that kind."""
    todo = list(ast.iter_child_nodes(function))
    found: list[ast.Return] = []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Return) and not (
            node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None)
        ):
            found.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(ast.iter_child_nodes(node))
    return found[0] if len(found) == 1 else None
