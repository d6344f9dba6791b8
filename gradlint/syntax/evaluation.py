"""The fix that frozen modules in train mode share: ``.eval()`` after the freeze."""

from __future__ import annotations

from itertools import pairwise

import libcst as cst

from gradlint.syntax import edits
from gradlint.syntax.candidate import Candidate


def evaluated(
    candidate: Candidate, module: str, node: cst.Call | cst.Assign, owner: cst.BaseExpression | None
) -> tuple[edits.Edits, str]:
    """The edits that put what is frozen into eval mode, and how the code spells it, where the syntax shows it.

    Args:
        candidate: the piece.
        module: the name of what is frozen.
        node: the call or assignment that freezes.
        owner: what the call is made on, or whose attribute is assigned.
    """
    if owner is None:
        return (), ""
    statement = edits.statement(candidate, node)
    loop = _loop(candidate, statement)
    whole = isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and node.func.attr.value == "requires_grad_"
    if loop is not None and isinstance(owner, cst.Name) and owner.value in _words(loop.target):
        match loop.iter:
            case cst.Call(func=cst.Attribute(value=found), args=[]) if _names(found, module, whole=True):
                spelled = candidate.code(found)
                return edits.insert_after(candidate, loop, f"{spelled}.eval()"), spelled
    elif isinstance(statement, cst.Expr) and statement.value is node and _names(owner, module, whole=whole):
        spelled = candidate.code(owner)
        return edits.insert_after(candidate, statement, f"{spelled}.eval()"), spelled
    elif isinstance(statement, cst.Assign) and statement.value is node and isinstance(owner, cst.Call) and whole:
        return edits.append(candidate, node, ".eval()"), ""
    return (), ""


def _loop(candidate: Candidate, statement: cst.CSTNode | None) -> cst.For | None:
    """The loop whose body is this statement alone."""
    around = list(candidate.ancestors(statement)) if statement is not None else []
    for block, loop in pairwise(around):
        if isinstance(loop, cst.For):
            return loop if len(loop.body.body) == 1 and loop.orelse is None else None
        if isinstance(block, cst.BaseCompoundStatement):
            return None
    return None


def _names(node: cst.BaseExpression, module: str, *, whole: bool) -> bool:
    """Whether an expression spells the module, by the last part of its name; with ``whole`` also one that the module is in."""
    *owners, name = module.split(".")
    last = node.attr.value if isinstance(node, cst.Attribute) else getattr(node, "value", "")
    dotted = isinstance(node, cst.Name) or (
        isinstance(node, cst.Attribute) and isinstance(node.value, cst.Name | cst.Attribute)
    )
    return dotted and (last == name or (whole and last in owners))


def _words(target: cst.BaseExpression) -> set[str]:
    """The variables of a loop's target."""
    elements = target.elements if isinstance(target, cst.Tuple | cst.List) else ()
    named = [target, *(element.value for element in elements)]
    return {node.value for node in named if isinstance(node, cst.Name)}
