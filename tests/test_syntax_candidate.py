"""Pieces of files: which lines are parsed, and that places in them are places in the file."""

from __future__ import annotations

import ast
import gc
from pathlib import Path

import libcst as cst
import pytest

from gradlint.core import Edit, Span
from gradlint.survey.source import SourceFile, from_text
from gradlint.syntax import candidate as module
from gradlint.syntax.candidate import Candidate, Text, candidates, paused_collector

SMILES = '''\
import torch; a = """
x"""; b = a.detach()


class Net:
\t"""A net with 🙂."""

\t@property
\t@torch.no_grad()
\tdef first(self):
\t\tx = "🙂🙂", self.a.detach()
\t\treturn x

\tasync def second(self):
\t\tif self:
\t\t\tpass
\t\telse:
\t\t\ttext = """🙂
  out of line
"""; y = text + "é" + self.b.detach()
\t\t\tasync def third():
\t\t\t\treturn await \\
  self.c.detach()

\twidth = 3 .detach()


if a: c = f(\f a.detach(
)); d = 4 ; e = "日" ; g = b.detach()
'''


def source(text: str, path: str = "m.py") -> SourceFile:
    return from_text(text, Path("/p") / path, path)


def detaches(file: SourceFile) -> list[Span]:
    assert file.tree is not None
    calls = [node for node in ast.walk(file.tree) if isinstance(node, ast.Call) and ast.unparse(node).endswith(".detach()")]
    return sorted(map(file.span, calls))


def found(file: SourceFile, wanted: list[list[Span]]) -> tuple[list[tuple[int, int]], dict[Span, str]]:
    """The pieces parsed, and the calls in them by place."""
    pieces, calls = [], {}
    for piece in candidates(Text(file), wanted):
        pieces.append((piece.first, piece.last))
        calls |= {piece.span(node): piece.code(node) for node in piece.positions if isinstance(node, cst.Call)}
    return pieces, calls


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_places_are_those_of_the_file(newline: str) -> None:
    file = source(SMILES.replace("\n", newline))
    text = Text(file)
    spans = detaches(file)
    assert len(spans) == 7
    pieces, calls = found(file, [[span] for span in spans])
    for span in spans:
        assert "".join(calls[span].split()).endswith(".detach()")
        assert text.slice(span) == calls[span]
    # The class holds the rest, as a place lies in its own body.
    assert pieces == [(1, 2), (5, 25), (28, 29)]


def test_the_smallest_function_is_parsed() -> None:
    file = source(SMILES)
    spans = detaches(file)
    each = [found(file, [[span]])[0] for span in spans]
    assert each == [[(1, 2)], [(8, 12)], [(14, 23)], [(21, 23)], [(5, 25)], [(28, 29)], [(28, 29)]]
    decorator = Span("m.py", 9, 3, 9, 18)
    pieces, calls = found(file, [[decorator]])
    assert pieces == [(8, 12)]
    assert calls[decorator] == "torch.no_grad()"


def test_each_line_is_parsed_once_and_context_is_in_the_same_piece() -> None:
    file = source("a = 1\nb = 2\nc = 3\nd = 4\n\n\ndef f():\n    def g():\n        x()\n    return y()\n")
    a, c, d, x, y = (Span("m.py", line, 1, line, 6) for line in (1, 3, 4, 9, 10))
    assert found(file, [[a], [d]])[0] == [(1, 1), (4, 4)]
    assert found(file, [[c, a], [d]])[0] == [(1, 3), (4, 4)]
    assert found(file, [[x], [y], [x]])[0] == [(7, 10)]
    assert found(file, [[x, a]])[0] == [(1, 10)]
    assert found(file, [[Span("m.py", 5, 1, 5, 1)]])[0] == []


def test_match_try_and_loops_are_entered() -> None:
    text = (
        "match a:\n    case 1:\n        def f():\n            x.y()\ntry:\n    pass\nexcept A:\n    def g():\n        x.y()\n"
    )
    text += "else:\n    def h():\n        x.y()\nfinally:\n    while a:\n        def i():\n            x.y()\n"
    file = source(text)
    assert file.tree is not None
    spans = [[file.span(node)] for node in ast.walk(file.tree) if isinstance(node, ast.Call)]
    assert sorted(found(file, spans)[0]) == [(3, 4), (8, 9), (11, 12), (15, 16)]


