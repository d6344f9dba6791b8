"""Jupyter notebooks as Python source: code cells joined, magics blanked, and the way back.

Lines stay lines: every line of a code cell is one line of the joined text, so that a place in the one is a place in the other.
What Python cannot read (``%magic``, ``!shell``, ``name?``) becomes ``pass`` at the same indentation.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gradlint.survey.lexical import layout, unix_newlines


class NotebookError(ValueError):
    """The text is not a notebook that can be read; the message says why."""


@dataclass(frozen=True, slots=True)
class CellMap:
    """Where the lines of a notebook's joined code come from.

    ``starts``: the first joined line (from 1) of each code cell. ``numbers``: the number of that cell in the notebook, counted
    from 1 over cells of every type, as editors count them.
    """

    starts: tuple[int, ...]
    numbers: tuple[int, ...]

    def place(self, line: int) -> tuple[int, int]:
        """The (cell number, line in that cell), both from 1, of a line of the joined code."""
        if not self.starts:
            return 1, line
        index = max(bisect_right(self.starts, line) - 1, 0)
        return self.numbers[index], line - self.starts[index] + 1


@dataclass(frozen=True, slots=True)
class Joined:
    """The code of a notebook as one text. ``blanked``: the joined lines (from 1) whose text differs from the cell's own."""

    text: str
    cells: CellMap
    blanked: Mapping[int, str]


def join_cells(notebook: str) -> Joined:
    """Join the code cells of a notebook's JSON.

    Raises:
        NotebookError: the text is not JSON or not a notebook of format 4.
    """
    starts: list[int] = []
    numbers: list[int] = []
    lines: list[str] = []
    blanked: dict[int, str] = {}
    for number, code in _code_cells(notebook):
        own = code.split("\n")
        if own[-1] == "" and len(own) > 1:
            own.pop()
        starts.append(len(lines) + 1)
        numbers.append(number)
        for offset, readable in _readable(own).items():
            blanked[len(lines) + offset + 1] = own[offset]
            own[offset] = readable
        lines.extend(own)
    text = "\n".join(lines) + "\n" if lines else ""
    return Joined(text, CellMap(tuple(starts), tuple(numbers)), blanked)


def _code_cells(notebook: str) -> Iterator[tuple[int, str]]:
    if not notebook.strip():
        return  # a file just created: no cells yet
    try:
        document = json.loads(notebook)
    except json.JSONDecodeError as error:
        raise NotebookError(f"it is not JSON ({error.msg}, line {error.lineno} column {error.colno} of the file)") from None
    except RecursionError:
        raise NotebookError("its JSON is nested too deeply") from None
    if not isinstance(document, dict) or not isinstance(cells := document.get("cells"), list):
        if isinstance(document, dict) and "worksheets" in document:
            raise NotebookError("it is of format 3; open and save it in a current Jupyter")
        raise NotebookError("it has no list of cells")
    if not _is_python(document.get("metadata")):
        return
    for number, cell in enumerate(cells, 1):
        if isinstance(cell, dict) and cell.get("cell_type") == "code":
            source = cell.get("source", "")
            if isinstance(source, list):
                source = "".join(part for part in source if isinstance(part, str))
            if isinstance(source, str):
                yield number, unix_newlines(source)


def _is_python(metadata: object) -> bool:
    """Whether a notebook's metadata names Python, or no language at all."""
    if not isinstance(metadata, dict):
        return True
    for key, name in (("language_info", "name"), ("kernelspec", "language")):
        entry = metadata.get(key)
        if isinstance(entry, dict) and isinstance(language := entry.get(name), str):
            return language.lower() in ("python", "python3", "ipython", "xpython")
    return True


# Cell magics whose cell is Python that runs in the notebook's own namespace: only their first line is blanked.
_PYTHON_CELL = re.compile(r"%%(?:time|timeit|capture|prun|python3?|pypy)\b")
_COMMAND = re.compile(r"[ \t]*(?:[%!]|\?{1,2}\w|(?:pip3?|conda|mamba|uv|cd|ls|rm|mkdir|wget|git|apt)[ \t]+[-\w./~])")
_ASSIGNED = re.compile(r"([ \t]*)([\w.,\[\]\"' \t]+?)[ \t]*=[ \t]*[!%]{1,2}\w")
_QUESTION = re.compile(r"[ \t]*[%\w.*]+\?{1,2}[ \t]*$")


