"""The whole program: its classes and names, the entries from which it is executed, and the facts that come out."""

from __future__ import annotations

import ast
import bisect
import builtins
import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from gradlint.core import Span
from gradlint.flow import calls, contracts, expressions, frameworks, idle, leaks, local, modules, statements, structure
from gradlint.flow.classes import ClassInfo, FunctionInfo, FunctionNode
from gradlint.flow.facts import ContractBroken, Fact, ModuleMadeInForward, ReplacedAfterOptimizer
from gradlint.flow.frame import Frame
from gradlint.flow.heap import ClassRef, FileRef, FunctionRef, LibRef, Obj
from gradlint.flow.lattice import CONST, UNKNOWN, UNKNOWN_VALUE, Cut, Value, const, ref
from gradlint.flow.library import scope_mode
from gradlint.flow.membership import settle
from gradlint.flow.memory import Memory, Question
from gradlint.flow.run import Exhausted, Run
from gradlint.flow.verdicts import Judgement, judge, starvation
from gradlint.knowledge import Knowledge
from gradlint.survey.project import Binding, Project, is_main_guard
from gradlint.survey.source import Problem, SourceFile

_T = TypeVar("_T")

# How many steps one entry may take: a script, and a function that nobody calls.
SCRIPT_STEPS, FUNCTION_STEPS = 60_000, 15_000
# When a project has used up its share of steps, the functions left get a look only.
SHARE, SHARE_PER_LINE, LOOK = 400_000, 0.5, 2_000
# Saying what a run has shown takes steps as well; these are more than enough for any.
JUDGING_STEPS = 1_000_000
PYTHON = frozenset(dir(builtins))

# Lines that make a function worth an entry of its own: something is back-propagated, optimized or stepped there.
EVENT = re.compile(
    r"\.backward\b|autograd\.backward|manual_backward|def (?:training_step|compute_loss|train_step)\b|\boptim\b|\bOptimizer\b"
    r"|^[ \t]*[\w.\[\]]+\.(?:eval|train|step|zero_grad|backward)\s*(?:#.*)?$",
    re.M,
)
# Lines that may: freezing matters where something trains, or where the text itself is wrong.
FREEZING = re.compile(r"\.\w*requires?d?_?\w*grad\w*\s*=", re.M)
# Libraries in whose company a file trains something.
LIBRARIES = re.compile(
    r"(?:torch|lightning|pytorch_lightning|transformers|accelerate|fastai|timm|ignite|torchvision|diffusers|trl|peft|deepspeed)"
    r"\b"
)


class Analysis(NamedTuple):
    """What the flow analysis found: facts, and trouble it had with single entries."""

    facts: tuple[Fact, ...]
    problems: tuple[Problem, ...]


class _Followed(NamedTuple):
    """One entry, followed: what came out, which functions were executed, and how many of its steps it took."""

    judgement: Judgement
    problems: tuple[Problem, ...]
    executed: frozenset[ast.AST]
    steps: int
    spent: int


