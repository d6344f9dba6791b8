"""What the client may set: the section ``gradlint`` of an editor's settings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPEN, ALL = "openFilesOnly", "workspace"


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """An editor's settings for one folder.

    ``enable``: whether anything is reported. ``configuration``: a settings file to use instead of the nearest one.
    ``select``, ``ignore``, ``min_confidence``: win over the settings file. ``mode``: ``openFilesOnly`` or ``workspace``.
    ``interpreter``: the Python that runs the user's code; empty for one found in the project. ``verify``: whether findings may
    be verified by running code. ``verify_timeout``: the seconds that a program gets.
    """

    enable: bool = True
    configuration: str = ""
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    min_confidence: str = ""
    mode: str = OPEN
    interpreter: tuple[str, ...] = ()
    verify: bool = False
    verify_timeout: float = 60.0

    @property
    def overrides(self) -> tuple[str, ...]:
        """What is set on top of the settings file, as ``KEY=VALUE`` texts."""
        found = []
        if self.select:
            found.append(f"select={json.dumps(self.select)}")
        if self.ignore:
            found.append(f"extend-ignore={json.dumps(self.ignore)}")
        if self.min_confidence:
            found.append(f"min-confidence={json.dumps(self.min_confidence)}")
        return tuple(found)

    def file(self, folder: Path | None) -> Path | None:
        """The settings file that the client names; a relative one is taken from the workspace folder."""
        if not self.configuration:
            return None
        path = Path(self.configuration).expanduser()
        return folder / path if folder is not None else path.absolute()


def read(section: Any) -> ClientSettings:
    """The settings in a section; what is missing or of the wrong kind is as it is by default."""
    if not isinstance(section, Mapping):
        return ClientSettings()
    verify = section.get("verify")
    verify = verify if isinstance(verify, Mapping) else {}
    interpreter = section.get("interpreter")
    seconds = verify.get("timeout")
    return ClientSettings(
        enable=section.get("enable") is not False,
        configuration=_string(section.get("configuration")),
        select=_strings(section.get("select")),
        ignore=_strings(section.get("ignore")),
        min_confidence=_string(section.get("minConfidence")),
        mode=ALL if section.get("diagnosticMode") == ALL else OPEN,
        interpreter=(interpreter,) if isinstance(interpreter, str) and interpreter else _strings(interpreter),
        verify=verify.get("enable") is True,
        verify_timeout=float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 60.0,
    )


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _strings(value: Any) -> tuple[str, ...]:
    return tuple(entry for entry in value if isinstance(entry, str) and entry) if isinstance(value, list) else ()
