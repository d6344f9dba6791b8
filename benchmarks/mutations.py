"""Plant known bugs in correct training programs and count how many gradlint finds.

Each mutator stands for one rule: it rewrites one place of a correct program so that the bug of that rule is in it. The program
is checked before and after. A planted bug counts as found when a *new* finding of its rule stands at the planted lines, is
told to come from them, or, where lines were taken away, stands where the mutator says that the bug shows. What is reported of
the programs before anything is planted is listed as well.

    python benchmarks/mutations.py                       # the correct programs in fixtures/clean
    python benchmarks/mutations.py --output docs/mutations.md checkouts/*   # … and these folders, one program each
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from gradlint.core import Finding
from gradlint.session import Config, analyze

ROOT = Path(__file__).resolve().parent.parent
CLEAN = ROOT / "fixtures" / "clean"
STYLES = ("script", "functions", "class", "framework", "several optimizers")


# -- sources -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A simple statement that has its line or lines to itself.

    ``text``: its code. ``tree``: the same, parsed. ``block``: the statements of its block, and ``index`` its place in it.
    ``start``, ``end``: its lines, from 1. ``inside``: what it stands in, from the inside out.
    """

    text: str
    tree: ast.stmt
    block: tuple[cst.CSTNode, ...]
    index: int
    start: int
    end: int
    indent: str
    inside: tuple[cst.CSTNode, ...]

    @property
    def function(self) -> cst.FunctionDef | None:
        """The function it stands in."""
        return next((node for node in self.inside if isinstance(node, cst.FunctionDef)), None)

    @property
    def loop(self) -> cst.CSTNode | None:
        """The innermost loop it stands in, within its function."""
        for node in self.inside:
            if isinstance(node, cst.For | cst.While):
                return node
            if isinstance(node, cst.FunctionDef):
                return None
        return None

    @property
    def target(self) -> str:
        """The one name or attribute that it assigns; empty where it is no such statement."""
        if isinstance(self.tree, ast.Assign) and len(self.tree.targets) == 1:
            place = self.tree.targets[0]
            return ast.unparse(place) if isinstance(place, ast.Name | ast.Attribute) else ""
        return ""

    @property
    def value(self) -> ast.expr | None:
        """What it assigns, or the expression that it is."""
        return self.tree.value if isinstance(self.tree, ast.Assign | ast.Expr | ast.Return) else None

    @property
    def call(self) -> str:
        """What it calls, as ``optimizer.step``; empty where it is no call."""
        return ast.unparse(self.value.func) if isinstance(self.value, ast.Call) else ""


