"""Project classes and functions as the analysis handles them."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlint.flow.heap import ClassRef, LibRef
    from gradlint.survey.source import SourceFile

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


class FunctionInfo:
    """A function, method or lambda of the project."""

    __slots__ = ("_yields", "cls", "file", "name", "node")

    def __init__(self, node: FunctionNode, file: SourceFile, cls: ClassInfo | None = None) -> None:
        self.node = node
        self.file = file
        self.cls = cls
        self.name = "<lambda>" if isinstance(node, ast.Lambda) else node.name
        self._yields: bool | None = None

    @property
    def is_generator(self) -> bool:
        """Whether calling it makes a generator; found out when first asked for, since few functions of a file are executed."""
        if self._yields is None:
            self._yields = not isinstance(self.node, ast.Lambda) and _has_yield(self.node)
        return self._yields

    @property
    def qualname(self) -> str:
        """``Class.method`` or the bare name."""
        return f"{self.cls.name}.{self.name}" if self.cls else self.name

    @property
    def decorators(self) -> list[ast.expr]:
        return [] if isinstance(self.node, ast.Lambda) else self.node.decorator_list

    def decorated_with(self, *names: str) -> bool:
        """Whether a decorator's last name (``staticmethod``, ``x.setter``) is one of ``names``."""
        for decorator in self.decorators:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            last = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
            if last in names:
                return True
        return False

    def __repr__(self) -> str:
        return f"<function {self.qualname}>"


def _has_yield(node: ast.AST) -> bool:
    stack: list[ast.AST] = list(ast.iter_child_nodes(node))
    while stack:
        item = stack.pop()
        if isinstance(item, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            stack.extend(ast.iter_child_nodes(item))
    return False


class ClassInfo:
    """A class of the project: its own members, and its bases once they are resolved."""

    __slots__ = ("assigns", "bases", "file", "functions", "name", "node", "order")

    def __init__(self, node: ast.ClassDef, file: SourceFile) -> None:
        self.node = node
        self.file = file
        self.name = node.name
        self.functions: dict[str, FunctionInfo] = {}
        self.assigns: dict[str, ast.stmt] = {}
        self.bases: tuple[ClassRef | LibRef, ...] | None = None
        self.order: tuple[ClassRef | LibRef, ...] | None = None
        self._read(node.body)

    def _read(self, body: list[ast.stmt]) -> None:
        for item in body:
            if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef):
                info = FunctionInfo(item, self.file, self)
                if info.decorated_with("setter", "deleter"):
                    self.functions[f"{item.name}.setter"] = info
                else:
                    self.functions[item.name] = info
            elif isinstance(item, ast.Assign):
                for target in item.targets:
                    if isinstance(target, ast.Name):
                        self.assigns[target.id] = item
            elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
                self.assigns[item.target.id] = item
            elif isinstance(item, ast.If | ast.Try):
                self._read(item.body)

    @property
    def is_dataclass(self) -> bool:
        for decorator in self.node.decorator_list:
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            last = target.attr if isinstance(target, ast.Attribute) else target.id if isinstance(target, ast.Name) else ""
            if last in ("dataclass", "define", "frozen", "s", "attrs"):
                return True
        return False

    def __repr__(self) -> str:
        return f"<class {self.name}>"