class Program:
    """Everything that is the same for all runs."""

    def __init__(
        self,
        files: Sequence[SourceFile],
        knowledge: Knowledge,
        roots: Sequence[str] = (),
        memory: Memory | None = None,
        promised: Sequence[contracts.Contract] = (),
    ) -> None:
        self.roots = frozenset(roots)
        self.contracts = tuple(promised)
        self.memory = memory
        self.touched: set[SourceFile] = set()  # the files looked into by what is going on
        self._reached: dict[tuple[str, int], frozenset[SourceFile]] = {}  # … by what is worked out once
        self._asked: dict[Question, bool] = {}  # what has been asked of all texts by what is going on
        self._answers: dict[Question, bool] = {}
        if memory is None:
            self.project = Project(files)
        else:
            self.project = memory.project = Project(files, memory.indexes, memory.project)
            memory.begin(
                self.project.files, (tuple(file.location for file in self.project.files), knowledge, self.roots, self.contracts)
            )
        self.knowledge = knowledge
        measures = [self._recalled(("measures", file), partial(_measures, file), file) for file in self.project.files]
        self.uses_accelerator = any(accelerated for accelerated, _ in measures)
        self._classes: dict[int, ClassInfo] = {}
        self._functions: dict[int, FunctionInfo] = {}
        self._cut_regions: dict[int, tuple[tuple[str, ast.expr], ...]] = {}
        self._spent = 0
        self._share = SHARE + SHARE_PER_LINE * sum(lines for _, lines in measures)

    # -- classes and functions -----------------------------------------------------------------------------------------

    def class_info(self, node: ast.ClassDef, file: SourceFile) -> ClassInfo:
        info = self._classes.get(id(node))
        if info is None:
            info = self._classes[id(node)] = ClassInfo(node, file)
            for function in info.functions.values():
                self._functions[id(function.node)] = function
        return info

    def function(self, node: FunctionNode, file: SourceFile) -> FunctionInfo:
        info = self._functions.get(id(node))
        if info is None:
            info = self._functions[id(node)] = FunctionInfo(node, file)
        return info

    def file_of_function(self, node: ast.AST) -> SourceFile | None:
        info = self._functions.get(id(node))
        return info.file if info is not None else None

    def bases(self, run: Run, cls: ClassInfo) -> tuple[ClassRef | LibRef, ...]:
        with self._once("bases", cls.node, known=cls.bases is not None):
            return self._bases(run, cls)

    @contextmanager
    def _once(self, what: str, node: ast.AST, *, known: bool) -> Iterator[None]:
        """Note the files that a thing worked out once has looked into, for everybody who uses it."""
        if self.memory is None:
            yield
            return
        outer, self.touched = self.touched, set()
        try:
            yield
        finally:
            if not known:
                self._reached[what, id(node)] = frozenset(self.touched)
            outer.update(self._reached.get((what, id(node)), ()))
            self.touched = outer

    def _bases(self, run: Run, cls: ClassInfo) -> tuple[ClassRef | LibRef, ...]:
        if cls.bases is None:
            cls.bases = ()
            frame = self.file_frame(run, cls.file)
            caller, run.frame = run.frame, frame
            try:
                found: list[ClassRef | LibRef] = []
                for base in cls.node.bases:
                    target = base.value if isinstance(base, ast.Subscript) else base
                    if isinstance(target, ast.Name | ast.Attribute | ast.Call):
                        value = expressions.evaluate(run, target)
                        found.extend(item for item in value.refs if isinstance(item, ClassRef | LibRef))
                cls.bases = tuple(found)
            finally:
                run.frame = caller
        return cls.bases

    def mro(self, run: Run, cls: ClassInfo) -> tuple[ClassRef | LibRef, ...]:
        """The class and its bases in the order attributes are looked up (depth first, later duplicates win)."""
        if cls.order is not None:
            if self.memory is not None:
                self.touched.update(self._reached.get(("order", id(cls.node)), ()))
            return cls.order
        with self._once("order", cls.node, known=False):
            return self._order(run, cls)

    def _order(self, run: Run, cls: ClassInfo) -> tuple[ClassRef | LibRef, ...]:
        cls.order = (ClassRef(cls),)
        order: list[ClassRef | LibRef] = [ClassRef(cls)]
        for base in self.bases(run, cls):
            tail = self.mro(run, base.info) if isinstance(base, ClassRef) else (base,)
            for item in tail:
                if item in order:
                    order.remove(item)
                order.append(item)
        cls.order = tuple(order)
        return cls.order

    def find_method(
        self, run: Run, cls: ClassInfo, name: str, *, after: bool = False, start: object = None
    ) -> FunctionInfo | None:
        """A method along the order of bases; with ``after``, only behind ``cls`` in the order of ``start``."""
        order = self.mro(run, start if after and isinstance(start, ClassInfo) else cls)
        if after:
            position = next((i for i, item in enumerate(order) if isinstance(item, ClassRef) and item.info is cls), -1)
            order = order[position + 1 :] if position >= 0 else self.mro(run, cls)[1:]
        for item in order:
            if isinstance(item, ClassRef):
                found = item.info.functions.get(name)
                if found is not None:
                    return found
        return None

    def class_value(self, run: Run, cls: ClassInfo, name: str) -> Value | None:
        """A class-level assignment along the order of bases."""
        for item in self.mro(run, cls):
            if isinstance(item, ClassRef):
                node = item.info.assigns.get(name)
                if node is None:
                    continue
                value = getattr(node, "value", None)
                if value is None:
                    continue
                key = (id(node), name)
                if key in run.loading:
                    return UNKNOWN_VALUE
                run.loading.add(key)
                caller = run.frame
                run.frame = self.file_frame(run, item.info.file)
                try:
                    if self.is_enum(run, item.info):
                        return const(f"{item.info.name}.{name}")
                    return expressions.evaluate(run, value)
                finally:
                    run.frame = caller
                    run.loading.discard(key)
        return None

    def fields(self, run: Run, cls: ClassInfo) -> list[tuple[str, ast.expr | None]]:
        """The fields of a dataclass, those of its bases first."""
        found: dict[str, ast.expr | None] = {}
        for item in reversed(self.mro(run, cls)):
            if isinstance(item, ClassRef):
                for statement in item.info.node.body:
                    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                        found[statement.target.id] = statement.value
        return list(found.items())

    def inherits(self, run: Run, cls: ClassInfo, name: str) -> bool:
        """Whether a class has a library class among its bases, however far up."""
        for item in self.mro(run, cls):
            if isinstance(item, LibRef) and (item.name == name or name in self.knowledge.lineage(item.name)):
                return True
        return False

    def is_module_class(self, run: Run, cls: ClassInfo) -> bool:
        for item in self.mro(run, cls):
            if isinstance(item, LibRef):
                if item.name.endswith(("nn.Module", ".LightningModule", ".PreTrainedModel")):
                    return True
                row = self.knowledge.get(item.name)
                if row is not None and row.effect == "module":
                    return True
                if modules.MODULE in self.knowledge.lineage(item.name):
                    return True
                if not item.name.startswith(("builtins.", "torch.", "abc.", "typing.")) and "forward" in cls.functions:
                    return True
        return False

    def is_enum(self, run: Run, cls: ClassInfo) -> bool:
        return any(isinstance(item, LibRef) and item.name.startswith("enum.") for item in self.mro(run, cls))

    # -- decorators ----------------------------------------------------------------------------------------------------

    def decorator_regions(self, run: Run, info: FunctionInfo) -> list[Cut | None]:
        """The grad modes a function's decorators set, outermost first; None switches gradient on."""
        if not info.decorators:
            return []
        with self._once("decorators", info.node, known=id(info.node) in self._cut_regions):
            found = self._modes(run, info)
        regions: list[Cut | None] = []
        for mode, decorator in found:
            if mode == "on":
                regions.append(None)
            else:
                regions.append(run.cut(mode, "decorator", f"@{ast.unparse(decorator)}", decorator))
        return regions

    def _modes(self, run: Run, info: FunctionInfo) -> tuple[tuple[str, ast.expr], ...]:
        found = self._cut_regions.get(id(info.node))
        if found is None:
            modes: list[tuple[str, ast.expr]] = []
            caller = run.frame
            run.frame = self.file_frame(run, info.file)
            try:
                for decorator in info.decorators:
                    mode = self._decorator_mode(run, decorator)
                    if mode is not None:
                        modes.append((mode, decorator))
            finally:
                run.frame = caller
            found = self._cut_regions[id(info.node)] = tuple(modes)
        return found

    def _decorator_mode(self, run: Run, decorator: ast.expr) -> str | None:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not isinstance(target, ast.Name | ast.Attribute):
            return None
        for item in expressions.evaluate(run, target).refs:
            if isinstance(item, LibRef):
                row = self.knowledge.get(item.name)
                if row is not None and row.effect == "scope":
                    args, kwargs = calls.arguments(run, decorator) if isinstance(decorator, ast.Call) else ([], {})
                    return scope_mode(row, args, kwargs)
        return None

    def project_decorated(self, run: Run, info: FunctionInfo) -> Value | None:
        """The function that the project's own decorators made of a function; None without such decorators."""
        if not info.decorators:
            return None
        key = ("decorated", id(info.node))
        if key in run.memory:
            return run.memory[key]
        run.memory[key] = None
        caller = run.frame
        run.frame = self.file_frame(run, info.file)
        try:
            value = calls.make_function(run, info, None)
        finally:
            run.frame = caller
        changed = any(not (isinstance(r, FunctionRef) and r.info is info) for r in value.refs)
        run.memory[key] = value if changed else None
        return run.memory[key]

    # -- names -----------------------------------------------------------------------------------------------------------

    def file_frame(self, run: Run, file: SourceFile) -> Frame:
        """The top-level frame of a file in a run."""
        if self.memory is not None:
            self.touched.add(file)
        frame = run.files.get(id(file))
        if frame is None:
            frame = run.files[id(file)] = Frame(file)
            frame.env["__name__"] = Value(CONST)
            frame.env["__file__"] = Value(CONST)
        return frame

    def global_value(self, run: Run, file: SourceFile, name: str) -> Value:
        """A top-level name of a file, its defining statement evaluated the first time it is asked for."""
        frame = self.file_frame(run, file)
        value = frame.env.get(name)
        if value is not None:
            return value
        index = self.project.index(file)
        bindings = index.bindings.get(name)
        if bindings is None:
            for star in index.stars:
                target = self.project.resolve(file, star.module, star.level)
                if isinstance(target, SourceFile) and target is not file:
                    key = (id(target), f"*{name}")
                    if key in run.loading:
                        continue
                    run.loading.add(key)
                    try:
                        found = self.global_value(run, target, name)
                    finally:
                        run.loading.discard(key)
                    if found.refs or found.is_const or found.kind != UNKNOWN:
                        if not (
                            len(found.refs) == 1
                            and isinstance(found.refs[0], LibRef)
                            and found.refs[0].name.startswith("builtins.")
                        ):
                            frame.env[name] = found
                            return found
                elif target is None and not star.level:
                    row = self.knowledge.get(f"{star.module}.{name}")
                    if row is not None:
                        return ref(LibRef(f"{star.module}.{name}"))
            package = self.project.submodule(file, name)
            if isinstance(package, SourceFile):
                return ref(FileRef(package))
            if name in PYTHON:
                return ref(LibRef(f"builtins.{name}"))
            return UNKNOWN_VALUE
        key = (id(file), name)
        if key in run.loading:
            return UNKNOWN_VALUE
        run.loading.add(key)
        caller, regions, depth = run.frame, run.regions, run.depth
        run.frame = frame
        run.regions = ()
        try:
            value = self._bound(run, file, frame, name, bindings)
        finally:
            run.frame, run.regions, run.depth = caller, regions, depth
            run.loading.discard(key)
        frame.env[name] = value
        return value

    def _bound(self, run: Run, file: SourceFile, frame: Frame, name: str, bindings: list[Binding]) -> Value:
        binding = bindings[0]
        if binding.kind == "def":
            return ref(FunctionRef(self.function(binding.node, file)))  # type: ignore[arg-type]
        if binding.kind == "class":
            return ref(ClassRef(self.class_info(binding.node, file)))  # type: ignore[arg-type]
        if binding.kind in ("import", "from"):
            values = [self.imported(run, file, b) for b in bindings if b.kind in ("import", "from")]
            return next((v for v in values if not (v.refs and isinstance(v.refs[0], LibRef))), values[0])
        statements.execute(run, [binding.node])
        return frame.env.get(name, UNKNOWN_VALUE)

    def imported(self, run: Run, file: SourceFile, binding: Binding) -> Value:
        """What an import binds: a project file, one of its names, or something of a library."""
        if binding.kind == "import":
            target = self.project.resolve(file, binding.module)
            if isinstance(target, SourceFile):
                return ref(FileRef(target))
            if isinstance(target, Path):
                return ref(LibRef(f"%folder.{target}"))
            return ref(LibRef(binding.module))
        target = self.project.resolve(file, binding.module, binding.level)
        if isinstance(target, SourceFile):
            if target is not file or binding.level:
                if self.memory is not None:
                    self.touched.add(target)
                bound = self.project.index(target).bindings
                if binding.name not in bound:
                    inner = self.project.submodule(target, binding.name)
                    if isinstance(inner, SourceFile):
                        return ref(FileRef(inner))
                if target is not file:
                    return self.global_value(run, target, binding.name)
            inner = self.project.submodule(target, binding.name)
            return ref(FileRef(inner)) if isinstance(inner, SourceFile) else UNKNOWN_VALUE
        if isinstance(target, Path):
            inner = self.project.submodule(target, binding.name)
            return ref(FileRef(inner)) if isinstance(inner, SourceFile) else UNKNOWN_VALUE
        if binding.level:
            return UNKNOWN_VALUE
        return ref(LibRef(f"{binding.module}.{binding.name}"))

    # -- running -----------------------------------------------------------------------------------------------------------

    def analyze(self) -> Analysis:
        """Execute the program from its entries and judge what was observed."""
        judgements: list[Judgement] = []
        problems: list[Problem] = []
        executed: set[ast.AST] = set()
        relevant = self._training_files()
        if not relevant:
            return Analysis((), ())
        for file in relevant:
            if self._recalled(("scripts", file), partial(_is_script, file), file):
                self._run(lambda run, file=file: _script(run, file), file, judgements, problems, executed, ("script", file))
        for file in relevant:
            for cls, nodes in self._recalled(("entries", file), partial(self._entries, file), file):
                if executed.issuperset(nodes):
                    continue
                asked = ("functions", file, nodes, frozenset(executed.intersection(nodes)))
                self._run(
                    lambda run, cls=cls, nodes=nodes, file=file: _functions(
                        run, self, self._group(file, cls, nodes), file, executed
                    ),
                    file,
                    judgements,
                    problems,
                    executed,
                    asked,
                    symbolic=True,
                )
        found: dict[tuple[object, ...], Fact] = {}
        classes = [
            fact
            for file in relevant
            for fact in (
                *self._inspected("classes", partial(structure.inspect, self, [file]), file, problems),
                *self._inspected("local", partial(local.inspect, self, file), file, problems),
                *self._inspected("idle", partial(idle.inspect, self, file), file, problems),
            )
        ]
        anew = {(fact.span.file, fact.span.line) for fact in classes if isinstance(fact, ModuleMadeInForward)}
        for fact in [
            *(f for j in judgements for f in j.facts),
            *starvation(judgements),
            *settle(judgements, classes),
            *leaks.settle(judgements),
            *contracts.settle([promise for judgement in judgements for promise in judgement.promises]),
            *classes,
        ]:
            if isinstance(fact, ReplacedAfterOptimizer) and (fact.span.file, fact.span.line) in anew:
                continue  # it is not replaced once but made again and again
            key: tuple[object, ...] = (type(fact), fact.span)
            if isinstance(fact, ContractBroken):
                key = (*key, fact.module, fact.word, fact.part)
            present = found.get(key)
            if present is None or fact.confidence.rank > present.confidence.rank:
                found[key] = fact
        if self.memory is not None:
            self.memory.end()
        return Analysis(tuple(sorted(found.values(), key=lambda f: f.span)), tuple(problems))

    def _inspected(self, what: str, work: Callable[[], list[Fact]], file: SourceFile, problems: list[Problem]) -> list[Fact]:
        """What one way of looking at a file by itself finds; what goes wrong in it is a problem of that file alone."""
        try:
            return self._recalled((what, file), work, file)
        except (Exhausted, RecursionError):
            return []
        except Exception as error:
            if DEBUG:
                raise
            problems.append(_trouble(file, error))
            return []

    def _recalled(self, key: Hashable, work: Callable[[], _T], file: SourceFile) -> _T:
        """The result of a piece of work on a file, remembered if there is a memory."""
        if self.memory is None:
            return work()
        kept: _T | None = self.memory.recall(key, self._answer)
        if kept is not None:
            return kept
        result, touched = self._watched(work, file)
        self.memory.keep(key, result, touched, self._asked)
        return result

    def _watched(self, work: Callable[[], _T], file: SourceFile) -> tuple[_T, set[SourceFile]]:
        """Do a piece of work on a file and see which files it looks into."""
        self.touched, self.project.seen, self._asked = {file}, False, {}
        result = work()
        return result, self.touched if not self.project.seen else set(self.project.files)

    def anywhere(self, holds: Callable[..., bool], *details: Hashable) -> bool:
        """Whether ``holds(text, *details)`` for the text of any file of the project, whatever its other files are.

        Ask it this way rather than going over the files: what follows from the answer is remembered until the answer changes,
        not until any file does.
        """
        question = Question(holds, details)
        answer = self._asked[question] = self._answer(question)
        return answer

    def _answer(self, question: Question) -> bool:
        answer = self._answers.get(question)
        if answer is None:
            seen = self.project.seen
            answer = self._answers[question] = any(self._holds(question, file) for file in self.project.files)
            self.project.seen = seen
        return answer

    def _holds(self, question: Question, file: SourceFile) -> bool:
        if self.memory is None:
            return question.holds(file.text, *question.details)
        key = (question, file)
        answer: bool | None = self.memory.recall(key, self._answer)
        if answer is None:
            answer = question.holds(file.text, *question.details)
            self.memory.keep(key, answer, (file,))
        return answer

    def _training_files(self) -> list[SourceFile]:
        """The files that import a library the knowledge speaks of as training code does, or a project file that does."""
        direct: set[Path] = set()
        imports: dict[Path, tuple[Path, ...]] = {}
        for file in self.project.files:
            trains, targets = self._recalled(("imports", file), partial(self._imports, file), file)
            imports[file.location] = targets
            if trains:
                direct.add(file.location)
        grew = True
        while grew:
            grew = False
            for name, targets in imports.items():
                if name not in direct and any(target in direct for target in targets):
                    direct.add(name)
                    grew = True
        return [file for file in self.project.files if file.location in direct]

    def _imports(self, file: SourceFile) -> tuple[bool, tuple[Path, ...]]:
        """Whether a file imports a library that trains, and the files of the project that it imports."""
        index = self.project.index(file)
        bindings = {id(b.node): b for found in index.bindings.values() for b in found if b.module or b.level}
        trains = False
        targets: list[Path] = []
        for binding in (*bindings.values(), *index.stars):
            if not binding.level and LIBRARIES.match(binding.module):
                trains = True
            target = self.project.resolve(file, binding.module, binding.level)
            if isinstance(target, SourceFile):
                targets.append(target.location)
        return trains, tuple(targets)

    def _run(
        self,
        action: object,
        file: SourceFile,
        judgements: list[Judgement],
        problems: list[Problem],
        executed: set[ast.AST],
        key: Hashable,
        *,
        symbolic: bool = False,
    ) -> None:
        steps = FUNCTION_STEPS if symbolic else SCRIPT_STEPS
        if self._spent > self._share:
            steps = LOOK if symbolic else FUNCTION_STEPS
        key = (key, self.uses_accelerator)
        kept: _Followed | None = self.memory.recall(key, self._answer) if self.memory is not None else None
        if kept is not None and (kept.steps == steps or (kept.spent <= steps and not kept.judgement.truncated)):
            followed = kept
        else:
            followed, touched = self._watched(lambda: self._follow(action, file, steps, symbolic), file)
            if self.memory is not None:
                self.memory.keep(key, followed, touched, self._asked)
        self._spent += followed.spent
        executed.update(followed.executed)
        problems.extend(followed.problems)
        judgements.append(followed.judgement)

    def _follow(self, action: object, file: SourceFile, steps: int, symbolic: bool) -> _Followed:
        """Execute one entry."""
        problems: list[Problem] = []
        run = Run(self, steps)
        run.watch.entry_file = file
        run.watch.symbolic = symbolic
        run.frame = self.file_frame(run, file)
        try:
            action(run)  # type: ignore[operator]
        except Exhausted:
            pass
        except RecursionError:
            run.truncated = True
        except Exception as error:
            if DEBUG:
                raise
            problems.append(_trouble(file, error))
            run.truncated = True
        spent = steps - max(run.budget, 0)
        run.budget = JUDGING_STEPS
        try:
            judgement = judge(run)
        except (Exhausted, RecursionError):
            judgement = Judgement()
        except Exception as error:
            if DEBUG:
                raise
            problems.append(_trouble(file, error))
            judgement = Judgement()
        return _Followed(judgement, tuple(problems), frozenset(run.watch.executed), steps, spent)

    def is_root(self, info: FunctionInfo) -> bool:
        """Whether the user named a function whose result is back-propagated: ``name``, ``Class.name`` or ``module:name``."""
        if not self.roots:
            return False
        dotted = self.project.dotted(info.file)
        return not self.roots.isdisjoint((info.name, info.qualname, f"{dotted}:{info.qualname}", f"{dotted}.{info.qualname}"))

    def _entries(self, file: SourceFile) -> list[tuple[ast.ClassDef | None, tuple[FunctionNode, ...]]]:
        """Functions worth an entry, the methods of one class together."""
        events = _lines(EVENT, file.text)
        freezing = _lines(FREEZING, file.text) if "requir" in file.text else []
        if not events and not freezing and not self.roots:
            return []
        assert file.tree is not None
        groups: list[tuple[ast.ClassDef | None, tuple[FunctionNode, ...]]] = []

        def chosen(info: FunctionInfo) -> bool:
            return (
                _covers(info.node, events) or self.is_root(info) or (_covers(info.node, freezing) and _freezes_oddly(info.node))
            )

        for node in _definitions(file.tree.body):
            if isinstance(node, ast.ClassDef):
                group = tuple(f.node for f in self.class_info(node, file).functions.values() if chosen(f))
                if group:
                    groups.append((node, group))
            elif chosen(self.function(node, file)):
                groups.append((None, (node,)))
        return groups

    def _group(self, file: SourceFile, cls: ast.ClassDef | None, nodes: Sequence[FunctionNode]) -> list[FunctionInfo]:
        if cls is not None:
            return [info for info in self.class_info(cls, file).functions.values() if info.node in nodes]
        return [self.function(node, file) for node in nodes]