class Source:
    """One file of a program, with what mutators ask for."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.text = text
        self.rows = text.splitlines()
        wrapper = MetadataWrapper(cst.parse_module(text), unsafe_skip_copy=True)
        self.module = wrapper.module
        positions = wrapper.resolve(PositionProvider)
        self.parents = wrapper.resolve(ParentNodeProvider)
        self.spans = {node: (place.start, place.end) for node, place in positions.items()}
        self.lines = list(self._lines())

    def _lines(self) -> Iterator[Line]:
        for node in self._walk(self.module):
            body = node.body if isinstance(node, cst.Module | cst.IndentedBlock) else ()
            for index, statement in enumerate(body):
                if isinstance(statement, cst.SimpleStatementLine) and len(statement.body) == 1:
                    start, end = self.spans[statement]
                    text = "\n".join(self.rows[start.line - 1 : end.line])[start.column :]
                    text = re.sub(r"\s+#.*$", "", text) if "#" in text and "\n" not in text else text
                    try:
                        tree = ast.parse(text).body[0]
                    except (SyntaxError, IndexError):
                        continue
                    indent = self.rows[start.line - 1][: start.column]
                    yield Line(text, tree, tuple(body), index, start.line, end.line, indent, tuple(self._above(statement)))

    def _walk(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        yield node
        for child in node.children:
            yield from self._walk(child)

    def _above(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        here = self.parents.get(node)
        while here is not None:
            yield here
            here = self.parents.get(here)

    def calls(self, pattern: str) -> list[Line]:
        """The statements that call something whose name fits a pattern, and do nothing else."""
        return [line for line in self.lines if isinstance(line.tree, ast.Expr) and re.fullmatch(pattern, line.call)]

    def after(self, line: Line, within: cst.CSTNode | None = None) -> list[Line]:
        """The statements behind one, in its function or what is given."""
        scope = within or line.function
        return [other for other in self.lines if other.start > line.end and (scope is None or scope in other.inside)]

    # What training looks like -------------------------------------------------------------------------------------------------

    def backwards(self) -> list[tuple[Line, str]]:
        """Where a loss is back-propagated, and the name of the loss."""
        found = []
        for line in self.lines:
            match = re.fullmatch(
                r"(?:scaler\.scale\((\w+)\)|self\.scaler\.scale\((\w+)\)|(\w+))\.backward\(\)"
                r"|(?:\w+\.)*(?:manual_)?backward\((\w+)\)",
                line.text,
            )
            if match:
                found.append((line, next(group for group in match.groups() if group)))
            elif isinstance(line.tree, ast.Return) and isinstance(line.tree.value, ast.Name) and line.function is not None:
                if line.function.name.value == "training_step":
                    found.append((line, line.tree.value.id))
        return found

    def optimizers(self) -> list[tuple[Line, str, list[str]]]:
        """Where optimizers are made: the statement, the name, and the modules whose parameters they take."""
        found = []
        for line in self.lines:
            value = line.value
            if line.target and isinstance(value, ast.Call) and re.search(r"optim\.|Adam|SGD|RMSprop", ast.unparse(value.func)):
                if re.search(r"lr_scheduler|Scheduler", ast.unparse(value.func)):
                    continue
                modules = re.findall(r"([\w.]+)\.parameters\(\)", line.text)
                if modules:
                    found.append((line, line.target, modules))
        return found

    def stepped(self, backward: Line) -> str:
        """The optimizer that steps next after a backward; empty where none is seen to."""
        for line in self.after(backward):
            match = re.fullmatch(r"(?:self\.)?scaler\.step\((\w[\w.]*)\)|((?:self\.)?\w+)\.step\(\)", line.text)
            if match and not re.search(r"sched", match[0]):
                return match[1] or match[2]
        return ""

    def gives_tensor(self, module: str) -> bool:
        """Whether a model gives one tensor, as far as its class is in the file."""
        name = module.rpartition(".")[2]
        made = re.search(rf"\b{re.escape(name)} = (?:\w+\.)*(\w+)\(", self.text)
        for line in self.lines:
            inside = line.function
            if isinstance(line.tree, ast.Return) and inside is not None and inside.name.value == "forward" and made is not None:
                owner = next((node for node in line.inside if isinstance(node, cst.ClassDef)), None)
                if owner is not None and owner.name.value == made[1] and isinstance(line.value, ast.Tuple | ast.Dict):
                    return False
        return True

    def parts(self, module: str) -> list[tuple[str, str]]:
        """The layers of a module that a name stands for: how each is reached, and the code that makes it."""
        made = next((line for line in self.lines if line.target == module and isinstance(line.value, ast.Call)), None)
        if made is None:
            return []
        assert isinstance(made.value, ast.Call)
        name = ast.unparse(made.value.func)
        if name.endswith("Sequential"):
            return [
                (f"{module}[{number}]", ast.unparse(layer))
                for number, layer in enumerate(made.value.args)
                if isinstance(layer, ast.Call)
            ]
        found = []
        for line in self.lines:
            owner = next((node for node in line.inside if isinstance(node, cst.ClassDef)), None)
            inside = line.function
            if owner is not None and owner.name.value == name and inside is not None and inside.name.value == "__init__":
                pairs: list[tuple[ast.expr, ast.expr]] = []
                if isinstance(line.tree, ast.Assign) and len(line.tree.targets) == 1:
                    place, value = line.tree.targets[0], line.tree.value
                    if isinstance(place, ast.Tuple) and isinstance(value, ast.Tuple) and len(place.elts) == len(value.elts):
                        pairs = list(zip(place.elts, value.elts, strict=True))
                    else:
                        pairs = [(place, value)]
                for place, value in pairs:
                    if isinstance(place, ast.Attribute) and re.match(
                        r"nn\.(?:Linear|Conv|Sequential|GRU|LSTM)", ast.unparse(value)
                    ):
                        found.append((f"{module}.{place.attr}", ast.unparse(value)))
        return found


# -- changes -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """A program with one planted bug: in which file, its new text, the planted lines in it, and what else shows the bug.

    ``shows``: a pattern; a finding on a line that fits it counts too.
    """

    code: str
    path: Path
    text: str
    planted: frozenset[int]
    shows: str


class Change:
    """A change of a file, collected statement by statement."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.rows: dict[int, list[str]] = {number: [row] for number, row in enumerate(source.rows, 1)}
        self.touched: set[int] = set()

    def replace(self, line: Line, *new: str) -> Change:
        """Put other statements where one stands."""
        self.rows[line.start] = [line.indent + part for part in new]
        for number in range(line.start + 1, line.end + 1):
            self.rows[number] = []
        self.touched.add(line.start)
        return self

    def before(self, line: Line, *new: str) -> Change:
        """Put statements in front of one."""
        self.rows[line.start] = [line.indent + part for part in new] + self.rows[line.start]
        self.touched.add(line.start)
        return self

    def behind(self, line: Line, *new: str) -> Change:
        """Put statements behind one."""
        self.rows[line.end] = self.rows[line.end] + [line.indent + part for part in new]
        self.touched.add(line.end)
        return self

    def remove(self, line: Line) -> Change:
        """Take a statement out."""
        return self.replace(line, "pass") if len(line.block) == 1 else self.replace(line)

    def mutant(self, code: str, shows: str = "") -> Iterator[Mutant]:
        """The changed file, if it still is a program, with the lines that are new in it."""
        rows: list[str] = []
        planted: set[int] = set()
        for number in sorted(self.rows):
            part = self.rows[number]
            if number in self.touched:
                old = self.source.rows[number - 1]
                planted |= {len(rows) + index for index, row in enumerate(part, 1) if row != old}
            rows += part
        text = "\n".join(rows) + "\n"
        try:
            ast.parse(text)
        except SyntaxError:
            return
        yield Mutant(code, self.source.path, text, frozenset(planted), shows)


