"""Which files a run looks at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Note:
    """Something about the run itself that is worth a line on stderr.

    ``level``: ``error`` (the run did not do what was asked), ``warning``, or ``info`` (said only when asked for detail).
    ``path``: the file or folder it is about, as shown to users, or empty.
    """

    level: str
    message: str
    path: str = ""


class MissingPath(Exception):
    """A path given by the user does not exist."""
