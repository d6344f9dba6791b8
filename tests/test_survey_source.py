"""Reading files: whatever the bytes are, a source file comes back, with the right lines and one clear problem."""

from __future__ import annotations

import ast
import sys
import textwrap
from pathlib import Path

import pytest

from gradlint.survey.source import SourceFile, from_bytes, from_text, read


def of(text: str | bytes, name: str = "x.py") -> SourceFile:
    location = Path("/project") / name
    return from_bytes(text, location, name) if isinstance(text, bytes) else from_text(text, location, name)


def names(source: SourceFile) -> list[tuple[str, int]]:
    """The top-level definitions and assignments with their lines."""
    assert source.tree is not None
    found = []
    for node in source.tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.append((node.name, node.lineno))
        elif isinstance(node, ast.Assign):
            found.append((ast.unparse(node.targets[0]), node.lineno))
    return found


def test_a_healthy_file_has_no_problem() -> None:
    source = of("import torch\n\nx = torch.zeros(1)\n")
    assert source.problems == ()
    assert names(source) == [("x", 3)]
    assert source.encoding == "utf-8"
    assert source.lines == ["import torch", "", "x = torch.zeros(1)", ""]


@pytest.mark.parametrize(
    ("data", "encoding", "value"),
    [
        (b"\xef\xbb\xbfx = '\xc3\xa9'\n", "utf-8-sig", "é"),
        (b"# -*- coding: latin-1 -*-\nx = '\xe9'\n", "latin-1", "é"),
        (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\nx = '\x80'\n", "cp1252", "€"),
        (b"x = 1\n# coding: latin-1\ny = '\xc3\xa9'\n", "utf-8", "é"),
    ],
)
def test_encodings(data: bytes, encoding: str, value: str) -> None:
    source = of(data)
    assert source.problems == ()
    assert source.encoding == encoding
    assert value in source.text
    assert source.text.encode(encoding) == data


def test_bytes_that_are_not_in_the_encoding_are_said_and_the_file_is_still_read() -> None:
    source = of(b"x = 1\ny = 'caf\xe9'\nz = 2\n")
    (problem,) = source.problems
    assert (problem.span.line, problem.span.column) == (2, 9)
    assert "0xe9 on line 2" in problem.message
    assert names(source) == [("x", 1), ("y", 2), ("z", 3)]
    assert source.encoding is None


def test_an_unknown_encoding_is_said() -> None:
    source = of(b"# coding: klingon\nx = 1\n")
    assert "klingon" in source.problems[0].message
    assert names(source) == [("x", 2)]


@pytest.mark.parametrize("data", [b"\x00\x01\x02", b"x = 1\n\x00", b"\x7fELF\x02\x01\x01\x00"])
def test_binary_files(data: bytes) -> None:
    source = of(data)
    assert source.tree is None
    (problem,) = source.problems
    assert "NUL" in problem.message


def test_utf16_says_what_to_do() -> None:
    (problem,) = of("x = 1\n".encode("utf-16")).problems
    assert "UTF-16" in problem.message
    assert "UTF-8" in problem.help


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    source = read(tmp_path / "gone.py", "gone.py")
    assert source.tree is None
    assert "cannot be read" in source.problems[0].message


def test_reading_without_parsing(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("x = (\n")
    source = read(path, "a.py", parse=False)
    assert (source.text, source.tree, source.problems) == ("x = (\n", None, ())


def test_columns_are_code_points() -> None:
    source = of("x = 'é😀' + foo\ny = '😀'; bar(\n  '😀', baz)\n")
    assert source.tree is not None
    spans = {node.id: source.span(node) for node in ast.walk(source.tree) if isinstance(node, ast.Name)}
    assert (spans["foo"].column, spans["foo"].end_column) == (12, 15)
    assert (spans["bar"].line, spans["bar"].column) == (2, 10)
    assert (spans["baz"].line, spans["baz"].column) == (3, 8)


def test_every_line_end_counts_once() -> None:
    source = of("a = 1\r\nb = 2\rc = 3\n\x0cd = 4\n")
    assert names(source) == [("a", 1), ("b", 2), ("c", 3), ("d", 4)]
    assert source.lines[3] == "\x0cd = 4"


def test_one_bad_statement_leaves_the_rest() -> None:
    source = of("a = 1\ndef f(:\n    pass\n\nb = 2\n\n\nclass C:\n    x = 1\n")
    assert names(source) == [("a", 1), ("b", 5), ("C", 8)]
    (problem,) = source.problems
    assert (problem.span.line, problem.span.column) == (2, 7)
    assert problem.help == "Lines 2-3 are left out; the rest of the file is checked."


def test_one_bad_method_leaves_its_class() -> None:
    text = textwrap.dedent("""\
        class Net(Module):
            def good(self):
                return 1

            @property
            def bad(self:
                return 2

            @property
            def fine(self):
                return 3


        after = 4
        """)
    source = of(text)
    assert names(source) == [("Net", 1), ("after", 14)]
    assert source.tree is not None
    members = [node for node in ast.walk(source.tree) if isinstance(node, ast.FunctionDef)]
    assert [(node.name, node.lineno) for node in members] == [("good", 2), ("fine", 10)]
    assert len(source.problems) == 1


def test_a_decorated_class_keeps_its_good_methods_too() -> None:
    source = of(
        "@register\n@other(1)\nclass Net(M):\n    @p\n    def a(self): return 1\n    def b(self:\n        pass\n\nx = 1\n"
    )
    assert source.tree is not None
    assert [node.name for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)] == ["Net", "a"]
    assert source.problems[0].help == "Lines 6-7 are left out; the rest of the file is checked."


def test_a_bracket_left_open_does_not_swallow_the_file() -> None:
    source = of("a = 1\nb = foo(1,\nc = 3\nimport os\ndef f():\n    return 1\nd = [\n")
    assert names(source) == [("a", 1), ("c", 3), ("f", 5)]


def test_a_string_left_open_does_not_swallow_the_file() -> None:
    source = of("a = 1\nb = '''oops\n\ndef f():\n    return 1\n")
    assert names(source) == [("a", 1), ("f", 4)]


def test_else_stays_with_its_if() -> None:
    source = of("if a:\n    x = 1\nelse:\n    x = 2\ny = = 3\ntry:\n    z = 1\nexcept E:\n    pass\nw = 1\n")
    assert source.tree is not None
    assert [type(node).__name__ for node in source.tree.body] == ["If", "Try", "Assign"]


def test_line_numbers_in_messages_are_those_of_the_file() -> None:
    source = of("a = 1\n\n\nif a:\nb = 2\n")
    assert "on line 4" in source.problems[0].message
    assert source.problems[0].span.line == 4


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("print 'hello'\n", "Python 2"),
        ("try:\n    pass\nexcept ValueError, e:\n    pass\n", "Python 2"),
        ("<<<<<<< HEAD\nx = 1\n=======\nx = 2\n>>>>>>> other\n", "unfinished merge"),
    ],
)
def test_likely_causes(text: str, hint: str) -> None:
    source = of("a = 1\n" + text)
    assert ("a", 1) in names(source)
    assert hint in source.problems[0].message


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="this Python reads it")
@pytest.mark.parametrize(
    "text", ["type Pair[T] = tuple[T, T]\n", "def first[T](xs: list[T]) -> T:\n    return xs[0]\n", "class Box[T]:\n    pass\n"]
)
def test_newer_syntax_names_the_python_that_reads_it(text: str) -> None:
    source = of("a = 1\n" + text + "b = 2\n")
    assert {name for name, _ in names(source)} == {"a", "b"}
    assert "Python 3.12 reads" in source.problems[0].message


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="this Python reads it")
@pytest.mark.parametrize("text", ["x = t'hello {name}'\n", "try:\n    pass\nexcept TypeError, ValueError:\n    pass\n"])
def test_syntax_of_3_14(text: str) -> None:
    assert "Python 3.14 reads" in of(text).problems[0].message


