"""What the server and the process that analyses say to each other, as pickles with their length before them.

Both ends are this package, started by it, so that nothing foreign is ever unpickled.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from gradlint.server.rows import Row

_LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True)
class Home:
    """A project by what tells it from others: its folder, the settings file that holds in it, what the client sets on top, and
    whether the files on disk belong to it (``whole``) or only the open ones."""

    root: Path
    settings: Path | None
    overrides: tuple[str, ...] = ()
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Check:
    """Analyse a project. ``texts``: what changed since the last request, None for a text that counts no more.

    ``wanted``: the files to report on; ``everything``: the others on disk too. ``refresh``: look at the disk again.
    ``reload``: read the settings again. ``encoding``: the units for columns.
    """

    number: int
    home: Home
    texts: Mapping[Path, str | None]
    wanted: tuple[Path, ...]
    encoding: str
    everything: bool = False
    refresh: bool = False
    reload: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Give up a request; nothing is answered to it any more than that it was given up."""

    number: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Drop what is kept of a project."""

    home: Home


@dataclass(frozen=True, slots=True)
class Checked:
    """The answer to a request.

    ``files``: what was found in each file that was asked for. ``notes``: what else to say, by level.
    ``misconfigured``: why the settings cannot be used. ``cancelled``: the request was given up. ``trouble``: why the analysis
    failed as a whole. With any of these, nothing is known of the files.
    """

    number: int
    files: Mapping[Path, list[Row]] = field(default_factory=dict)
    notes: tuple[tuple[str, str], ...] = ()
    misconfigured: str = ""
    trouble: str = ""
    cancelled: bool = False


Request = Check | Cancel | Forget


def pack(message: Any) -> bytes:
    """A message as it travels."""
    data = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(data)) + data


def size(head: bytes) -> int:
    """How many bytes follow the first ``HEAD`` of a message."""
    return int(_LENGTH.unpack(head)[0])


HEAD = _LENGTH.size


def receive(stream: BinaryIO) -> Any:
    """The next message of a stream; None at its end."""
    head = stream.read(HEAD)
    if len(head) < HEAD:
        return None
    data = stream.read(size(head))
    return pickle.loads(data)
