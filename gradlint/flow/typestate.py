"""What the order of events says."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gradlint.flow.facts import Fact
    from gradlint.flow.run import Run


def judge(run: Run) -> list[Fact]:
    return []