Mutator = Callable[[Source], Iterator[Mutant]]
MUTATORS: dict[str, list[Mutator]] = defaultdict(list)


def plants(code: str) -> Callable[[Mutator], Mutator]:
    """Say which rule's bug a mutator plants."""

    def register(mutator: Mutator) -> Mutator:
        MUTATORS[code].append(mutator)
        return mutator

    return register


def predictions(source: Source) -> Iterator[tuple[Line, str]]:
    """Calls ``model(…)`` on the only way of a model to a loss: the statement that one stands in, and its code.

    The optimizer that steps next holds the model. The call stands in the statement that computes the loss, or gives a name that
    is used in that statement and nowhere else but to show it.
    """
    held = {name.removeprefix("self."): modules for _, name, modules in source.optimizers()}
    for backward, loss in source.backwards():
        scope = [line for line in source.lines if line.function is backward.function and line.start < backward.start]
        made = [line for line in scope if line.target == loss]
        if len(made) != 1 or made[0].loop is not backward.loop:
            continue
        own = isinstance(backward.tree, ast.Return)
        modules = {part.rpartition(".")[2] for part in held.get(source.stepped(backward).removeprefix("self."), [])}

        def calls(line: Line, own: bool = own, modules: set[str] = modules) -> list[str]:
            found = [part for part in ast.walk(line.tree) if isinstance(part, ast.Call)]
            texts = [(ast.unparse(part.func), ast.get_source_segment(line.text, part) or "") for part in found]
            return [
                text
                for name, text in texts
                if (name == "self" or re.fullmatch(r"self\.[a-z]\w*", name) if own else name.rpartition(".")[2] in modules)
                and not re.match(r"self\.log", name)
                and source.gives_tensor(name)
            ]

        inside = calls(made[0])
        if len(inside) == 1:
            yield made[0], inside[0]
        for line in scope:
            name = line.target
            if line.loop is not backward.loop or line.start >= made[0].start or not name.isidentifier() or not calls(line):
                continue
            uses = [
                other for other in source.lines if other.function is line.function and other is not line and _reads(other, name)
            ]
            if [other for other in uses if not SHOWN.search(other.text)] == made and not inside and len(calls(line)) == 1:
                yield line, calls(line)[0]


SHOWN = re.compile(r"\.item\(|\.detach\(|argmax|print|metric|accura|log\(")


def _reads(line: Line, name: str) -> bool:
    return any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(line.tree))


def _cut(code: str, form: str, *, also: str = "") -> None:
    """Register a mutator that wraps what a model gives: ``form`` with ``{}`` for the call."""

    @plants(code)
    def cut(source: Source) -> Iterator[Mutant]:
        if also and not re.search(also, source.text, re.M):
            return
        for line, call in predictions(source):
            yield from Change(source).replace(line, *line.text.replace(call, form.format(call), 1).split("\n")).mutant(code)


_cut("GRD102", "{}.detach()")
_cut("GRD104", "{}.data")
_cut("GRD105", "torch.tensor({}.tolist())", also=r"^import torch$")
_cut("GRD105", "torch.from_numpy({}.detach().cpu().numpy())", also=r"^import torch$")
_cut("GRD106", "{}.round()")
_cut("GRD106", "({} > 0.5).float()")
_cut("GRD103", "{}.cpu()", also=r"cuda|accelerator")


@plants("GRD101")
def no_grad_around_forward(source: Source) -> Iterator[Mutant]:
    """The forward of a model under ``no_grad``."""
    if re.search(r"^import torch$", source.text, re.M):
        for line, call in predictions(source):
            region = ("with torch.no_grad():", f"    output = {call}".replace("\n", " "))
            change = Change(source).replace(line, *region, *line.text.replace(call, "output", 1).split("\n"))
            yield from change.mutant("GRD101")


@plants("GRD107")
def loss_revived(source: Source) -> Iterator[Mutant]:
    """A loss that is made anew from its value, with ``requires_grad=True``."""
    if re.search(r"^import torch$", source.text, re.M):
        for backward, loss in source.backwards():
            if isinstance(backward.tree, ast.Expr):
                yield from (
                    Change(source)
                    .before(backward, f"{loss} = torch.tensor({loss}.item(), requires_grad=True)")
                    .mutant("GRD107")
                )


@plants("GRD109")
def training_function_without_gradient(source: Source) -> Iterator[Mutant]:
    """A function that trains, decorated with ``no_grad``."""
    if not re.search(r"^import torch$", source.text, re.M):
        return
    for function in {backward.function for backward, _ in source.backwards() if isinstance(backward.tree, ast.Expr)}:
        if function is not None and not function.decorators:
            start, _ = source.spans[function]
            indent = source.rows[start.line - 1][: start.column]
            change = Change(source)
            change.rows[start.line] = [f"{indent}@torch.no_grad()", *change.rows[start.line]]
            change.touched.add(start.line)
            yield from change.mutant("GRD109")


@plants("GRD110")
def gradient_switched_off(source: Source) -> Iterator[Mutant]:
    """Gradient switched off by a statement before the forward."""
    if re.search(r"^import torch$", source.text, re.M):
        for line, _ in predictions(source):
            yield from Change(source).before(line, "torch.set_grad_enabled(False)").mutant("GRD110")


