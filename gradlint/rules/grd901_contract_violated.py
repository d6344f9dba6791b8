"""GRD901. Page: rules/GRD901-contract-violated.md"""

from __future__ import annotations

from gradlint.core import Claim, Fix, Group, RuleSpec, Severity
from gradlint.flow.facts import ContractBroken
from gradlint.syntax.rule import Rule
from gradlint.syntax.wording import code


class ContractViolated(Rule[ContractBroken]):
    """GRD901: the code breaks a contract of the settings."""

    spec = RuleSpec("GRD901", "contract-violated", group=Group.CONTRACT, severity=Severity.ERROR, probe="flow")
    facts = (ContractBroken,)

    def tell(self, fact: ContractBroken, fix: Fix | None = None) -> None:
        part, loss = f"{code(fact.part)} of {code(fact.module)}", self.place(fact.loss)
        match fact.how:
            case "cut":
                message = f"By the contract in the settings {part} trains, but this line cuts it off from the loss at {loss}."
            case "frozen":
                message = f"By the contract in the settings {part} trains, but it is frozen when this loss is back-propagated."
            case "no optimizer":
                message = (
                    f"By the contract in the settings {part} trains, but no optimizer holds what this loss gives gradient."
                )
            case _:
                message = f"By the contract in the settings {part} is frozen, but this loss gives it gradient."
        self.report(
            fact.span,
            message,
            fact=fact,
            help="Change the code, or the contract in the settings.",
            claim=Claim("flow", "contract", (fact.module, f"{fact.word} {fact.part}"), fact.span),
            fix=fix,
        )
