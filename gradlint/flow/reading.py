"""What syntax says in words and names, kept on the node after the first time: the same node is met again and again."""

from __future__ import annotations

import ast
from typing import cast


def words(node: ast.AST) -> str:
    """A node in the words of the source, as ``ast.unparse`` puts them."""
    kept = getattr(node, "_gradlint_words", None)
    if kept is None:
        try:
            kept = ast.unparse(node)
        except (ValueError, RecursionError):
            kept = "…"
        node._gradlint_words = kept  # type: ignore[attr-defined]
    return cast("str", kept)


def names_in(node: ast.AST) -> tuple[str, ...]:
    """The names that a node reads, each once."""
    kept = getattr(node, "_gradlint_names", None)
    if kept is None:
        kept = tuple(dict.fromkeys(part.id for part in ast.walk(node) if isinstance(part, ast.Name)))
        node._gradlint_names = kept  # type: ignore[attr-defined]
    return cast("tuple[str, ...]", kept)