def _readable(lines: list[str]) -> dict[int, str]:
    """The lines of a cell (from 0) that IPython reads and Python does not, each with what stands in for it."""
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        return {}
    if lines[first].startswith("%%"):
        if not _PYTHON_CELL.match(lines[first]):
            return dict.fromkeys(range(first, len(lines)), "")
        rest = _readable(lines[first + 1 :])
        return {first: ""} | {first + 1 + offset: text for offset, text in rest.items()}
    code = "\n".join(lines)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(code)
        return {}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    blank: dict[int, str] = {}
    for start in (start - 1 for start in layout(code).starts):
        line = lines[start]
        if start in blank:
            continue
        indent = line[: len(line) - len(line.lstrip(" \t"))]
        if assigned := _ASSIGNED.match(line):
            blank[start] = f"{assigned.group(1)}{assigned.group(2)} = None"
        elif _COMMAND.match(line) or _QUESTION.match(line):
            blank[start] = indent + "pass"
        else:
            continue
        while lines[start].endswith("\\") and start + 1 < len(lines):  # a command continued on the next line
            start += 1
            blank[start] = indent + "pass"
    return blank


# Writing back --------------------------------------------------------------------------------------------------------


def cell_code(notebook: str) -> dict[int, str]:
    """The code of each code cell as it stands in the notebook, magics included, by the cell's number; no newline at the end.

    Raises:
        NotebookError: as ``join_cells``.
    """
    return {number: code.removesuffix("\n") for number, code in _code_cells(notebook)}


def replace_cells(notebook: str, cells: Mapping[int, str]) -> str:
    """The notebook's JSON with the code of some cells (by number, from 1) replaced and all else left as it is."""
    pieces: list[str] = []
    done = 0
    ascii_only = notebook.isascii() and "\\u" in notebook
    for number, start, end in _source_places(notebook):
        if number not in cells:
            continue
        old = json.loads(notebook[start:end])
        before = "".join(old) if isinstance(old, list) else old
        after = cells[number]
        if before.endswith("\n") and not after.endswith("\n"):
            after += "\n"
        if unix_newlines(before) == after:
            continue
        pieces += [notebook[done:start], _render(after, notebook[start:end], isinstance(old, list), ascii_only)]
        done = end
    return "".join([*pieces, notebook[done:]])


def _render(code: str, old: str, as_list: bool, ascii_only: bool) -> str:
    if not as_list:
        return json.dumps(code, ensure_ascii=ascii_only)
    items = [json.dumps(line, ensure_ascii=ascii_only) for line in re.findall(r"[^\n]*\n|[^\n]+", code)]
    opening = re.match(r"\[\s*", old)
    closing = re.search(r"\s*\]$", old)
    lead = opening.group()[1:] if opening else ""
    return "[" + lead + ("," + (lead or " ")).join(items) + (closing.group() if closing else "]")


_SPACE = re.compile(r"[ \t\r\n]*")


def _source_places(notebook: str) -> Iterator[tuple[int, int, int]]:
    """The cell number and the start and end offsets of each cell's ``source`` value in a notebook's JSON."""
    for key, start, _ in _members(notebook, _SPACE.match(notebook).end()):  # type: ignore[union-attr]
        if key != "cells":
            continue
        for number, (cell, _) in enumerate(_items(notebook, start), 1):
            yield from ((number, begin, end) for name, begin, end in _members(notebook, cell) if name == "source")


def _value_end(text: str, start: int) -> int:
    return json.JSONDecoder().raw_decode(text, start)[1]


def _skip(text: str, position: int) -> int:
    found = _SPACE.match(text, position)
    return found.end() if found else position


def _members(text: str, start: int) -> Iterator[tuple[str, int, int]]:
    """Each key of the JSON object at ``start`` with the start and end of its value."""
    if text[start] != "{":
        return
    position = _skip(text, start + 1)
    while text[position] == '"':
        key, position = json.JSONDecoder().raw_decode(text, position)
        position = _skip(text, _skip(text, position) + 1)  # past the colon
        end = _value_end(text, position)
        yield key, position, end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)


def _items(text: str, start: int) -> Iterator[tuple[int, int]]:
    """The start and end of each element of the JSON array at ``start``."""
    position = _skip(text, start + 1)
    while text[position] != "]":
        end = _value_end(text, position)
        yield position, end
        position = _skip(text, end)
        if text[position] == ",":
            position = _skip(text, position + 1)
