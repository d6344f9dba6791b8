"""The words that drivers, probes and workers share. Imports no torch: the parent process reads it too.

How a finding gets its driver, first match wins:

1. ``config``: ``[tool.gradlint.drivers]`` names a factory for the file or the class that the finding is in;
2. ``script``: the finding lies in a file that a program of the project imports or is (``if __name__ == "__main__"``, or a
   training loop at the top level): that program is run under the tracer for some optimizer steps;
3. ``auto``: the finding lies in an ``nn.Module`` class: it is built and fed by ``gradlint.verify.drive``.

Drivers run in a worker process only, with the tracer already installed, so that everything they build is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gradlint.core import Claim
from gradlint.core.verdict import Evidence, Outcome, Verdict

__all__ = ["Driven", "Driver", "DriverError", "Evidence", "Outcome", "Target", "Verdict"]


class DriverError(Exception):
    """The code could not be driven; the message is a sentence that says why. Becomes an inconclusive verdict."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a driver is asked to run.

    ``kind``: ``config``, ``script`` or ``auto``.  ``file``: absolute path of the file that holds it.  ``qualname``: the class
    within the file (``Net``, ``Outer.Net``), empty for a script.  ``module``: the dotted name to import the file by, and
    ``root`` the folder that has to be on ``sys.path`` for it; for a script ``module`` is ``__main__``.  ``factory``:
    ``package.module:function`` for ``config``.  ``arguments``: the script's command line.  ``device``: ``cpu`` or ``cuda``.
    ``claims``: what will be asked of the run; a driver may look at the subjects and sites to decide what to exercise.
    ``seed``: set before anything is built.
    """

    kind: str
    file: str
    root: str
    module: str = ""
    qualname: str = ""
    factory: str = ""
    arguments: tuple[str, ...] = ()
    device: str = "cpu"
    claims: tuple[Claim, ...] = ()
    seed: int = 0


@dataclass(slots=True)
class Driven:
    """Something that can take training steps.

    ``step``: runs forward and loss once and returns the loss (a scalar tensor, or a sequence of them that are to be
    back-propagated one by one).  It leaves backward, optimizer step and zeroing to the caller.
    ``objects``: what names in claims may mean, by name (``model``, ``self``, the class's name): modules, tensors, optimizers.
    ``optimizers``: stepped after each backward; none means that one is built over everything that requires grad.
    ``description``: one phrase for the user that says what runs, with constructor arguments and input shapes
    (``Net(in_dim=8), forward(x=float32[4, 8])``).
    ``degenerate``: why a verdict must not rest on this run (``every output is zero``), empty when it may.
    ``notes``: further remarks worth a line of evidence.
    """

    step: Callable[[], Any]
    objects: Mapping[str, Any]
    description: str
    optimizers: Sequence[Any] = ()
    degenerate: str = ""
    notes: tuple[str, ...] = field(default=())


class Driver(Protocol):
    """Makes a target runnable. Called in a worker process, with torch's function mode of the tracer active."""

    def __call__(self, target: Target) -> Driven:
        """Build and feed what ``target`` names.

        Raises:
            DriverError: it cannot be done; any other exception counts as trouble of the user's code and is told as such.
        """
        ...
