"""Notebooks: cells joined, magics blanked, places found again, and only ``source`` written back."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from gradlint.core import Edit, Span
from gradlint.session.fixes import apply_to_notebook
from gradlint.survey.notebooks import NotebookError, cell_code, join_cells, replace_cells
from gradlint.survey.source import from_text


def notebook(*cells: str | list[str] | dict[str, Any], indent: int | None = 1, **metadata: Any) -> str:
    rows = [
        cell
        if isinstance(cell, dict)
        else {"cell_type": "code", "execution_count": 1, "metadata": {}, "outputs": [], "source": cell, "id": f"c{number}"}
        for number, cell in enumerate(cells)
    ]
    return json.dumps({"cells": rows, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=indent) + "\n"


MARKDOWN = {"cell_type": "markdown", "metadata": {}, "source": "# text", "id": "m"}


def test_cells_are_joined_and_lines_lead_back() -> None:
    joined = join_cells(notebook("import torch\nx = 1", MARKDOWN, ["y = 2\n", "z = 3\n"]))
    assert joined.text == "import torch\nx = 1\ny = 2\nz = 3\n"
    assert [joined.cells.place(line) for line in (1, 2, 3, 4)] == [(1, 1), (1, 2), (3, 1), (3, 2)]


@pytest.mark.parametrize(
    ("cell", "read"),
    [
        ("%matplotlib inline\nx = 1", "pass\nx = 1"),
        ("!pip install torch \\\n  torchvision\nx = 1", "pass\npass\nx = 1"),
        ("if x:\n    !ls\ny = 2", "if x:\n    pass\ny = 2"),
        ("files = !ls\ny = 2", "files = None\ny = 2"),
        ("t = %timeit -o f()", "t = None"),
        ("torch.nn?\nx = 1", "pass\nx = 1"),
        ("?torch.nn\nx = 1", "pass\nx = 1"),
        ("pip install timm\nx = 1", "pass\nx = 1"),
        ("%%time\nx = 1", "\nx = 1"),
        ("%%bash\nls\nx = 1", "\n\n"),
        ("x = (a\n     % b)\n%magic", "x = (a\n     % b)\npass"),
        ("x = '''\n%no magic\n'''", "x = '''\n%no magic\n'''"),
    ],
)
def test_what_python_cannot_read_is_blanked(cell: str, read: str) -> None:
    assert join_cells(notebook(cell)).text == read + "\n"


def test_a_broken_cell_does_not_reach_into_the_next() -> None:
    source = from_text(notebook("x = (1,\n", "y = 2\nz = 3", "def f(:\n  pass", "w = 4"), Path("/n.ipynb"), "n.ipynb")
    assert source.tree is not None
    assert [(ast.unparse(node), node.lineno) for node in source.tree.body] == [("y = 2", 2), ("z = 3", 3), ("w = 4", 6)]
    assert len(source.problems) == 1


@pytest.mark.parametrize("text", ["", notebook(), notebook(""), notebook(MARKDOWN), notebook("", language_info={"name": "R"})])
def test_notebooks_with_nothing_in_them(text: str) -> None:
    source = from_text(text, Path("/n.ipynb"), "n.ipynb")
    assert source.problems == ()
    assert source.tree is not None
    assert source.tree.body == []


@pytest.mark.parametrize("text", ["{", "[]", '{"cells": 3}', "hello", "[" * 100_000, '{"worksheets": []}'])
def test_files_that_are_no_notebooks_say_so(text: str) -> None:
    with pytest.raises(NotebookError):
        join_cells(text)
    (problem,) = from_text(text, Path("/n.ipynb"), "n.ipynb").problems
    assert "notebook" in problem.message


def test_code_of_another_language_is_not_python() -> None:
    assert join_cells(notebook("library(torch)", kernelspec={"language": "R", "name": "ir"})).text == ""
    assert join_cells(notebook("x = 1", kernelspec={"language": "python", "name": "python3"})).text == "x = 1\n"


@pytest.mark.parametrize("indent", [None, 1, 2, 4])
@pytest.mark.parametrize("source", ["x = 1\ny = 'é'\n", ["x = 1\n", "y = 'é'"]])
def test_only_source_is_rewritten(indent: int | None, source: str | list[str]) -> None:
    before = notebook(MARKDOWN, source, "z = 3", indent=indent, kernelspec={"name": "python3"}, big=1e-5)
    code = cell_code(before)
    after = replace_cells(before, {2: code[2].replace("x = 1", "x = 2")})
    assert after == before.replace("x = 1", "x = 2")
    assert replace_cells(before, code) == before


def test_lines_can_be_dropped_and_added_in_a_list_source() -> None:
    before = notebook(["a\n", "b\n", "c"])
    after = replace_cells(before, {1: "a\nc\nd"})
    assert json.loads(after)["cells"][0]["source"] == ["a\n", "c\n", "d"]
    expected = json.loads(before)
    expected["cells"][0]["source"] = ["a\n", "c\n", "d"]
    assert after == json.dumps(expected, indent=1) + "\n"
    nbformat.validate(nbformat.reads(after, as_version=4))


def test_edits_in_joined_lines_land_in_their_cells() -> None:
    before = notebook("%magic\nx = 1", MARKDOWN, "y = f(x.detach())\nz = 1")
    source = from_text(before, Path("/n.ipynb"), "n.ipynb")
    after = apply_to_notebook(source, before, [Edit(Span("n.ipynb", 3, 7, 3, 17), "x")])
    assert after == before.replace("x.detach()", "x")
    assert json.loads(after)["cells"][0]["source"] == "%magic\nx = 1"


def test_edits_of_blanked_lines_and_across_cells_are_refused() -> None:
    before = notebook("!ls\nx = 1", "y = 2")
    source = from_text(before, Path("/n.ipynb"), "n.ipynb")
    assert apply_to_notebook(source, before, [Edit(Span("n.ipynb", 1, 1, 1, 5), "")]) is None
    assert apply_to_notebook(source, before, [Edit(Span("n.ipynb", 2, 1, 3, 2), "")]) is None
