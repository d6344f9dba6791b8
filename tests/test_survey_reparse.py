"""A file parsed again and again while it is edited has the trees that it would have if each text were its first."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest

from gradlint.survey import reparse
from gradlint.survey.reparse import Parser
from gradlint.survey.source import from_text, parse_text

ROOT = Path(__file__).resolve().parent.parent
FILES = [
    "gradlint/survey/salvage.py",
    "gradlint/core/finding.py",
    "fixtures/whole_slide/train.py",
    "tests/test_survey_reparse.py",
]

STRETCHES = [
    "x",
    " ",
    "(",
    ")",
    '"',
    '"""',
    "#",
    "\\",
    "@x",
    "else:",
    "  ",
    ":",
    ";",
    "x = 1; y = 2",
    "\t",
    "é🙂",
    "if x:",
    "\f",
    "",
]


def dumped(tree: ast.Module | None) -> str:
    return ast.dump(tree, include_attributes=True) if tree is not None else ""


def edited(text: str, chance: random.Random) -> str:
    """The text after a keystroke or so; now and then one that adds or removes a line."""
    lines = text.split("\n")
    number = chance.randrange(len(lines))
    line = lines[number]
    if chance.random() < 0.05:
        lines.insert(number, chance.choice(["", "y = 2", "class Y:"]))
    elif chance.random() < 0.1:
        lines[number] = chance.choice(["", line.strip(), "    " + line, "x = [", "pass", "@y"])
    else:
        at = chance.randrange(len(line) + 1)
        lines[number] = line[:at] + chance.choice(STRETCHES) + line[at + chance.choice([0, 0, 1, 4]) :]
    return "\n".join(lines)


@pytest.mark.parametrize("file", FILES)
def test_any_edits_give_the_trees_of_a_first_reading(file: str) -> None:
    original = (ROOT / file).read_text(encoding="utf-8")
    chance = random.Random(file)
    parser, place, text = Parser(), ROOT / file, original
    for step in range(150):
        text = edited(text, chance)
        if chance.random() < 0.2:
            text = original
        held, fresh = from_text(text, place, file, parser=parser), from_text(text, place, file)
        assert dumped(held.tree) == dumped(fresh.tree), step
        assert held.problems == fresh.problems, step


def test_only_the_statement_that_changed_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def noted(text: str) -> ast.Module:
        parsed.append(text.strip())
        return parse_text(text)

    monkeypatch.setattr(reparse, "parse_text", noted)
    parser = Parser()
    first = parser.parse("import a\n\n@a.b\ndef f():\n    return 1\nx = 2; y = 3\n")
    second = parser.parse("import a\n\n@a.b\ndef f():\n    return 12\nx = 2; y = 3\n")
    assert parsed[1:] == ["@a.b\ndef f():\n    return 12"]
    assert second.body[0] is first.body[0]
    assert second.body[1] is not first.body[1]
    assert second.body[2:] == first.body[2:]
    parser.parse("import a\n\n@a.b\ndef f():\n    return 12\nx = 2; y = 4\n")
    assert parsed[2:] == ["x = 2; y = 4"]
    with pytest.raises(SyntaxError):
        parser.parse("import a\n\n@a.b\ndef f(:\n    return 12\nx = 2; y = 4\n")
