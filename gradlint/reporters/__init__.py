"""How a report is written: one module a format, each with ``render(report, style)``, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads FORMATS before it knows whether anything will be reported
    from gradlint.reporters.style import Style
    from gradlint.session.report import Report

__all__ = ["FORMATS", "HUMAN", "render"]

FORMATS = (
    "full",
    "concise",
    "grouped",
    "json",
    "json-lines",
    "sarif",
    "github",
    "gitlab",
    "junit",
    "lsp",
    "rdjson",
    "azure",
)
"""Every name that ``--output-format`` takes."""

HUMAN = ("full", "concise", "grouped")
"""Those that people read: they are coloured on a terminal and followed by a summary."""


def render(output_format: str, report: Report, style: Style) -> str:
    """``report`` in one of ``FORMATS``."""
    module = import_module(f"gradlint.reporters.{output_format.replace('-', '_')}")
    text: str = module.render(report, style)
    return text
