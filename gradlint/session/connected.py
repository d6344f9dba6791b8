"""Which files of a project have to do with some of its files, told from their import statements alone.

What a file does to gradient depends on what it imports and on who imports it. Files that no chain of imports joins to the
checked ones need not be parsed. Names are compared loosely, by the last part of a module's name, so that too many files may be
kept but none that matters is lost.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
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
    by_stem: dict[bytes, list[Path]] = defaultdict(list)
    for path in contents:
        name = path.parent.name if path.stem == "__init__" else path.stem
        by_stem[name.encode("utf-8", "surrogateescape")].append(path)
    neighbours: dict[Path, set[Path]] = defaultdict(set)
    for path, data in contents.items():
        if path.suffix == ".ipynb":  # lines of code, each in quotes or all in one string
            data = data.replace(b"\\n", b"\n").replace(b'"', b"\n")
        for word in _imported_words(data):
            for other in by_stem.get(word, ()):
                neighbours[path].add(other)
                neighbours[other].add(path)
    reached = set(wanted)
    waiting = list(reached)
    while waiting:
        for other in neighbours[waiting.pop()]:
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def _imported_words(data: bytes) -> set[bytes]:
    words: set[bytes] = set()
    for match in _IMPORT.finditer(data):
        for part in match.groups(b""):
            words.update(_WORD.findall(part))
    return words
