"""Custom autograd functions: how many gradients they return, how they are called, what they keep.

Each file is read for itself, without being executed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradlint.core import Confidence, Span
from gradlint.flow import facts
from gradlint.flow.reader import Function, Reader, bound, is_test, own

if TYPE_CHECKING:
    from gradlint.flow.classes import ClassInfo, FunctionInfo
    from gradlint.flow.program import Program
    from gradlint.survey.source import SourceFile

BASE = "torch.autograd.Function"
SPEAKS = re.compile(r"\bFunction\b|\bautograd\b|\.forward\(|\)\(")
TWICE = re.compile(r"create_graph\s*=\s*True|gradgradcheck|functional\.(?:hessian|hvp)")
STATIC = ("forward", "backward", "setup_context", "jvp", "vmap")
# Where the program asks first whether gradient is wanted, it may do without the function.
ASKS = re.compile(r"grad|training|inference")


def inspect(program: Program, file: SourceFile) -> list[facts.Fact]:
    """What is wrong with the custom autograd functions of a file, and with its use of others."""
    if file.tree is None or not SPEAKS.search(file.text):
        return []
    reader = _Functions(program, file)
    for node in ast.walk(reader.tree):
        if isinstance(node, ast.ClassDef):
            info = program.class_info(node, file)
            if reader.is_function(info):
                reader.definition(info)
        elif isinstance(node, ast.Call):
            reader.call(node)
    return reader.found


class _Functions(Reader):
    """The custom functions of one file."""

    def is_function(self, info: ClassInfo) -> bool:
        """Whether a class is a custom autograd function."""
        return bool(info.node.bases) and self.program.inherits(self.run, info, BASE)

    # -- definitions -----------------------------------------------------------------------------------------------------

    def definition(self, info: ClassInfo) -> None:
        """One class."""
        for name in STATIC:
            method = info.functions.get(name)
            if method is not None and not method.decorators and name not in info.assigns and not info.node.decorator_list:
                node = method.node
                assert isinstance(node, Function)
                if not self._instantiated(info):
                    return
                self.fact(
                    facts.FunctionMisused,
                    self.name_span(node),
                    Confidence.HIGH,
                    form="method",
                    function=info.name,
                    name=name,
                )
                return
        forward = self.program.find_method(self.run, info, "forward")
        backward = info.functions.get("backward")
        if forward is None or backward is None:
            return
        separate = self.program.find_method(self.run, info, "setup_context") is not None
        self._count(info, forward, backward, separate=separate)
        if not separate:
            self._kept(info, forward, backward)

    def _instantiated(self, info: ClassInfo) -> bool:
        """Whether the program makes instances of a function and never applies it."""
        applied, made = re.compile(rf"\b{info.name}\.apply\b"), re.compile(rf"(?<!class )\b{info.name}\(")
        return self.program.anywhere(_has, made) and not self.program.anywhere(_has, applied)

    def _count(self, info: ClassInfo, forward: FunctionInfo, backward: FunctionInfo, *, separate: bool) -> None:
        """Whether ``backward`` returns a gradient for each argument of ``forward``."""
        spec = forward.node.args
        if spec.vararg is not None or spec.kwarg is not None or spec.kwonlyargs:
            return
        taken = len(spec.posonlyargs) + len(spec.args) - (0 if separate else 1)
        needed = taken - len(spec.defaults)
        given = self._given(info)
        wanted = max([needed, *(count for count in given if count <= taken)])
        assert isinstance(backward.node, Function)
        place = forward.file.span(forward.node)
        where = Span(place.file, place.line, place.column, place.line, place.column + 1)
        for node in own(backward.node):
            if isinstance(node, ast.Return) and node.value is not None and not _nothing(node.value):
                count = _length(self, node.value, backward.node)
                if count is not None and count < wanted:
                    self.fact(
                        facts.GradientCount,
                        node,
                        Confidence.HIGH,
                        function=info.name,
                        returned=count,
                        wanted=wanted,
                        forward=where,
                    )

    def _given(self, info: ClassInfo) -> Iterator[int]:
        """With how many arguments the file applies a function of its own."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "apply":
                holder = node.func.value
                if isinstance(holder, ast.Name) and holder.id == info.name and not node.keywords:
                    if not any(isinstance(argument, ast.Starred) for argument in node.args):
                        yield len(node.args)

    def _kept(self, info: ClassInfo, forward: FunctionInfo, backward: FunctionInfo) -> None:
        """Whether ``forward`` keeps tensors on the context that it should save or return."""
        assert isinstance(forward.node, Function) and isinstance(backward.node, Function)
        if forward.cls is not info or not forward.node.args.args:
            return
        context = forward.node.args.args[0].arg
        returned = [n.value for n in own(forward.node) if isinstance(n, ast.Return) and n.value is not None]
        for node in own(forward.node):
            if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not isinstance(node.value, ast.Name):
                continue
            target = node.targets[0]
            if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == context):
                continue
            name = node.value.id
            if returned and all(isinstance(value, ast.Name) and value.id == name for value in returned):
                form = "result"
            elif self._between(name, forward.node, backward.node, target.attr):
                form = "between"
            else:
                continue
            confidence = Confidence.HIGH if form == "result" else Confidence.MEDIUM
            self.fact(facts.FunctionMisused, node, confidence, form=form, function=info.name, name=f"{context}.{target.attr}")

    def _between(self, name: str, forward: Function, backward: Function, attribute: str) -> bool:
        """Whether a variable holds something computed from the inputs that a second derivative has to go through."""
        if backward.decorator_list and any("once_differentiable" in ast.unparse(d) for d in backward.decorator_list):
            return False
        if not self.program.anywhere(_has, TWICE):
            return False
        holder = backward.args.args[0].arg if backward.args.args else ""
        if not any(
            isinstance(n, ast.Attribute) and n.attr == attribute and isinstance(n.value, ast.Name) and n.value.id == holder
            for n in own(backward)
        ):
            return False
        tensors = self._tensors(forward, backward)
        values = [
            n.value
            for n in own(forward)
            if isinstance(n, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in n.targets)
        ]
        return len(values) == 1 and self._computed(values[0], tensors)

    def _tensors(self, forward: Function, backward: Function) -> set[str]:
        """The arguments of ``forward`` for which ``backward`` returns a gradient."""
        names = [a.arg for a in (*forward.args.posonlyargs, *forward.args.args)][1:]
        found: set[str] = set()
        for node in own(backward):
            if isinstance(node, ast.Return) and node.value is not None:
                parts = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                found.update(
                    name
                    for name, part in zip(names, parts, strict=False)
                    if not (isinstance(part, ast.Constant) and part.value is None)
                )
        return found

    def _computed(self, node: ast.expr, tensors: set[str]) -> bool:
        """Whether an expression is a differentiable function of the tensors, as far as it can be read."""
        if isinstance(node, ast.BinOp):
            return self._computed(node.left, tensors) or self._computed(node.right, tensors)
        if not isinstance(node, ast.Call):
            return isinstance(node, ast.Name) and node.id in tensors
        row = self.row(node.func)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if row is None and isinstance(node.func, ast.Attribute) and self._computed(node.func.value, tensors):
            member = self.program.knowledge.member("torch.Tensor", name)
            return member is not None and member.effect == "flow"
        return row is not None and row.effect == "flow" and any(self._computed(a, tensors) for a in node.args)

    # -- calls -----------------------------------------------------------------------------------------------------------

    def call(self, node: ast.Call) -> None:
        """One call: of ``forward`` by hand, or of an instance."""
        func = node.func
        if isinstance(func, ast.Attribute) and func.attr == "forward":
            holder = func.value.func if isinstance(func.value, ast.Call) else func.value
            info = self.project_class(holder) if isinstance(holder, ast.Name | ast.Attribute) else None
            if info is not None and self.is_function(info) and self._by_hand(node, info):
                self.fact(
                    facts.FunctionMisused, node, Confidence.HIGH, form="direct", function=info.name, name=ast.unparse(func)
                )
        elif isinstance(func, ast.Name | ast.Attribute):
            info = self.project_class(func)
            if info is None or not self.is_function(info):
                return
            forward = self.program.find_method(self.run, info, "forward")
            if forward is not None and forward.decorated_with("staticmethod") and self._is_called(node):
                self.fact(facts.FunctionMisused, node, Confidence.HIGH, form="instance", function=info.name, name=info.name)

    def _by_hand(self, node: ast.Call, info: ClassInfo) -> bool:
        """Whether ``Scale.forward(…)`` is called for its result, where autograd should see ``Scale``."""
        forward = self.program.find_method(self.run, info, "forward")
        if forward is None or self.program.find_method(self.run, info, "backward") is None or is_test(self.file):
            return False
        if any(isinstance(argument, ast.Starred) for argument in node.args) or node.keywords:
            return False
        spec = forward.node.args
        if not forward.decorated_with("staticmethod") or spec.vararg is not None:
            return False
        separate = self.program.find_method(self.run, info, "setup_context") is not None
        least = len(spec.posonlyargs) + len(spec.args) - len(spec.defaults)
        nothing = bool(node.args) and isinstance(node.args[0], ast.Constant) and node.args[0].value is None
        if not (separate or nothing or len(node.args) == least - 1):
            return False
        for outer in self.around(node):
            if isinstance(outer, ast.ClassDef) and self.is_function(self.program.class_info(outer, self.file)):
                return False
            if isinstance(outer, ast.If | ast.IfExp) and ASKS.search(ast.unparse(outer.test)):
                return False
            if isinstance(outer, ast.With | ast.AsyncWith) and any(self._off(item.context_expr) for item in outer.items):
                return False
            if isinstance(outer, Function) and any(self._off(decorator) for decorator in outer.decorator_list):
                return False
        return True

    def _off(self, node: ast.expr) -> bool:
        """Whether an expression switches gradient off."""
        row = self.row(node.func if isinstance(node, ast.Call) else node)
        return row is not None and row.effect == "scope"

    def _is_called(self, node: ast.Call) -> bool:
        """Whether what a call makes is called itself: at once, or under the name that it is given."""
        around = self.around(node)
        up = next(around, None)
        if isinstance(up, ast.Call) and up.func is node:
            return True
        if not isinstance(up, ast.Assign) or len(up.targets) != 1 or up.value is not node:
            return False
        target = ast.unparse(up.targets[0])
        whole: ast.AST = self.tree
        for outer in around:
            if isinstance(outer, ast.ClassDef if "." in target else Function):
                whole = outer
                break
        return any(isinstance(n, ast.Call) and ast.unparse(n.func) == target for n in ast.walk(whole))