def test_at_sign_on_a_line_of_its_own() -> None:
    file = source("class A:\n    @\\\n    torch.no_grad()\n    def f(self): pass\n")
    pieces, calls = found(file, [[Span("m.py", 3, 5, 3, 20)]])
    assert pieces == [(2, 4)]
    assert calls[Span("m.py", 3, 5, 3, 20)] == "torch.no_grad()"


def test_syntax_that_libcst_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    parse = cst.parse_module

    def picky(text: str) -> cst.Module:
        if "new_syntax" in text:
            raise cst.ParserSyntaxError("no", lines=[text], raw_line=1, raw_column=0)
        return parse(text)

    monkeypatch.setattr(module.cst, "parse_module", picky)
    file = source("a = f()\nnew_syntax\nb = g()\n")
    f, g = detaches_of(file)
    # What a fix would have liked to see beside the place cannot be read: the place alone is.
    assert found(file, [[g, f]])[0] == [(3, 3)]
    assert found(source("def f():\n    new_syntax()\n"), [[Span("m.py", 2, 5, 2, 17)]])[0] == []


def detaches_of(file: SourceFile) -> list[Span]:
    assert file.tree is not None
    return sorted(file.span(node) for node in ast.walk(file.tree) if isinstance(node, ast.Call))


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "+".join(["a"] * 900) + "\n",
        "x = a" + ".b()" * 500 + "\n",
        "if a: x\n" + "elif a: x\n" * 500,
        "x = " + "[" * 150 + "a" + "]" * 150 + "\n",
        "x = (" + "'a'\n" * 3000 + ")\n",
    ],
    ids=["sum", "chain", "elif", "lists", "strings"],
)
def test_deep_nesting_ends_in_no_candidate_or_a_whole_one(text: str) -> None:
    file = source(text)
    pieces, _ = found(file, [[Span("m.py", 1, 1, 1, 2)]])
    assert pieces in ([], [(1, Text(file).count)])


def test_lines_columns_and_offsets() -> None:
    text = Text(source("a\x0cb\u2028c\r\n🙂é\n\nlast"))
    assert text.count == 4
    assert text.line(1) == "a\x0cb\u2028c"
    assert text.newline == "\r\n"
    assert text.slice(Span("m.py", 2, 2, 2, 3)) == "é"
    for offset in range(len(text.text) + 1):
        assert text.offset(*text.place(offset)) == offset
    assert text.offset(9, 9) == len(text.text)
    assert Text(source("")).count == 1
    assert Text(source("a\n")).count == 1
    assert Text(source("a = 1")).newline == "\n"


def test_cells_are_kept_apart() -> None:
    file = source('{"nbformat": 4, "metadata": {}, "cells": [{"cell_type": "code", "source": "a\\nb"}, '
                  '{"cell_type": "code", "source": "c"}]}', "n.ipynb")  # fmt: skip
    text = Text(file)
    assert text.same_cell(1, 2)
    assert not text.same_cell(2, 3)


def test_survival_of_edits() -> None:
    piece = Candidate(Text(source("def f():\n    a = 1\n    return a\n")), 2, 3)
    place = Span("m.py", 2, 9, 2, 10)
    assert piece.survives([Edit(place, "2")])
    assert piece.survives([Edit(Span("m.py", 3, 13, 3, 13), " + (1)"), Edit(place, "(2)")])
    assert not piece.survives([Edit(place, "(2")])
    assert not piece.survives([Edit(place, "2"), Edit(Span("m.py", 2, 9, 3, 5), "")])
    assert not piece.survives([Edit(Span("m.py", 2, 1, 4, 1), "")])


def test_the_collector_is_left_as_it_was() -> None:
    assert gc.isenabled()
    with paused_collector():
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with paused_collector():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_ancestors_end_at_the_module() -> None:
    piece = Candidate(Text(source("def f():\n    return a.b\n")), 1, 2)
    node = next(node for node in piece.positions if isinstance(node, cst.Attribute))
    kinds = [type(parent).__name__ for parent in piece.ancestors(node)]
    assert kinds == ["Return", "SimpleStatementLine", "IndentedBlock", "FunctionDef", "Module"]