@plants("GRD111")
def region_never_entered(source: Source) -> Iterator[Mutant]:
    """``with torch.no_grad:`` without the call."""
    for number, row in enumerate(source.rows, 1):
        if re.fullmatch(r"\s*with torch\.no_grad\(\):", row):
            change = Change(source)
            change.rows[number] = [row.replace("()", "")]
            change.touched.add(number)
            yield from change.mutant("GRD111")


# Who trains -----------------------------------------------------------------------------------------------------------------


def _single(source: Source) -> Iterator[tuple[Line, str, str]]:
    """Optimizers over all parameters of one module: the statement, its name, the module's."""
    for line, name, modules in source.optimizers():
        if len(modules) == 1 and re.search(rf"\({re.escape(modules[0])}\.parameters\(\)", line.text):
            yield line, name, modules[0]


@plants("GRD201")
def frozen_after_optimizer(source: Source) -> Iterator[Mutant]:
    """A layer frozen after the optimizer has taken it."""
    for line, _, module in _single(source):
        for part, _ in source.parts(module)[:1]:
            yield from Change(source).behind(line, f"{part}.requires_grad_(False)").mutant("GRD201")


@plants("GRD202")
def unfrozen_after_optimizer(source: Source) -> Iterator[Mutant]:
    """A layer that was frozen while the optimizer was built over what requires gradient, and is unfrozen afterwards."""
    for line, _, module in _single(source):
        for part, _ in source.parts(module)[:1]:
            some = line.text.replace(f"{module}.parameters()", f"filter(lambda p: p.requires_grad, {module}.parameters())", 1)
            change = Change(source).replace(line, f"{part}.requires_grad_(False)", some, f"{part}.requires_grad_(True)")
            yield from change.mutant("GRD202")


@plants("GRD203")
def replaced_after_optimizer(source: Source) -> Iterator[Mutant]:
    """A layer made anew after the optimizer has taken the old one."""
    for line, _, module in _single(source):
        for part, made in source.parts(module):
            if re.fullmatch(r"nn\.(?:Linear|Conv\d?d?)\([\d, =\w]*\)", made) and not re.search(
                r"[a-z]\w*(?!=|\w|\.)\b[,)]", made[3:]
            ):
                yield from Change(source).behind(line, f"{part} = {made}").mutant("GRD203")
                break


@plants("GRD204")
def left_out_of_optimizer(source: Source) -> Iterator[Mutant]:
    """A module taken off the list that an optimizer is given."""
    for line, _, modules in source.optimizers():
        for module in modules[1:]:
            for listed in (f", *{module}.parameters()", f" + list({module}.parameters())"):
                if listed in line.text and source.text.count(f"{module}.parameters()") == 1:
                    yield from Change(source).replace(line, line.text.replace(listed, "")).mutant("GRD204", r"optim|Adam|SGD")


@plants("GRD205")
def parameters_counted_first(source: Source) -> Iterator[Mutant]:
    """The iterator over the parameters is used up by counting them before the optimizer gets it."""
    for line, _, module in _single(source):
        change = Change(source).replace(
            line,
            f"parameters = {module}.parameters()",
            "print(sum(p.numel() for p in parameters))",
            line.text.replace(f"{module}.parameters()", "parameters", 1),
        )
        yield from change.mutant("GRD205")


@plants("GRD206")
def flag_on_module(source: Source) -> Iterator[Mutant]:
    """``requires_grad`` assigned on a layer."""
    for line, _, module in _single(source):
        for part, _ in source.parts(module)[:1]:
            yield from Change(source).before(line, f"{part}.requires_grad = False").mutant("GRD206")


@plants("GRD207")
def misspelled_flag(source: Source) -> Iterator[Mutant]:
    """``require_grad`` for ``requires_grad``."""
    for line in source.lines:
        if re.search(r"\.requires_grad = (?:True|False)$", line.text):
            yield from Change(source).replace(line, line.text.replace("requires_grad", "require_grad")).mutant("GRD207")


@plants("GRD208")
def not_called(source: Source) -> Iterator[Mutant]:
    """A method without its parentheses."""
    for line in source.calls(r"[\w.]+\.(?:eval|step|zero_grad|train)"):
        if line.text.endswith("()") and not re.match(r"super\b|self\.(?:eval|train|step)\b|(?:env|profiler|prof)\.", line.text):
            yield from Change(source).replace(line, line.text[:-2]).mutant("GRD208")


@plants("GRD209")
def layers_in_a_list(source: Source) -> Iterator[Mutant]:
    """Layers in a plain list."""
    for line in source.lines:
        match = re.fullmatch(r"(self\.\w+) = nn\.ModuleList\((\[.*\]|[^()]*\(.*\) for .*)\)", line.text, re.S)
        if match:
            made = match[2] if match[2].startswith("[") else f"[{match[2]}]"
            yield from Change(source).replace(line, f"{match[1]} = {made}").mutant("GRD209")