DEBUG = False


def _measures(file: SourceFile) -> tuple[bool, int]:
    """Whether a file speaks of an accelerator, and how many lines it has."""
    return any(word in file.text for word in ("cuda", "mps", "xpu", "ccelerat")), file.text.count("\n")


def _definitions(body: list[ast.stmt]) -> list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    found: list[ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef] = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.append(node)
        elif isinstance(node, ast.If | ast.Try):
            found.extend(_definitions(node.body))
            found.extend(_definitions(node.orelse))
    return found


def _lines(pattern: re.Pattern[str], text: str) -> list[int]:
    """The lines of a text on which a pattern is found, in order."""
    found: list[int] = []
    line, place = 1, 0
    for match in pattern.finditer(text):
        line += text.count("\n", place, match.start())
        place = match.start()
        found.append(line)
    return found


def _freezes_oddly(node: ast.AST) -> bool:
    """Whether a gradient flag is assigned on anything but the variable of a loop over parameters."""
    over_parameters: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.For | ast.comprehension) and "parameters" in ast.unparse(part.iter):
            over_parameters.update(name.id for name in ast.walk(part.target) if isinstance(name, ast.Name))
    for part in ast.walk(node):
        if isinstance(part, ast.Assign | ast.Compare):
            for target in part.targets if isinstance(part, ast.Assign) else [part.left]:
                if isinstance(target, ast.Attribute) and "grad" in target.attr and "require" in target.attr:
                    plain = isinstance(target.value, ast.Name) and target.value.id in over_parameters
                    if isinstance(part, ast.Compare) or not plain or target.attr != "requires_grad":
                        return True
    return False


