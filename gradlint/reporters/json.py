"""``json``: one array with a row a finding."""

from __future__ import annotations

import json

from gradlint.reporters.rows import rows
from gradlint.reporters.style import Style
from gradlint.session.report import Report


def render(report: Report, style: Style) -> str:
    """All rows as one indented array, which is empty for a clean run."""
    return json.dumps(list(rows(report)), indent=2, ensure_ascii=not style.unicode) + "\n"