@plants("GRD210")
def parameter_moved(source: Source) -> Iterator[Mutant]:
    """A parameter that is no parameter any more, since it was moved."""
    for line in source.lines:
        if re.fullmatch(r"self\.\w+ = nn\.Parameter\(.*\)", line.text, re.S) and "requires_grad" not in line.text:
            yield from Change(source).replace(line, f"{line.text}.cuda()").mutant("GRD210")


@plants("GRD211")
def made_in_forward(source: Source) -> Iterator[Mutant]:
    """A layer made where it is used."""
    for line in source.lines:
        inside = line.function
        if inside is None or inside.name.value != "forward":
            continue
        owner = next((node for node in line.inside if isinstance(node, cst.ClassDef)), None)
        for other in source.lines:
            made = re.fullmatch(r"self\.(\w+) = (nn\.(?:Linear|Conv\dd)\([\d, =]*\))", other.text)
            if made and owner in other.inside and f"self.{made[1]}(" in line.text:
                text = line.text.replace(f"self.{made[1]}(", f"{made[2]}(", 1)
                yield from Change(source).replace(line, text).mutant("GRD211")


@plants("GRD301")
def norm_frozen_in_train_mode(source: Source) -> Iterator[Mutant]:
    """A part with batch normalisation frozen, parameters only."""
    for line, _, module in _single(source):
        for part, made in source.parts(module):
            if "BatchNorm" in made:
                yield from Change(source).before(line, f"{part}.requires_grad_(False)").mutant("GRD301")


# Modes ----------------------------------------------------------------------------------------------------------------------


MODAL = re.compile(r"Dropout\w*\(|BatchNorm\w*\(|dropout=0\.[1-9]")


@plants("GRD305")
def train_forgotten(source: Source) -> Iterator[Mutant]:
    """``train()`` taken out of a loop that evaluates too, in a program with layers that act by mode."""
    if not MODAL.search(source.text):
        return
    trains = source.calls(r"[\w.]+\.train")
    for line in trains:
        name = line.call.removesuffix(".train")
        if (
            line.text == f"{name}.train()"
            and sum(other.text == line.text for other in trains) == 1
            and f"{name}.eval()" in source.text
        ):
            yield from Change(source).remove(line).mutant("GRD305", r"\.eval\(\)")


@plants("GRD306")
def eval_forgotten(source: Source) -> Iterator[Mutant]:
    """``eval()`` taken out of an evaluation."""
    evals = source.calls(r"[\w.]+\.eval")
    for line in evals:
        if MODAL.search(source.text) and sum(other.text == line.text for other in evals) == 1:
            yield from Change(source).remove(line).mutant("GRD306", r"\(")


@plants("GRD307")
def mode_not_told(source: Source) -> Iterator[Mutant]:
    """Functional dropout that is not told the mode."""
    for line in source.lines:
        if re.search(r"dropout\(.*, training=self\.training", line.text):
            yield from Change(source).replace(line, re.sub(r", training=self\.training", "", line.text)).mutant("GRD307")


# The training step ----------------------------------------------------------------------------------------------------------


def _steps(source: Source) -> Iterator[tuple[Line, Line, str]]:
    """A backward and the step that follows in the same block: the two statements and the optimizer."""
    for backward, _ in source.backwards():
        name = source.stepped(backward)
        for line in source.after(backward):
            if name and line.text == f"{name}.step()" and line.block is backward.block:
                yield backward, line, name
                break


def _held(source: Source, name: str, near: Line) -> str:
    """The first module that an optimizer holds, as it is called near a statement; empty where it is not known there."""
    for line, other, modules in source.optimizers():
        if other == name and (line.function is near.function or name.startswith("self.")):
            return modules[0]
        if other.removeprefix("self.") == name and near.function is not None:
            known = {parameter.name.value for parameter in near.function.params.params}
            if modules[0].partition(".")[0] in known:
                return modules[0]
    return ""


def _clearing(source: Source, name: str, near: Line) -> list[Line]:
    return [line for line in source.calls(rf"{re.escape(name)}\.zero_grad") if line.function is near.function]


@plants("GRD401")
def not_cleared(source: Source) -> Iterator[Mutant]:
    """``zero_grad`` taken out of the loop."""
    for _, step, name in _steps(source):
        clearing = _clearing(source, name, step)
        everywhere = len(re.findall(r"zero_grad\(|\.grad = None", source.text))
        if len(clearing) == 1 == everywhere and clearing[0].loop is not None and clearing[0].loop is step.loop:
            yield from Change(source).remove(clearing[0]).mutant("GRD401", r"\.step\(|\.backward\(")


@plants("GRD402")
def cleared_before_step(source: Source) -> Iterator[Mutant]:
    """``zero_grad`` between the backward and the step."""
    for backward, step, name in _steps(source):
        clearing = _clearing(source, name, step)
        if len(clearing) == 1 and clearing[0].block is step.block:
            yield from Change(source).remove(clearing[0]).behind(backward, clearing[0].text).mutant("GRD402")


@plants("GRD403")
def stepped_first(source: Source) -> Iterator[Mutant]:
    """The step before the backward."""
    for backward, step, name in _steps(source):
        clearing = _clearing(source, name, step)
        if len(clearing) == 1 and clearing[0].start < backward.start and step.loop is not None:
            yield from Change(source).remove(step).before(backward, step.text).mutant("GRD403")


