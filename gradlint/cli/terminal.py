"""The streams: what they can show, results on one and everything else on the other."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from gradlint.reporters.style import Style

NARROWEST, WIDEST, USUAL = 60, 140, 100
"""Columns of a report: at least, at most, and where the width is not known."""


def prepare() -> None:
    """Make both streams take any text: what their encoding lacks is written as an escape."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure:
            reconfigure(errors="backslashreplace")


def style(stream: TextIO, color: str, environment: Mapping[str, str] = os.environ) -> Style:
    """What ``stream`` can show. ``color``: ``auto``, ``always`` or ``never``; an explicit choice wins over the environment."""
    from gradlint.reporters.style import Style

    return Style(color=_colored(stream, color, environment), unicode=_unicode(stream), width=_width(stream, environment))


def is_terminal(stream: TextIO) -> bool:
    """Whether a person is likely to read ``stream`` as it is written."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _colored(stream: TextIO, color: str, environment: Mapping[str, str]) -> bool:
    if color != "auto":
        return color == "always"
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR", "0") not in ("", "0"):
        return True
    return is_terminal(stream) and environment.get("TERM") != "dumb"


def _unicode(stream: TextIO) -> bool:
    try:
        "│…日".encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _width(stream: TextIO, environment: Mapping[str, str]) -> int:
    columns = environment.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns):
        width = int(columns)
    else:
        try:
            width = os.get_terminal_size(stream.fileno()).columns or USUAL
        except (OSError, ValueError):
            width = USUAL
    return max(NARROWEST, min(width, WIDEST))


def write(text: str, stream: TextIO | None = None) -> None:
    """Write results.  A reader that has gone away, as in ``gradlint | head``, is no error: the rest goes nowhere."""
    stream = stream or sys.stdout
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        forsake(stream)


def forsake(stream: TextIO) -> None:
    """Point ``stream`` at nothing, so that the interpreter does not fail when it flushes at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def say(text: str) -> None:
    """A line beside the results, on stderr."""
    sys.stdout.flush()
    print(text, file=sys.stderr)


@contextmanager
def progress(what: str, delay: float = 1.0) -> Iterator[None]:
    """Show that something takes its time: on a terminal, after ``delay`` seconds, on stderr, wiped away at the end.

    A timer signal drives it, not a thread, so that worker processes can be forked while it runs.
    """
    if not (is_terminal(sys.stderr) and hasattr(signal, "setitimer")):
        yield
        return
    began, shown = time.monotonic(), False
    # Unbuffered: the signal may come while Python itself is writing to the stream.
    terminal = sys.stderr.fileno()

    def show(*_: object) -> None:
        nonlocal shown
        shown = True
        os.write(terminal, f"\r\x1b[K{what}, {time.monotonic() - began:.0f} s".encode())

    try:
        before = signal.signal(signal.SIGALRM, show)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, delay, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if shown:
            os.write(terminal, b"\r\x1b[K")
