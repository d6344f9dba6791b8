"""A pytest plugin: the fixture ``gradient_audit``. It imports torch only when a test calls what the fixture gives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradlint.verify.monitors.audit import Audit


class GradientAudit:
    """Audits models for one test, and shows each audit beside the test's output when the test fails."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def __call__(self, model: Any, optimizer: Any = None, batch_or_step: Any = None, **options: Any) -> Audit:
        """See `gradlint.verify.audit`."""
        from gradlint.verify.monitors.audit import audit

        result = audit(model, optimizer, batch_or_step, **options)
        self._show(result)
        return result

    def assert_flow(self, model: Any, batch_or_step: Any, **options: Any) -> Audit:
        """See `gradlint.verify.assert_gradients_flow`."""
        from gradlint.verify.monitors.contract import assert_gradients_flow

        result = assert_gradients_flow(model, batch_or_step, **options)
        self._show(result)
        return result

    def _show(self, result: Audit) -> None:
        self._node.add_report_section("call", "gradient audit", result.render(parameters=True))


@pytest.fixture
def gradient_audit(request: pytest.FixtureRequest) -> GradientAudit:
    """``gradient_audit(model, optimizer, batch)`` runs a training step and says what trains; ``.assert_flow(…)`` asserts it."""
    return GradientAudit(request.node)