@plants("GRD404")
def other_optimizer_stepped(source: Source) -> Iterator[Mutant]:
    """The step of another optimizer, which holds nothing that the loss is computed with."""
    held = {name: modules for _, name, modules in source.optimizers()}
    if len(held) != 2 or len(source.optimizers()) != 2:
        return
    for backward, step, name in _steps(source):
        other = next((o for o in held if o != name), "")
        between = [line.text for line in source.lines if line.loop is backward.loop and line.end <= backward.start]
        used = any(re.search(rf"\b{re.escape(module)}\(", text) for module in held.get(other, []) for text in between)
        if other and name in held and not used and source.text.count(f"{name}.step()") == 1:
            yield from Change(source).replace(step, f"{other}.step()").mutant("GRD404")


@plants("GRD405")
def clipped_after_step(source: Source) -> Iterator[Mutant]:
    """Clipping behind the step."""
    if not re.search(r"^import torch$", source.text, re.M) or "clip_grad" in source.text:
        return
    for _, step, name in _steps(source):
        module = _held(source, name, step)
        if module and len(_clearing(source, name, step)) == 1:
            clip = f"torch.nn.utils.clip_grad_norm_({module}.parameters(), 1.0)"
            yield from Change(source).behind(step, clip).mutant("GRD405")


@plants("GRD405")
def clipped_before_backward(source: Source) -> Iterator[Mutant]:
    """Clipping in front of the backward."""
    for line in source.lines:
        if re.search(r"clip_grad_(?:norm|value)_\(", line.text) and isinstance(line.tree, ast.Expr):
            for backward, _ in source.backwards():
                if backward.block is line.block and backward.start < line.start:
                    yield from Change(source).remove(line).before(backward, line.text).mutant("GRD405")


@plants("GRD406")
def schedule_first(source: Source) -> Iterator[Mutant]:
    """The scheduler's step in front of the optimizer's."""
    for line in source.calls(r"(?:self\.)?\w*sched\w*\.step"):
        for _, step, _ in _steps(source):
            if step.block is line.block and step.start < line.start and line.text.endswith("step()"):
                yield from Change(source).remove(line).before(step, line.text).mutant("GRD406")


@plants("GRD409")
def softmax_twice(source: Source) -> Iterator[Mutant]:
    """Probabilities for a loss that wants scores."""
    for line in source.lines:
        match = re.search(r"F\.cross_entropy\((\w+), ", line.text)
        if match and line.target:
            text = line.text.replace(match[0], f"F.cross_entropy({match[1]}.softmax(dim=-1), ", 1)
            yield from Change(source).replace(line, text).mutant("GRD409")


# Leaks, and the machinery ---------------------------------------------------------------------------------------------------


@plants("GRD501")
def total_with_graph(source: Source) -> Iterator[Mutant]:
    """A running total of losses with their graphs."""
    losses = {(loss, backward.function) for backward, loss in source.backwards()}
    for line in source.lines:
        match = re.fullmatch(r"([\w.]+) \+= (\w+)\.item\(\)", line.text)
        if match and (match[2], line.function) in losses:
            yield from Change(source).replace(line, f"{match[1]} += {match[2]}").mutant("GRD501")
        collected = re.fullmatch(r"([\w.]+)\.append\((\w+)\.item\(\)\)", line.text)
        if collected and (collected[2], line.function) in losses:
            yield from Change(source).replace(line, f"{collected[1]}.append({collected[2]})").mutant("GRD501")


@plants("GRD502")
def state_not_detached(source: Source) -> Iterator[Mutant]:
    """A carried state that keeps its graph."""
    for line in source.lines:
        if line.loop is not None and re.fullmatch(r"(\w+) = \1\.detach\(\)", line.text):
            yield from Change(source).remove(line).mutant("GRD502", rf"\b{line.target}\b.* = ")


@plants("GRD601")
def weights_clamped(source: Source) -> Iterator[Mutant]:
    """Weights changed in place after the step."""
    for _, step, name in _steps(source):
        module = _held(source, name, step)
        if module:
            loop = (f"for weight in {module}.parameters():", "    weight.clamp_(-1.0, 1.0)")
            yield from Change(source).behind(step, *loop).mutant("GRD601")


@plants("GRD602")
def result_changed(source: Source) -> Iterator[Mutant]:
    """The result of an activation changed in place."""
    for line, call in predictions(source):
        new = (f"output = {call}.sigmoid()".replace("\n", " "), "output *= 2")
        yield from Change(source).replace(line, *new, *line.text.replace(call, "output", 1).split("\n")).mutant("GRD602")


@plants("GRD603")
def gradient_left_out(source: Source) -> Iterator[Mutant]:
    """A ``backward`` that returns one gradient too few."""
    for line in source.lines:
        inside = line.function
        value = line.value
        if inside is None or inside.name.value != "backward" or not isinstance(value, ast.Tuple) or len(value.elts) < 2:
            continue
        forward = [n for n in line.inside if isinstance(n, cst.ClassDef)]
        taken = [
            len(node.params.params)
            for owner in forward[:1]
            for node in owner.body.body
            if isinstance(node, cst.FunctionDef) and node.name.value == "forward"
        ]
        if taken == [len(value.elts) + 1] and not any(isinstance(part, ast.Starred) for part in value.elts):
            kept = ", ".join(ast.unparse(part) for part in value.elts[:-1])
            yield from Change(source).replace(line, f"return {kept}").mutant("GRD603")


