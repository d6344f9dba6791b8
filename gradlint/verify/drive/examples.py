"""Runs the example that a class's docstring gives of its own use."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from gradlint.verify.drive.failures import from_exception
from gradlint.verify.drive.limits import Clock, Limits, OutOfTime, TooBig
from gradlint.verify.drive.outputs import describe_output, float_outputs, gradients_of, projection
from gradlint.verify.drive.result import Run, Undriven
from gradlint.verify.drive.search import degenerate_of

__all__ = ["example_of", "run_example"]


def example_of(cls: type[nn.Module]) -> str:
    """The statements of a docstring's example that builds the class, empty where there is none.

    Taken from the class, its constructor and its forward; written as an interactive session, or as a block of code.
    """
    for owner in (cls, cls.__init__, cls.forward):
        text = inspect.getdoc(owner) if owner is not cls else cls.__doc__ and inspect.cleandoc(cls.__doc__)
        if not text or (owner is not cls and not _own(cls, owner)):
            continue
        for source in _sources(text):
            if re.search(rf"\b{re.escape(cls.__name__)}\(", source) and _parses(source):
                return source
    return ""


def _own(cls: type[nn.Module], function: Any) -> bool:
    return any(value is function for value in vars(cls).values())


def _sources(text: str) -> Iterator[str]:
    try:
        session = doctest.DocTestParser().get_examples(text)
    except ValueError:
        session = []
    if session:
        yield "".join(example.source for example in session)
    for block in re.findall(r"```(?:python|py)?\n(.*?)```", text, re.DOTALL):
        yield textwrap.dedent(block)
    for block in re.findall(r"(?:::|\.\. code-block:: python)\s*\n\n((?:[ \t]+[^\n]*\n|\n)+)", text + "\n"):
        yield textwrap.dedent(block)


def _parses(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


class _Watched:
    """The first call of an instance of the class that an example makes."""

    def __init__(self, cls: type[nn.Module]) -> None:
        self._cls = cls
        self.module: nn.Module | None = None
        self.given: tuple[tuple[Any, ...], dict[str, Any]] | None = None
        self.output: Any = None

    def hook(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        """To be called after every forward of an instance."""
        if self.given is None:
            self.module, self.given, self.output = module, (given, named), output


def run_example(cls: type[nn.Module], source: str, clock: Clock, *, device: str, seed: int, seconds: float) -> Run | Undriven:
    """Run an example's statements and follow the gradient through the first call of the class that they make.

    Statements after that call do not matter: they run as long as they do.
    """
    home = sys.modules.get(cls.__module__)
    space: dict[str, Any] = {**(vars(home) if home else {}), "torch": torch, "nn": nn, cls.__name__: cls, "__name__": "example"}
    watched = _Watched(cls)
    built: list[nn.Module] = []
    original = cls.__init__
    own = "__init__" in vars(cls)

    def building(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if type(self) is cls and not any(item is self for item in built):
            built.append(self)
            self.register_forward_hook(watched.hook, with_kwargs=True)

    cls.__init__ = building  # type: ignore[method-assign]
    trouble = ""
    done: list[str] = []
    try:
        with torch.device(device), torch.enable_grad(), Limits(clock, seconds):
            torch.manual_seed(seed)
            for statement in ast.parse(source).body:
                text = ast.unparse(statement)
                exec(compile(text, "<example>", "exec"), space)
                done.append(text)
                if watched.given is not None:
                    break
    except (OutOfTime, TooBig):
        trouble = "it takes too long or too much memory"
    except (Exception, SystemExit) as error:
        trouble = from_exception("forward", error).summary
    finally:
        if own:
            cls.__init__ = original  # type: ignore[method-assign]
        else:
            del cls.__init__
    module = watched.module
    if module is None or watched.given is None:
        return Undriven(f"the example of its docstring does not run it: {trouble or 'no instance is called'}", "forward")
    positional, named = watched.given
    module.to(device)
    module.train()

    def loss_of() -> tuple[Any, torch.Tensor | None]:
        torch.manual_seed(seed)
        output = module(*[_fresh(item) for item in positional], **{name: _fresh(item) for name, item in named.items()})
        return output, projection(float_outputs(output), seed)

    try:
        with torch.enable_grad(), Limits(clock, seconds):
            module.zero_grad(set_to_none=True)
            output, loss = loss_of()
            if loss is None:
                return Undriven("the example of its docstring gives no output that carries gradient", "backward")
            loss.backward()
    except (OutOfTime, TooBig, Exception) as error:
        return Undriven(
            f"the example of its docstring does not run in training mode: {type(error).__name__}: {error}", "backward"
        )
    gradients = gradients_of(module)
    degenerate = degenerate_of(float_outputs(output), loss, gradients, ())
    module.zero_grad(set_to_none=True)
    shown = "; ".join(" ".join(text.split()) for text in done[-3:])
    name = cls.__qualname__
    lines = [
        "import torch",
        "from torch import nn",
        f"from {cls.__module__} import {name.split('.')[0]}",
        "from gradlint.verify.drive.outputs import float_outputs, projection",
        "",
        "seen = []",
        f"forward = {name}.forward",
        "def record(self, *given, **named):",
        "    seen.append((self, given, named))",
        "    return forward(self, *given, **named)",
        f"{name}.forward = record",
        f"torch.manual_seed({seed})",
        *done,
        f"{name}.forward = forward",
        "module, given, named = seen[0]",
        f"module.to({device!r}).train()",
        f"torch.manual_seed({seed})",
        "output = module(*given, **named)",
        f"loss = projection(float_outputs(output), {seed})",
        "loss.backward()",
    ]

    def step() -> torch.Tensor:
        _, loss = loss_of()
        assert loss is not None, "the example gave a loss with gradient before and gives none now"
        return loss

    return Run(
        module=module,
        description=f"{cls.__name__}, the example of its docstring: {shown[:200]}",
        source="\n".join(lines) + "\n",
        origin="example",
        outputs=describe_output(output),
        loss=float(loss.detach()),
        gradients=gradients,
        _loss=step,
        degenerate=degenerate,
        objects={"model": module, "self": module, cls.__name__: module},
        seconds=clock.now(),
    )


def _fresh(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
