"""Parsing the texts that one file has one after another while it is edited: what did not change is not parsed again."""

from __future__ import annotations

import ast

from gradlint.survey.lexical import unix_newlines
from gradlint.survey.source import UNPARSED, parse_text


class Parser:
    """Parses one file again and again. Trees share the nodes of statements that stayed as they were, so nobody changes them."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._tree: ast.Module | None = None
        self._failures: dict[str, BaseException | None] = {}
        self._failed_before: dict[str, BaseException | None] = {}

    def parse(self, text: str) -> ast.Module:
        """As ``parse_text``."""
        lines = unix_newlines(text).split("\n")
        tree = self._patched(lines) or parse_text(text)
        self._lines, self._tree = lines, tree
        return tree

    def begin(self) -> None:
        """Start to ask for the failures of another text; what only the one before the last had is forgotten."""
        self._failed_before, self._failures = self._failures, {}

    def failure(self, text: str) -> BaseException | None:
        """Why a part of the file does not parse; None if it does."""
        if text in self._failures:
            return self._failures[text]
        if text in self._failed_before:
            error = self._failed_before[text]
        else:
            error = failure(text)
        self._failures[text] = error
        return error

    def _patched(self, lines: list[str]) -> ast.Module | None:
        """The last tree with the statements around the change parsed again; None where that is not sure to give the same.

        A statement at the top of a file begins with nothing open, so what stands before it, from it on, and between two of them
        can be parsed alone. Those behind the change keep their lines: with lines added or removed, all is parsed.
        """
        if self._tree is None or len(self._lines) != len(lines):
            return None
        changed = [number for number, (old, new) in enumerate(zip(self._lines, lines, strict=True), 1) if old != new]
        if not changed:
            return self._tree
        body = self._tree.body
        cuts = [0, *(at for at in range(1, len(body)) if (body[at - 1].end_lineno or 0) < _first_line(body[at])), len(body)]
        firsts = [1, *(_first_line(body[at]) for at in cuts[1:-1]), len(lines) + 1]
        # the part of the text from one cut to another that holds all changes
        low = max((at for at, first in enumerate(firsts) if first <= changed[0]), default=0)
        high = next((at for at, first in enumerate(firsts) if first > changed[-1]), len(firsts) - 1)
        middle = "\n" * (firsts[low] - 1) + "\n".join(lines[firsts[low] - 1 : firsts[high] - 1]) + "\n"
        try:
            parsed = parse_text(middle)
        except UNPARSED:
            return None
        return ast.Module([*body[: cuts[low]], *parsed.body, *body[cuts[high] :]], [])


def failure(text: str) -> BaseException | None:
    """Why a text does not parse; None if it does."""
    try:
        parse_text(text)
    except UNPARSED as error:
        return error
    return None


def _first_line(node: ast.stmt) -> int:
    """The line on which a statement begins, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])