@plants("GRD604")
def function_by_hand(source: Source) -> Iterator[Mutant]:
    """``forward`` of a custom function called by hand."""
    functions = re.findall(r"^class (\w+)\((?:torch\.autograd\.|autograd\.)?Function\)", source.text, re.M)
    for line in source.lines:
        for name in functions:
            if f"{name}.apply(" in line.text and not any(
                isinstance(n, cst.ClassDef) and n.name.value == name for n in line.inside
            ):
                yield from (
                    Change(source)
                    .replace(line, line.text.replace(f"{name}.apply(", f"{name}.forward(None, ", 1))
                    .mutant("GRD604")
                )


@plants("GRD605")
def hooks_in_a_loop(source: Source) -> Iterator[Mutant]:
    """Hooks that share the variable of the loop."""
    for line, _, module in _single(source):
        loop = (
            "seen = {}",
            f"for label, layer in {module}.named_children():",
            "    layer.register_forward_hook(lambda m, i, o: seen.update({label: o}))",
        )
        yield from Change(source).before(line, *loop).mutant("GRD605")


@plants("GRD606")
def hook_that_detaches(source: Source) -> Iterator[Mutant]:
    """A hook that gives back a detached output."""
    for line, _, module in _single(source):
        for part, _ in source.parts(module)[:1]:
            yield from Change(source).behind(line, f"{part}.register_forward_hook(lambda m, i, o: o.detach())").mutant("GRD606")


@plants("GRD607")
def derivative_without_graph(source: Source) -> Iterator[Mutant]:
    """A derivative without its graph."""
    for line in source.lines:
        if "create_graph=True" in line.text and re.search(r"\bgrad\(", line.text):
            yield from (
                Change(source).replace(line, line.text.replace("create_graph=True", "retain_graph=True")).mutant("GRD607")
            )


# Mixed precision ------------------------------------------------------------------------------------------------------------


@plants("GRD701")
def stepped_past_the_scaler(source: Source) -> Iterator[Mutant]:
    """The optimizer stepped directly although the loss is scaled."""
    for line in source.lines:
        match = re.fullmatch(r"(?:self\.)?scaler\.step\(([\w.]+)\)", line.text)
        if match:
            yield from Change(source).replace(line, f"{match[1]}.step()").mutant("GRD701")


@plants("GRD702")
def clipped_while_scaled(source: Source) -> Iterator[Mutant]:
    """Gradients clipped with the scaler's factor in them."""
    for line in source.calls(r"(?:self\.)?scaler\.unscale_"):
        if "clip_grad" in source.text:
            yield from Change(source).remove(line).mutant("GRD702", r"clip_grad")


# -- running -----------------------------------------------------------------------------------------------------------------


@dataclass
class Count:
    """Planted and found, and the places of those that were not."""

    planted: int = 0
    found: int = 0
    missed: list[str] = field(default_factory=list)


@dataclass
class Outcome:
    """What a run over programs gave."""

    programs: int = 0
    given: int = 0
    rules: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    styles: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    before: list[str] = field(default_factory=list)


def style_of(text: str) -> str:
    """How a file trains."""
    if re.search(r"\bLightningModule\b|\baccelerat\w*\.backward|fabric\.backward|def compute_loss", text):
        return "framework"
    if len(re.findall(r"(?:optim\.\w+|\bAdamW?|\bSGD)\(", text)) > 1:
        return "several optimizers"
    tree = ast.parse(text)
    places = set()
    for top in tree.body:
        if "backward(" in (ast.get_source_segment(text, top) or ""):
            places.add(
                "class" if isinstance(top, ast.ClassDef) else "functions" if isinstance(top, ast.FunctionDef) else "script"
            )
    return "class" if "class" in places else "functions" if "functions" in places else "script"


def check(folder: Path, overlay: dict[Path, str] | None = None) -> list[Finding]:
    """What gradlint says about a program with its defaults."""
    config = Config()
    return list(analyze([folder], config, overlay, cwd=folder, use_cache=False).findings)


def relates(finding: Finding, mutant: Mutant, folder: Path) -> bool:
    """Whether a finding is about what was planted."""
    if finding.code != mutant.code:
        return False
    name = mutant.path.relative_to(folder).as_posix()
    places = [finding.span, *(step.span for step in finding.path)]
    if any(place.file == name and place.line <= line <= place.end_line for place in places for line in mutant.planted):
        return True
    if mutant.shows and finding.span.file == name:
        row = mutant.text.splitlines()[finding.span.line - 1]
        return bool(re.search(mutant.shows, row))
    return bool(mutant.shows) and not mutant.planted and finding.span.file != name


def mutants(source: Source, code: str, most: int) -> list[Mutant]:
    """At most ``most`` mutants of a rule, the same ones each time."""
    made: dict[str, Mutant] = {}
    for mutator in MUTATORS[code]:
        for mutant in mutator(source):
            made.setdefault(mutant.text, mutant)
    found = list(made.values())
    return found if len(found) <= most else random.Random(source.path.name + code).sample(found, most)