def _nothing(node: ast.expr) -> bool:
    """Whether all that is returned is ``None``: the function says that it has no gradient, and nobody will ask for it."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return all(isinstance(part, ast.Constant) and part.value is None for part in parts)


def _length(reader: Reader, node: ast.expr, inside: Function) -> int | None:
    """How many gradients an expression is; None where that is open."""
    if isinstance(node, ast.Tuple):
        return None if any(isinstance(part, ast.Starred) for part in node.elts) else len(node.elts)
    if isinstance(node, ast.Constant) and node.value is None:
        return 1
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Add):
            left, right = _length(reader, node.left, inside), _length(reader, node.right, inside)
            if isinstance(node.left, ast.Tuple) or isinstance(node.right, ast.Tuple):
                return left + right if left is not None and right is not None else None
            return 1 if left == right == 1 else None
        if isinstance(node.op, ast.Mult):  # also of a tuple, by a number
            if any(isinstance(side, ast.Tuple) for side in (node.left, node.right)):
                return None
            return 1 if 1 in (_length(reader, node.left, inside), _length(reader, node.right, inside)) else None
        return 1
    if isinstance(node, ast.UnaryOp):
        return 1
    if isinstance(node, ast.Name):
        return _of_name(reader, node.id, inside)
    if isinstance(node, ast.Call):
        return _of_call(reader, node, inside)
    return None


def _of_name(reader: Reader, name: str, inside: Function) -> int | None:
    """How many gradients a variable holds: one where it surely is a tensor."""
    arguments = [a.arg for a in (*inside.args.posonlyargs, *inside.args.args)]
    values: list[int | None] = [1] if name in arguments[1:] else []
    for node in own(inside):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == name:
                    values.append(None if _mentions(node.value, name) else _length(reader, node.value, inside))
                elif isinstance(target, ast.Tuple | ast.List) and name in bound(target):
                    values.append(1 if not any(isinstance(part, ast.Starred) for part in target.elts) else None)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign | ast.NamedExpr) and name in bound(node.target):
            values.append(1 if isinstance(node, ast.AugAssign) and not isinstance(node.op, ast.Add | ast.Mult) else None)
        elif isinstance(node, ast.For | ast.AsyncFor) and name in bound(node.target):
            values.append(None)
        elif isinstance(node, ast.With | ast.AsyncWith):
            values.extend(None for item in node.items if item.optional_vars is not None and name in bound(item.optional_vars))
    known = set(values)
    return known.pop() if len(known) == 1 else None


def _mentions(node: ast.expr, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node))


def _of_call(reader: Reader, node: ast.Call, inside: Function) -> int | None:
    """How many gradients a call gives: one where a tensor comes out."""
    row = reader.row(node.func)
    if row is None and isinstance(node.func, ast.Attribute):
        if _length(reader, node.func.value, inside) != 1:
            return None
        row = reader.program.knowledge.member("torch.Tensor", node.func.attr)
        if row is None:
            return 1 if node.func.attr in PLAIN else None
    if row is None or row.get("results"):
        return None
    return 1 if row.effect in ("flow", "nondifferentiable", "cut", "inplace", "leaf", "constant", "copy", "move") else None


# Methods of tensors that have no row of their own, since gradient just flows through them.
PLAIN = frozenset(
    "clone neg mul add sub div pow abs exp log sqrt sin cos tanh matmul mm bmm t transpose permute view reshape contiguous sum"
    " mean clamp masked_fill expand expand_as expand_dims squeeze unsqueeze flatten type_as gather scatter index_select float"
    " double half flip roll norm new_zeros zeros_like".split()
)


def _has(text: str, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.search(text))
