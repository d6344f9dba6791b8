"""How a file calls the things of a library."""

from __future__ import annotations

import ast

from gradlint.survey.source import SourceFile


def reach(source: SourceFile, module: str) -> str:
    """The prefix under which a file reaches a module, ``nn.`` after ``from torch import nn``; empty if it does not."""
    parent, _, last = module.rpartition(".")
    for node in ast.walk(source.tree) if source.tree is not None else ():
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == module:
                    return f"{alias.asname or module}."
        elif isinstance(node, ast.ImportFrom) and node.module == parent and not node.level:
            for alias in node.names:
                if alias.name == last:
                    return f"{alias.asname or last}."
    for node in ast.walk(source.tree) if source.tree is not None else ():
        if isinstance(node, ast.Import):
            for alias in node.names:
                if parent and alias.name == parent:
                    return f"{alias.asname or parent}.{last}."
    return ""
