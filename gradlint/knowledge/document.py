"""Reading a TOML file of our own quickly: what it says is kept in the form that Python keeps its compiled modules in.

Parsing the rows takes longer than all else that a small file needs. As with compiled modules, what is kept is believed as
long as the file has the same time and size, and is not written where Python is told to write none.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any


def document(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        OSError, UnicodeDecodeError, TOMLDecodeError: it cannot be read.
    """
    status = path.stat()
    stamp = (status.st_mtime_ns, status.st_size)
    place = Path(cache_from_source(str(path))).with_suffix(".toml") if sys.implementation.cache_tag else None
    if place is not None:
        try:
            kept_stamp, kept = marshal.loads(place.read_bytes())
            if kept_stamp == stamp:
                return dict(kept)
        except (OSError, EOFError, ValueError, TypeError):
            pass
    import tomllib

    found = tomllib.loads(path.read_text(encoding="utf-8"))
    if place is not None and not sys.dont_write_bytecode:
        _keep(place, marshal.dumps((stamp, found)))
    return found


def _keep(place: Path, data: bytes) -> None:
    """Write a file in one step; where that cannot be done, nothing is kept."""
    partial = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        partial.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink()