def _covers(node: ast.AST, lines: list[int]) -> bool:
    """Whether one of the lines lies within a node."""
    position = bisect.bisect_left(lines, node.lineno)  # type: ignore[attr-defined]
    return position < len(lines) and lines[position] <= (node.end_lineno or node.lineno)  # type: ignore[attr-defined]


def _trouble(file: SourceFile, error: Exception) -> Problem:
    """That something went wrong in gradlint itself."""
    where = Span(file.path, 1, 1, 1, 1)
    return Problem(where, f"internal error while following this file: {type(error).__name__}: {error}")


def _is_script(file: SourceFile) -> bool:
    """Whether a file does something at its top level beyond defining."""
    assert file.tree is not None
    for node in file.tree.body:
        if isinstance(node, ast.If) and is_main_guard(node.test):
            return True
        if isinstance(node, ast.For | ast.While | ast.With):
            return True
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call | ast.Attribute | ast.Compare):
            return True
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Attribute) for t in node.targets):
            return True
    return False


def _script(run: Run, file: SourceFile) -> None:
    assert file.tree is not None
    statements.execute(run, file.tree.body)
    _callbacks(run)


def _callbacks(run: Run) -> None:
    """Execute the functions that were made on the way and given away, and that train: whoever got them calls them."""
    for node, target in list(run.watch.callbacks.items()):
        if node not in run.watch.executed and _covers(node, _lines(EVENT, target.info.file.text)):
            calls.call_function(run, target, [], {}, node)


