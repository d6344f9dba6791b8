"""``json-lines``: a row a finding, each on a line of its own."""

from __future__ import annotations

import json

from gradlint.reporters.rows import rows
from gradlint.reporters.style import Style
from gradlint.session.report import Report


def render(report: Report, style: Style) -> str:
    """Every row on one line; nothing at all for a clean run."""
    return "".join(json.dumps(row, ensure_ascii=not style.unicode) + "\n" for row in rows(report))
