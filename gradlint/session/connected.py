"""Which files of a project have to do with some of its files, told from their import statements alone.

What a file does to gradient depends on what it imports and on who imports it. Files that no chain of imports joins to the
checked ones need not be parsed. Names are compared loosely, by the last part of a module's name, so that too many files may be
kept but none that matters is lost.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from pathlib import Path

_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(?P<module>[.\w \t]+?)[ \t]+import[ \t]*(?P<names>\([^)]*\)|(?:\\\r?\n|[^\n\\;])*)"
    rb"|import[ \t]+(?P<modules>(?:\\\r?\n|[^\n\\;])*))",
    re.MULTILINE,
)
_WORD = re.compile(rb"\w+")


def connected(contents: Mapping[Path, bytes], wanted: Iterable[Path]) -> set[Path]:
    """The files that a chain of imports, in either direction, joins to the wanted ones; those included.

    Args:
        contents: the bytes of every file of the project.
        wanted: the files to start from.
    """
    return reached({path: imported_words(path, data) for path, data in contents.items()}, wanted)


def reached(words: Mapping[Path, Set[bytes]], wanted: Iterable[Path]) -> set[Path]:
    """As ``connected``, of the words that ``imported_words`` found in every file of the project."""
    by_stem: dict[bytes, list[Path]] = defaultdict(list)
    for path in words:
        name = path.parent.name if path.stem == "__init__" else path.stem
        by_stem[name.encode("utf-8", "surrogateescape")].append(path)
    neighbours: dict[Path, set[Path]] = defaultdict(set)
    for path, found in words.items():
        for word in found:
            for other in by_stem.get(word, ()):
                neighbours[path].add(other)
                neighbours[other].add(path)
    near = set(wanted)
    waiting = list(near)
    while waiting:
        for other in neighbours[waiting.pop()]:
            if other not in near:
                near.add(other)
                waiting.append(other)
    return near


def imported_words(path: Path, data: bytes) -> set[bytes]:
    """The parts of the names in a file's import statements."""
    if path.suffix == ".ipynb":  # lines of code, each in quotes or all in one string
        data = data.replace(b"\\n", b"\n").replace(b'"', b"\n")
    words: set[bytes] = set()
    for match in _IMPORT.finditer(data):
        for part in match.groups(b""):
            words.update(_WORD.findall(part))
    return words