@pytest.mark.parametrize(
    "expression", ["-" * 100_000 + "1", "1 + " * 100_000 + "1", "(" * 1000 + ")" * 1000, "f(" * 5000, "a" + ".b" * 100_000]
)
def test_deep_nesting_is_a_problem_and_no_crash(expression: str) -> None:
    source = of(f"a = 1\nx = {expression}\nb = 2\n")
    assert ("a", 1) in names(source)
    if source.problems:  # what is too deep differs between Pythons
        assert ("b", 3) in names(source)
        assert len(source.problems) == 1


def test_lone_surrogates_in_a_buffer() -> None:
    source = of("x = '\ud800'\ny = 2\n")
    assert names(source) == [("x", 1), ("y", 2)]
    assert len(source.problems) == 1


def test_a_long_broken_file_keeps_nearly_all() -> None:
    block = "class C{0}:\n    def f(self, x):\n        y = x + {0}\n        return y\n\n"
    lines = "".join(block.format(number) for number in range(10_000))
    source = of(lines.replace("class C5000:", "class C5000(:"))
    assert len(source.lines) > 50_000
    assert len(names(source)) == 9_999
    assert names(source)[-1] == ("C9999", 9_999 * 5 + 1)
    assert source.problems[0].span.line == 25_001


@pytest.mark.parametrize(
    "text", ["", "\n", "# only a comment\n", "\ufeff", "   ", "\x0c", "pass", "\\", "'", '"""', ")", "@", "\\\n"]
)
def test_small_oddities_never_raise(text: str) -> None:
    source = of(text)
    assert isinstance(source.problems, tuple)
    of(text, "x.ipynb")