def _functions(run: Run, program: Program, group: list[FunctionInfo], file: SourceFile, executed: set[ast.AST]) -> None:
    """Execute functions that nobody calls, on arguments nobody knows; methods on one object of their class."""
    cls = group[0].cls
    if cls is None:
        _entered(run, program, group[0], FunctionRef(group[0]))
        _callbacks(run)
        return
    obj = Obj("instance", ("self", file.path, cls.name), cls=cls, label="self")
    obj.attrs["%symbolic"] = True
    init = program.find_method(run, cls, "__init__")
    calls.construct(run, obj, [], {}, cls.node)
    if init is not None and init in group and len(group) == 1:
        return
    frameworks.drive(run, obj, cls.node)
    for info in group:
        if info.node in run.watch.executed or info.node in executed or info.name == "__init__":
            continue
        if info.decorated_with("staticmethod"):
            _entered(run, program, info, FunctionRef(info))
        elif info.decorated_with("classmethod"):
            _entered(run, program, info, FunctionRef(info, None, ref(ClassRef(cls))))
        else:
            _entered(run, program, info, FunctionRef(info, None, ref(obj)))


def _entered(run: Run, program: Program, info: FunctionInfo, target: FunctionRef) -> None:
    """Execute a function as an entry; the result of one the user named as a root is back-propagated."""
    result = calls.call_function(run, target, [], {}, info.node)
    if program.is_root(info):
        run.watch.backward(frameworks.loss_of(run, result) or result, info.node, returned=True)
