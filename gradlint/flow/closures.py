"""Hooks: those that are made in a loop and look up its variables too late, and masks of another type than the gradient.

Each file is read for itself, without being executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Span
from gradlint.flow import facts
from gradlint.flow.reader import SCOPES, Function, Reader, bound, own

if TYPE_CHECKING:
    from gradlint.flow.program import Program
    from gradlint.survey.source import SourceFile

REGISTERS = re.compile(r"\.register_\w*hook\b")
MODULE, TENSOR = "torch.nn.Module", "torch.Tensor"
# What makes the hooks of an iteration run before the next one begins.
RUNS = frozenset(("backward", "remove", "grad", "step", "train", "fit"))

Loop = ast.For | ast.AsyncFor | ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


def inspect(program: Program, file: SourceFile) -> list[facts.Fact]:
    """What is wrong with the hooks that a file registers."""
    if file.tree is None or not REGISTERS.search(file.text):
        return []
    reader = _Hooks(program, file)
    for node in ast.walk(reader.tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args and reader.registers(node.func):
            reader.registration(node, node.func)
    return reader.found


class _Hooks(Reader):
    """The hooks of one file."""

    def registers(self, func: ast.Attribute) -> bool:
        """Whether a method is one that registers hooks."""
        rows = (self.program.knowledge.member(kind, func.attr) for kind in (MODULE, TENSOR))
        return any(row is not None and row.effect == "hook" for row in rows)

    def registration(self, node: ast.Call, func: ast.Attribute) -> None:
        """One call that registers a hook."""
        hook = self._hook(node)
        if hook is None:
            return
        self._closure(node, func, hook)
        if func.attr == "register_hook":
            self._mask(node, func, hook)

    def _hook(self, node: ast.Call) -> ast.Lambda | Function | None:
        """The function that a call registers, where it is written in the same scope."""
        given = node.args[0]
        if isinstance(given, ast.Lambda):
            return given
        if isinstance(given, ast.Name):
            for outer in self.around(node):
                if isinstance(outer, Function | ast.Module):
                    found = [n for n in own(outer) if isinstance(n, Function) and n.name == given.id]
                    if found:
                        return found[0] if len(found) == 1 else None
        return None

    # -- variables of loops ------------------------------------------------------------------------------------------------

    def _closure(self, node: ast.Call, func: ast.Attribute, hook: ast.Lambda | Function) -> None:
        """Whether a hook looks up what the loop has changed by the time it runs."""
        for loop in self.around(node):
            if isinstance(loop, SCOPES):
                return
            if not isinstance(loop, Loop):
                continue
            if isinstance(hook, Function) and loop not in self.around(hook):
                continue
            changing = _bound_by(loop)
            late = [name for name in _free(hook) if name in changing]
            if not late or not _depends(func.value, loop, changing):
                continue
            if isinstance(loop, ast.For | ast.AsyncFor) and (self._once(node, loop) or _runs_inside(loop, node)):
                return
            place = hook if isinstance(hook, ast.Lambda) else self.name_span(hook)
            self.fact(facts.HookClosure, place, Confidence.HIGH, names=tuple(dict.fromkeys(late)), api=ast.unparse(func))
            return

    def _once(self, node: ast.Call, loop: ast.For | ast.AsyncFor) -> bool:
        """Whether the loop ends with the turn that registers the hook."""
        here: ast.AST = node
        for outer in self.around(node):
            for body in (getattr(outer, "body", None), getattr(outer, "orelse", None)):
                if isinstance(body, list) and here in body:
                    after = body[body.index(here) + 1 :]
                    if any(isinstance(s, ast.Break | ast.Return | ast.Raise) for s in after):
                        return True
            if outer is loop or isinstance(outer, ast.Return):
                return isinstance(outer, ast.Return)
            here = outer
        return False

    # -- types of masks ----------------------------------------------------------------------------------------------------

    def _mask(self, node: ast.Call, func: ast.Attribute, hook: ast.Lambda | Function) -> None:
        """Whether a hook of a value computed under autocast multiplies by a mask in single precision."""
        if not isinstance(func.value, ast.Name) or not hook.args.args:
            return
        function: ast.AST = self.tree
        for outer in self.around(node):
            if isinstance(outer, Function):
                function = outer
                break
        made = self._under_autocast(func.value.id, function)
        if made is None:
            return
        gradient = hook.args.args[0].arg
        body = (
            [hook.body]
            if isinstance(hook, ast.Lambda)
            else [n.value for n in own(hook) if isinstance(n, ast.Return) and n.value is not None]
        )
        for result in body:
            if not isinstance(result, ast.BinOp) or not isinstance(result.op, ast.Mult):
                continue
            for one, other in ((result.left, result.right), (result.right, result.left)):
                if isinstance(one, ast.Name) and one.id == gradient and isinstance(other, ast.Name):
                    kept = self._kept(other.id, function, hook)
                    if kept:
                        self.fact(
                            facts.HookMaskType,
                            other,
                            Confidence.MEDIUM,
                            mask=other.id,
                            gradient=gradient,
                            kept=kept,
                            tensor=made,
                        )

    def _under_autocast(self, name: str, function: ast.AST) -> Span | None:
        """Where a variable is given the result of a call under autocast, and nothing else."""
        given = [n for n in own(function) if isinstance(n, ast.Assign) and any(name in bound(target) for target in n.targets)]
        if len(given) != 1 or not isinstance(given[0].value, ast.Call):
            return None
        for outer in self.around(given[0]):
            if isinstance(outer, ast.With) and any(self._lowers(item.context_expr) for item in outer.items):
                return self.file.span(given[0])
            if outer is function:
                break
        return None

    def _lowers(self, node: ast.expr) -> bool:
        """Whether a context computes in half precision."""
        if not isinstance(node, ast.Call) or any(
            k.arg == "enabled" and not (isinstance(k.value, ast.Constant) and k.value.value is True) for k in node.keywords
        ):
            return False
        row = self.row(node.func)
        return row is not None and row.effect == "neutral-scope" and bool(row.get("lowers"))

    def _kept(self, name: str, function: ast.AST, hook: ast.Lambda | Function) -> str:
        """The type of a tensor that a hook closes over, where its making tells."""
        spec = hook.args
        values: list[ast.expr] = [
            default
            for argument, default in zip(spec.args[len(spec.args) - len(spec.defaults) :], spec.defaults, strict=True)
            if argument.arg == name and not (isinstance(default, ast.Name) and default.id == name)
        ]
        for scope in dict.fromkeys((function, self.tree)):
            if values:
                break
            for n in own(scope):
                if isinstance(n, ast.Assign) and any(name in bound(target) for target in n.targets):
                    values.append(n.value)
        return self._type(values[0]) if len(values) == 1 else ""

    def _type(self, node: ast.expr) -> str:
        """The type of what an expression makes: ``float32`` where a function fills it and nobody says otherwise."""
        if not isinstance(node, ast.Call):
            return ""
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("float", "double") and not node.args:
            return {"float": "float32", "double": "float64"}[node.func.attr]
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("to", "cuda"):
            plain = all(isinstance(a, ast.Constant | ast.Name) for a in node.args) and not node.keywords
            return self._type(node.func.value) if plain else ""
        row = self.row(node.func)
        if row is None or row.get("fills") != "float" or any(k.arg == "dtype" for k in node.keywords):
            return ""
        return "float32"


def _bound_by(loop: Loop) -> set[str]:
    """The variables that each turn of a loop binds."""
    if isinstance(loop, ast.For | ast.AsyncFor):
        names = set(bound(loop.target))
        for statement in loop.body:
            for part in [statement, *own(statement)]:
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    names.add(part.id)
        return names
    return {name for generator in loop.generators for name in bound(generator.target)}


def _free(hook: ast.Lambda | Function) -> Iterator[str]:
    """The variables that a function looks up when it runs."""
    spec = hook.args
    mine = {a.arg for a in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)}
    mine.update(a.arg for a in (spec.vararg, spec.kwarg) if a is not None)
    body = [hook.body] if isinstance(hook, ast.Lambda) else hook.body
    parts = [part for statement in body for part in ast.walk(statement)]
    mine.update(part.id for part in parts if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store))
    for part in parts:
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in mine:
            yield part.id


def _depends(node: ast.expr, loop: Loop, changing: set[str]) -> bool:
    """Whether the hook goes to something else in each turn: what it is registered on comes from the loop's variables."""
    return any(isinstance(part, ast.Name) and part.id in changing for part in ast.walk(node))


def _runs_inside(loop: ast.For | ast.AsyncFor, node: ast.Call) -> bool:
    """Whether the hooks of one turn run before the next turn, or are gone by then."""
    return any(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr in RUNS
        for statement in loop.body
        for part in ast.walk(statement)
        if part is not node
    )