def run(folder: Path, outcome: Outcome, most: int, codes: Sequence[str]) -> None:
    """Plant what can be planted in one program."""
    original = check(folder)
    outcome.programs += 1
    outcome.before += [f"{folder.name}/{f.span.file}:{f.span.line} {f.code}" for f in original]
    for path in sorted(folder.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not re.search(r"backward\(|training_step|nn\.Module|Function\)", text):
            continue
        try:
            source = Source(path, text)
        except cst.ParserSyntaxError:
            continue
        style = style_of(
            "\n".join(p.read_text(encoding="utf-8") for p in folder.glob("*.py")) if folder.parent == CLEAN else text
        )
        known = Counter(
            (f.code, f.span.file, source.rows[f.span.line - 1] if f.span.file == path.name else f.span.line) for f in original
        )
        for code in codes:
            for mutant in mutants(source, code, most):
                rows = mutant.text.splitlines()
                new = []
                left = Counter(known)
                for finding in check(folder, {path: mutant.text}):
                    here = rows[finding.span.line - 1] if finding.span.file == path.name else finding.span.line
                    key = (finding.code, finding.span.file, here)
                    if left[key]:
                        left[key] -= 1
                    else:
                        new.append(finding)
                hit = any(relates(finding, mutant, folder) for finding in new)
                for count in (outcome.rules[code], outcome.styles[style]):
                    count.planted += 1
                    count.found += hit
                    if not hit:
                        line = min(mutant.planted, default=0)
                        said = ", ".join(sorted({f"{f.code}@{f.span.line}" for f in new})) or "nothing"
                        count.missed.append(f"{code} {folder.name}/{path.name}:{line}: {said}")


def report(outcome: Outcome, names: dict[str, str]) -> str:
    """The tables, as Markdown."""
    planted = sum(count.planted for count in outcome.rules.values())
    found = sum(count.found for count in outcome.rules.values())
    others = f", {outcome.given} of them training repositories by others" if outcome.given else ""
    rows = [
        "# Planted bugs",
        "",
        "Written by `python benchmarks/mutations.py --output docs/mutations.md`.",
        "",
        "Each row is a bug that was planted in correct training programs by rewriting one place of them, and how often",
        "gradlint, with its defaults, reported it there: a new finding of that rule, at the planted lines or told to come",
        "from them.",
        "",
        f"{outcome.programs} programs{others}; {planted} planted bugs, "
        f"{found} found: **{_share(found, planted)}**. Reported in the programs before anything was planted: "
        f"{len(outcome.before)}.",
        "",
        "| rule | planted | found | share |",
        "|---|---:|---:|---:|",
    ]
    for code in sorted(outcome.rules):
        count = outcome.rules[code]
        rows.append(
            f"| {code} {names.get(code, '')} | {count.planted} | {count.found} | {_share(count.found, count.planted)} |"
        )
    rows += ["", "By the style of the program:", "", "| style | planted | found | share |", "|---|---:|---:|---:|"]
    for style in STYLES:
        count = outcome.styles[style]
        if count.planted:
            rows.append(f"| {style} | {count.planted} | {count.found} | {_share(count.found, count.planted)} |")
    return "\n".join(rows) + "\n"


def _share(found: int, planted: int) -> str:
    return f"{100 * found / planted:.0f} %" if planted else "–"


def main() -> None:
    """Plant, check, count, write."""
    from gradlint.rules import specs

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="more programs, one folder each; they are only read")
    parser.add_argument("--output", "-o", type=Path, help="the Markdown file to write (default: stdout)")
    parser.add_argument("--most", type=int, default=1, help="mutants of a rule in one file (default: 1)")
    parser.add_argument("--select", default="", help="only these rules, by code, separated by commas")
    parser.add_argument("--only", default="", help="only programs whose name fits this pattern")
    parser.add_argument("--seconds", type=float, default=0, help="begin no further program after that long (default: no limit)")
    parser.add_argument("--misses", action="store_true", help="print what was not found")
    options = parser.parse_args()
    codes = [code for code in MUTATORS if not options.select or code in options.select.split(",")]
    own = [] if options.folders and options.only == "-" else sorted(path for path in CLEAN.iterdir() if path.is_dir())
    outcome = Outcome()
    begun = time.monotonic()
    for folder in [*options.folders, *own]:
        if options.seconds and time.monotonic() - begun > options.seconds:
            break
        if folder in own and (folder.name.startswith(("reports_", "seeds_")) or not re.search(options.only, folder.name)):
            continue
        run(folder.resolve(), outcome, options.most, codes)
        outcome.given += folder not in own
        print(f"{folder.name}: {sum(count.planted for count in outcome.rules.values())} planted so far", file=sys.stderr)
    text = report(outcome, {spec.code: spec.name for spec in specs()})
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    if options.misses:
        for count in outcome.rules.values():
            print("\n".join(count.missed), file=sys.stderr)
        print("\n".join(outcome.before), file=sys.stderr)


if __name__ == "__main__":
    main()
