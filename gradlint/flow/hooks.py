"""Forward hooks at work: what they return takes the place of what the module computed."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from gradlint.flow.heap import FunctionRef
from gradlint.flow.lattice import Site

if TYPE_CHECKING:
    from gradlint.flow.lattice import Value


class Hook:
    """One run of a forward hook. ``returned``: where it returns what takes the place of the module's output."""

    __slots__ = ("returned",)

    def __init__(self) -> None:
        self.returned: Site | None = None

    def replaced(self, hook: Value, result: Value) -> None:
        """The hook has returned something that goes on in place of the output."""
        for item in hook.refs:
            if isinstance(item, FunctionRef):
                node = item.info.node
                place = node.body if isinstance(node, ast.Lambda) else _return(node)
                if place is not None:
                    self.returned = Site(item.info.file, place)


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
