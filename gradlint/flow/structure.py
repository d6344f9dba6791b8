"""How the project's module classes are made: what they keep without registering it, and what they make anew in each forward.

Each class is read for itself, whether some program trains it or not.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradlint.core import Confidence
from gradlint.flow import calls, containers, expressions, facts, modules
from gradlint.flow.heap import ClassRef, LibRef, Obj
from gradlint.flow.lattice import Value
from gradlint.flow.run import Exhausted, Run, shown
from gradlint.survey.lexical import statements

if TYPE_CHECKING:
    from gradlint.flow.classes import ClassInfo, FunctionInfo
    from gradlint.flow.program import Program
    from gradlint.knowledge import Row
    from gradlint.survey.source import SourceFile

# Classes whose text has none of these are not looked into.
KEEPS = re.compile(
    r"self\.\w+\s*(?::[^=\n]+)?=\s*(?:[\[{(]|(?:\w+\.)*(?:list|dict|tuple|set|OrderedDict|defaultdict|deque|zip)\(|[A-Z]\w*\()"
)
LISTED = re.compile(r"^\s*(\w+)(?:\s*,[^=\n]*)?\s*=\s*(?:[\[{]|list\(|dict\()", re.M)
STORED = re.compile(r"^\s*self\.\w+\s*=\s*(\w+)\s*(?:#.*)?$", re.M)
GRADIENT = re.compile(r"requires_grad|Parameter\s*\(")
MAKES = re.compile(r"(?<![\w.])(?:nn\.|torch\.nn\.)?[A-Z]\w*\s*\(")
# What a class does that registers its parts in a way of its own, or hands them out itself.
REGISTERS = re.compile(
    r"\b(?:setattr|add_module|register_module|register_parameter|register_buffer|_modules|_parameters|__setattr__|exec)\b"
)
HANDS_OUT = frozenset(
    (
        "parameters", "named_parameters", "modules", "named_modules", "children", "named_children",
        "_apply", "to", "cuda", "state_dict", "train",
    )
)  # fmt: skip
REPEATED = re.compile(r"^_?(?:forward|training_step|encode|decode)|^__call__$|_forward$")
FRESH = re.compile(r"\bis\s+(?:not\s+)?None\b|hasattr|\bnot\s+in\b|\bnot\s+self\b|!=|getattr")
NOT_MEANT = re.compile(
    r"dummy|noise|input|anchor|probe|grad|hidden|state|cache|(?:^|_)(?:x|z|h|c|hx|cx|img|image|delta|perturb\w*)$", re.I
)
WEIGHTY = re.compile(r"^(?:w|weight|bias|kernel|alpha|beta|gamma|scale|log_|theta|embed|proto|centers?|codebook)", re.I)
BUILDS = re.compile(r"^(?:__init__$|_?(?:init|build|make|create|reset|setup|initiali[sz]e|define|register|add))")
# Methods after which a parameter is a tensor like any other, and those that give the parameter itself.
SAME = frozenset(("requires_grad_", "register_hook", "float", "contiguous"))
PLAIN = frozenset(("detach", "data", "numpy", "item", "tolist", "size", "numel", "dim"))


def inspect(program: Program, files: list[SourceFile]) -> list[facts.Fact]:
    """What the module classes of some files do wrong wherever they are used."""
    found: list[facts.Fact] = []
    for file in files:
        if file.tree is None or "class " not in file.text:
            continue
        reader = _File(program, file)
        for node in _classes(file.tree.body):
            try:
                reader.read(node)
            except (Exhausted, RecursionError):
                continue
        found += reader.found
    return found


def _classes(body: list[ast.stmt]) -> Iterator[ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node
            yield from _classes(node.body)
        elif isinstance(node, ast.If | ast.Try | ast.FunctionDef):
            yield from _classes(node.body)
            if isinstance(node, ast.If | ast.Try):
                yield from _classes(node.orelse)


class _File:
    """One file, its classes read one after another."""

    def __init__(self, program: Program, file: SourceFile) -> None:
        self.program = program
        self.file = file
        self.found: list[facts.Fact] = []
        self._run: Run | None = None
        self._made: dict[int, Obj] = {}

    @property
    def run(self) -> Run:
        if self._run is None:
            run = self._run = Run(self.program, BUDGET)
            run.watch.entry_file = self.file
            run.watch.symbolic = True
            run.frame = self.program.file_frame(run, self.file)
        return self._run

    def read(self, node: ast.ClassDef) -> None:
        """One class."""
        text = "\n".join(self.file.lines[node.lineno - 1 : node.end_lineno])
        keeps = bool(KEEPS.search(text)) or not set(LISTED.findall(text)).isdisjoint(STORED.findall(text))
        gradient = GRADIENT.search(text)
        makes = any(_in_forward(part, self.file) for part in node.body)
        if not (keeps or gradient or makes):
            return
        cls = self.program.class_info(node, self.file)
        if not self.program.is_module_class(self.run, cls):
            return
        if gradient:
            self._tensors(cls, text)
        if keeps and not REGISTERS.search(text) and not HANDS_OUT & cls.functions.keys() and self._may_keep(cls, text):
            self._parts(cls, text)
        if makes and not _is_test(self.file):
            for info in cls.functions.values():
                if REPEATED.search(info.name):
                    self._made_anew(info)

    def fact(self, kind: type, node: ast.AST, confidence: Confidence, **fields: object) -> None:
        self.found.append(kind(self.file.span(node), confidence, (), **fields))

    # -- kept, not registered ------------------------------------------------------------------------------------------

    def _may_keep(self, cls: ClassInfo, text: str) -> bool:
        """Whether an attribute may hold modules out of sight: to find out for sure the class has to be made, which costs."""
        for info in cls.functions.values():
            if isinstance(info.node, ast.Lambda):
                continue
            made: set[str] = set()  # local names that may be modules
            lists: set[str] = set()  # … and those that may hold some
            for statement in statements(info.node.body):
                if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    local = {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
                    own = [name for target in targets for name in _own(target, info)]
                    if own and self._may_hide(statement.value, f"self.{own[0]}", made, lists, text):
                        return True
                    if any(self._may_hide(statement.value, name, made, lists, text) for name in local):
                        lists |= local
                    elif _may_make(statement.value, made):
                        made |= local
        return False

    def _may_hide(self, value: ast.expr, name: str, made: set[str], lists: set[str], text: str) -> bool:
        match value:
            case ast.Name(id=known):
                return known in lists
            case ast.IfExp(body=body, orelse=other):
                return any(self._may_hide(arm, name, made, lists, text) for arm in (body, other))
            case ast.BinOp(left=left, right=right):
                return any(self._may_hide(side, name, made, lists, text) for side in (left, right))
            case ast.List() | ast.Tuple() | ast.Dict() | ast.Set() | ast.ListComp() | ast.SetComp() | ast.DictComp():
                return _may_make(value, made | lists) or _is_filled(name, text)
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called)):
                if called in COLLECTS:
                    return any(_may_make(item, made | lists) for item in value.args) or _is_filled(name, text)
                if not called[:1].isupper():
                    return called.endswith("s") and bool(MAKER.search(called))
                return self._is_plain(value.func)
        return False

    def _is_plain(self, called: ast.expr) -> bool:
        """Whether a class of the project is called that is used like a module and is none."""
        root = called
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name) or root.id not in self.program.project.index(self.file).bindings:
            return False
        for item in expressions.evaluate(self.run, called).refs:
            if isinstance(item, ClassRef) and item.info.functions.keys() & {"forward", "__call__"}:
                return not self.program.is_module_class(self.run, item.info)
        return False

    def _constructed(self, cls: ClassInfo) -> Obj:
        """An object of a class, made with arguments nobody knows."""
        obj = self._made.get(id(cls.node))
        if obj is None:
            obj = Obj("instance", ("self", cls.file.path, cls.name), cls=cls, label="self")
            obj.attrs["%symbolic"] = True
            self._made[id(cls.node)] = obj
            self.run.budget = BUDGET
            calls.construct(self.run, obj, [], {}, cls.node)
        return obj

    def _parts(self, cls: ClassInfo, text: str) -> None:
        obj = self._constructed(cls)
        registered = {id(part) for _, part in modules.walk(self.run, obj)}
        for name, value in list(obj.attrs.items()):
            if name.startswith("%") or not isinstance(value, Value):
                continue
            for item in value.refs:
                if not isinstance(item, Obj) or "%container" in item.attrs:
                    continue
                if item.kind in containers.CONTAINERS:
                    self._kept_in_container(cls, name, item, registered, text)
                elif item.kind == "instance" and item.cls is not None and not modules.is_module(self.run, item):
                    self._kept_in_object(cls, name, item, registered, text)

    def _kept_in_container(self, cls: ClassInfo, name: str, item: Obj, registered: set[int], text: str) -> None:
        inside = {
            r
            for v in containers.everything(self.run, Value(refs=(item,)))
            for r in v.refs
            if isinstance(r, Obj) and r is not item
        }
        inside = {part for part in inside if part.kind in ("library", "instance", "leaf") and id(part) not in registered}
        layers = [
            part
            for part in inside
            if part.kind != "leaf" and modules.is_module(self.run, part) and self._trains(part, registered)
        ]
        leaves = [part for part in inside if part.kind == "leaf" and modules.frozen(part) is False]
        place = _assignment(cls, name)
        if place is None or not (layers or leaves) or _hides(place) or not self._is_used(cls, name, place, text):
            return
        if layers:
            classes = dict.fromkeys(_class_name(part) for part in sorted(layers, key=lambda part: part.serial))
            self.fact(
                facts.UnregisteredModule, place, Confidence.HIGH, attribute=f"self.{name}", parts=tuple(classes), kept=item.kind
            )
        elif not NOT_MEANT.search(name):
            self.fact(
                facts.UnregisteredParameter,
                place,
                Confidence.HIGH,
                attribute=f"self.{name}",
                form="container",
                operation=item.kind,
            )

    def _kept_in_object(self, cls: ClassInfo, name: str, item: Obj, registered: set[int], text: str) -> None:
        """A part that looks like a layer and is no module, with parameters that are its own."""
        inner = item.cls
        if (
            inner is None
            or item.site is None
            or item.site.file is not self.file
            or not inner.functions.keys() & {"forward", "__call__"}
        ):
            return
        if HANDS_OUT & inner.functions.keys() or any(isinstance(b, LibRef) for b in self.program.mro(self.run, inner)):
            return
        own = [v for k, v in item.attrs.items() if not k.startswith("%") and isinstance(v, Value)]
        parts = [r for v in own for r in v.refs if isinstance(r, Obj) and id(r) not in registered]
        mine = [p for p in parts if ("%parameter" in p.attrs or p.kind == "library") and self._trains(p, registered)]
        place = _assignment(cls, name)
        if mine and place is not None and self._is_used(cls, name, place, text):
            self.fact(
                facts.UnregisteredModule, place, Confidence.MEDIUM, attribute=f"self.{name}", parts=(inner.name,), kept="object"
            )

    def _trains(self, part: Obj, registered: set[int]) -> bool:
        """Whether a module has parameters of its own that are not frozen, not taken from elsewhere and not registered."""
        if part.kind == "leaf":
            return "%parameter" in part.attrs and modules.frozen(part) is False
        owners = {e.owner for e in modules.parameters(self.run, part)}
        owners = {o for o in owners if o.kind != "opaque" and id(o) not in registered}
        if any(o.attrs.get("%pretrained") for o in owners) or part.attrs.get("%mode") == "eval":
            return False
        return any(modules.frozen(o) is False for o in owners)

    def _is_used(self, cls: ClassInfo, name: str, place: ast.stmt, text: str) -> bool:
        """Whether the class reads the attribute, and nobody registers it or hands its parameters to an optimizer."""
        if not _read(cls, name) or _given_out(cls, name):
            return False
        mention = re.compile(
            rf"(?:ModuleList|ModuleDict|Sequential|ParameterList|ParameterDict)\(\s*\*?(?:list\()?\w+\.{name}\b"
            rf"|\.{name}\b[^\n]*(?:parameters|optim)|(?:parameters|optim|Adam|SGD|params)[^\n]*\.{name}\b"
            rf"|for\s[^\n]*\.{name}\b[^\n]*(?:\n[^\n]*){{0,3}}?(?:parameters|\.to\(|\.cuda\(|requires_grad)"
        )
        return not self._mentioned(mention, name)

    def _mentioned(self, mention: re.Pattern[str], name: str) -> bool:
        """Whether any file of the project has a text around an attribute of this name."""
        return self.program.anywhere(_mentions, mention, f".{name}")

    # -- tensors that should be parameters ------------------------------------------------------------------------------

    def _tensors(self, cls: ClassInfo, text: str) -> None:
        for info in cls.functions.values():
            if isinstance(info.node, ast.Lambda) or not GRADIENT.search(self._text(info.node)):
                continue
            for statement in statements(info.node.body):
                if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
                    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
                    names = [name for target in targets for name in _own(target, info)]
                    if names:
                        self._tensor(cls, info, statement, names, text)

    def _tensor(
        self, cls: ClassInfo, info: FunctionInfo, statement: ast.Assign | ast.AnnAssign, names: list[str], text: str
    ) -> None:
        value = statement.value
        if isinstance(value, ast.GeneratorExp | ast.ListComp) and isinstance(
            getattr(statement, "targets", [None])[0], ast.Tuple
        ):
            value = value.elt
        assert value is not None
        operation = self._derived(value)
        form = "derived" if operation else "tensor" if self._leaf(value) else ""
        if not form:
            return
        name = names[0]
        if any(NOT_MEANT.search(n) for n in names) or self._handled(cls, name, text):
            return
        if not BUILDS.search(info.name) or info.name.startswith(("init_hidden", "reset_")):
            if not all(WEIGHTY.search(n) for n in names):
                return
        confidence = Confidence.HIGH if info.name == "__init__" or form == "derived" else Confidence.MEDIUM
        self.fact(facts.UnregisteredParameter, statement, confidence, attribute=f"self.{name}", form=form, operation=operation)

    def _handled(self, cls: ClassInfo, name: str, text: str) -> bool:
        """Whether an attribute is registered in another way, given to an optimizer, or not used."""
        if not _read(cls, name) or _given_out(cls, name):
            return True
        if re.search(rf"register_parameter\(\s*[\"']{name}[\"']|setattr\(\s*self\s*,\s*[\"']{name}[\"']", text):
            return True
        if len(re.findall(rf"self\.{name}\s*=(?!=)[^\n]*Parameter\(", text)) > 1:
            return True
        mention = re.compile(
            rf"\.{name}\b[^\n]*(?:params|optim)|(?:params|optim|Adam|SGD)[^\n]*\.{name}\b|[\[(,]\s*[\w.]+\.{name}\s*\]"
        )
        return self._mentioned(mention, name)

    def _leaf(self, node: ast.expr) -> bool:
        """Whether an expression makes a tensor that requires gradient and is no parameter."""
        if not isinstance(node, ast.Call):
            return False
        if isinstance(node.func, ast.Attribute) and node.func.attr == "requires_grad_" and not node.args and not node.keywords:
            return self._makes_tensor(node.func.value)
        flag = next((k.value for k in node.keywords if k.arg == "requires_grad"), None)
        return isinstance(flag, ast.Constant) and flag.value is True and self._makes_tensor(node)

    def _makes_tensor(self, node: ast.expr) -> bool:
        row = self._row(node.func) if isinstance(node, ast.Call) else None
        return row is not None and row.effect in ("leaf", "constant", "flow") and row.name.startswith("torch.")

    def _derived(self, node: ast.expr) -> str:
        """What is done to a parameter that an expression makes; empty where nothing is, or it makes none."""
        if isinstance(node, ast.BinOp):
            side = next((s for s in (node.left, node.right) if self._parameter(s)), None)
            return shown(self.file, node, 40) if side is not None else ""
        steps: list[str] = []
        here = node
        while isinstance(here, ast.Call) and isinstance(here.func, ast.Attribute) and not self._parameter(here):
            name = here.func.attr
            if name in PLAIN:
                return ""
            if name not in SAME and not name.endswith("_"):
                if name == "to" and (not _moves(here) or _made_there(here)):
                    return ""
                steps.append(name)
            here = here.func.value
        return f".{steps[-1]}()" if steps and self._parameter(here) else ""

    def _parameter(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Call) or any(
            k.arg == "requires_grad" and isinstance(k.value, ast.Constant) and k.value.value is False for k in node.keywords
        ):
            return False
        row = self._row(node.func)
        return row is not None and row.effect == "parameter"

    def _row(self, func: ast.expr) -> Row | None:
        name = self._name(func)
        return self.program.knowledge.get(name) if name else None

    def _name(self, func: ast.expr) -> str:
        """The qualified name of a library function or class."""
        if not _dotted(func):
            return ""
        for item in expressions.evaluate(self.run, func).refs:
            if isinstance(item, LibRef) and item.receiver is None:
                return item.name
        return ""

    # -- made anew -------------------------------------------------------------------------------------------------------

    def _made_anew(self, info: FunctionInfo) -> None:
        if isinstance(info.node, ast.Lambda) or not MAKES.search(self._text(info.node)):
            return
        around: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(info.node):
            for part in ast.iter_child_nodes(node):
                around[part] = node
        for call in [n for n in around if isinstance(n, ast.Call) and _last(n.func)[:1].isupper()]:
            if self._drawn(call) and self._used_at_once(call, info, around):
                self.fact(
                    facts.ModuleMadeInForward, call, Confidence.HIGH, module=shown(self.file, call.func), function=info.qualname
                )

    def _drawn(self, call: ast.Call) -> bool:
        """Whether a call makes a layer whose parameters are drawn at random."""
        if not _dotted(call.func):
            return False
        for item in expressions.evaluate(self.run, call.func).refs:
            if isinstance(item, LibRef) and item.receiver is None:
                row = self.program.knowledge.get(item.name)
                if row is None or row.effect != "module" or row.get("pretrained"):
                    return False
                if row.get("container") == "sequential":
                    return any(isinstance(a, ast.Call) and self._drawn(a) for a in call.args)
                return bool(row.get("parameters")) and not row.get("neutral") and not row.get("norm")
            if isinstance(item, ClassRef) and self.program.is_module_class(self.run, item.info):
                made = self._constructed(item.info)
                owners = [e.owner for e in modules.parameters(self.run, made)]
                return any(
                    o.kind == "library" and o.row is not None and not o.row.get("neutral") and not o.row.get("norm")
                    for o in owners
                ) and not any(o.attrs.get("%pretrained") for o in owners)
        return False

    def _used_at_once(self, call: ast.Call, info: FunctionInfo, around: dict[ast.AST, ast.AST]) -> bool:
        """Whether what a call makes is used in the same function and then forgotten."""
        holder = around[call]
        here: ast.AST = call
        while here is not info.node:
            up = around[here]
            if isinstance(up, ast.If | ast.IfExp | ast.While) and here is not up.test and FRESH.search(ast.unparse(up.test)):
                return False
            if isinstance(up, ast.Lambda | ast.FunctionDef) and up is not info.node:
                return False
            if isinstance(up, ast.ExceptHandler):
                return False
            here = up
        while (isinstance(holder, ast.Call) and isinstance(holder.func, ast.Attribute)) or isinstance(holder, ast.Attribute):
            # Linear(…).to(device)
            if isinstance(holder, ast.Attribute) and holder.attr not in (
                "to",
                "cuda",
                "cpu",
                "float",
                "double",
                "half",
                "eval",
                "train",
            ):
                return False
            holder = around[holder]
            if not isinstance(holder, ast.Call):
                break
            holder = around[holder] if isinstance(around.get(holder), ast.Attribute | ast.Assign | ast.Call) else holder
        if isinstance(holder, ast.Call) and holder is not call:
            inner = holder.func
            while isinstance(inner, ast.Call | ast.Attribute) and inner is not call:
                inner = inner.func if isinstance(inner, ast.Call) else inner.value
            return inner is call and bool(holder.args)
        if isinstance(holder, ast.Assign) and len(holder.targets) == 1:
            target = holder.targets[0]
            if isinstance(target, ast.Name):
                return _only_called(info.node, target.id, holder)
            if isinstance(target, ast.Attribute) and _own(target, info):
                return not any(
                    isinstance(n, ast.Attribute)
                    and n.attr in ("weight", "bias", "load_state_dict")
                    and isinstance(n.value, ast.Attribute)
                    and n.value.attr == target.attr
                    for n in around
                )
        return False

    def _text(self, node: ast.AST) -> str:
        return "\n".join(self.file.lines[node.lineno - 1 : node.end_lineno])  # type: ignore[attr-defined]


BUDGET = 1_500  # steps for one class: most take some hundred, and a large model is made of classes that are read as well
COLLECTS = frozenset("list dict tuple set OrderedDict defaultdict deque zip".split())
MAKER = re.compile(r"make|build|create|layer|block|module|conv|linear|head|net|model|clone|copy|parameter", re.I)
# What is put into a list may be a module: a class, a maker or a name alone, or the line does not end there.
PUT = re.compile(r"\b[A-Z]\w*\(|(?:make|build|create|clone|copy)\w*\(|^\s*[\w.]+\)?\s*$|[(\[{]\s*$|_(?:layer|block|module)s?\(")
"""How many steps the constructors of one file's classes may take."""


def _mentions(text: str, mention: re.Pattern[str], name: str) -> bool:
    return name in text and bool(mention.search(text))


def _is_test(file: SourceFile) -> bool:
    parts = file.path.split("/")
    return (
        any(part in ("test", "tests") for part in parts[:-1]) or parts[-1].startswith("test_") or parts[-1].endswith("_test.py")
    )


def _in_forward(part: ast.stmt, file: SourceFile) -> bool:
    if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) or not REPEATED.search(part.name):
        return False
    return bool(MAKES.search("\n".join(file.lines[part.body[0].lineno - 1 : part.end_lineno])))


def _class_name(part: Obj) -> str:
    if part.cls is not None:
        return part.cls.name
    return str(part.key[1]).rpartition(".")[2]


def _dotted(func: ast.expr) -> bool:
    while isinstance(func, ast.Attribute):
        func = func.value
    return isinstance(func, ast.Name) and func.id != "self"


def _last(func: ast.expr) -> str:
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def _moves(call: ast.Call) -> bool:
    """Whether a ``.to(…)`` may go somewhere else."""
    return not (len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and call.args[0].value == "cpu")


def _made_there(call: ast.Call) -> bool:
    """Whether a tensor is made where ``.to(…)`` moves it."""
    assert isinstance(call.func, ast.Attribute)
    places = {ast.unparse(argument) for argument in (*call.args, *(k.value for k in call.keywords))}
    made = {ast.unparse(k.value) for n in ast.walk(call.func.value) if isinstance(n, ast.Call) for k in n.keywords}
    return bool(places & made)


def _own(target: ast.expr, info: FunctionInfo) -> list[str]:
    """The attributes of ``self`` that a target binds."""
    if isinstance(target, ast.Tuple | ast.List):
        return [name for part in target.elts for name in _own(part, info)]
    arguments = info.node.args.posonlyargs + info.node.args.args
    if (
        isinstance(target, ast.Attribute)
        and isinstance(target.value, ast.Name)
        and arguments
        and target.value.id == arguments[0].arg
    ):
        return [target.attr]
    return []


def _may_make(value: ast.expr, made: set[str]) -> bool:
    """Whether a module may be in an expression: a class or a maker is called, or a name stands there that may be one."""
    for node in ast.walk(value):
        if isinstance(node, ast.Name) and node.id in made:
            return True
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if (called[:1].isupper() and called not in COLLECTS) or MAKER.search(called):
                return True
    return False


def _is_filled(name: str, text: str) -> bool:
    """Whether things that may be modules are put into what ``name`` holds."""
    put = rf"{re.escape(name)}(?:\.(?:append|extend|insert|update|setdefault|add)\(|\[[^\]\n]+\]\s*=(?!=))([^\n]*)"
    return any(PUT.search(line) for line in re.findall(put, text))


def _assignment(cls: ClassInfo, name: str) -> ast.stmt | None:
    """The first statement of a class that assigns an attribute."""
    for info in cls.functions.values():
        for node in ast.walk(info.node):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(name in _own(target, info) for target in targets):
                    return node
    return None


def _hides(place: ast.stmt) -> bool:
    """``self.x = [teacher]``: what is given is kept out of sight on purpose."""
    value = getattr(place, "value", None)
    return isinstance(value, ast.List | ast.Tuple) and len(value.elts) == 1 and isinstance(value.elts[0], ast.Name)


def _read(cls: ClassInfo, name: str) -> bool:
    """Whether a class reads one of its attributes where it works, not only where it is built."""
    return any(
        isinstance(node, ast.Attribute) and node.attr == name and isinstance(node.ctx, ast.Load)
        for info in cls.functions.values()
        if not info.name.startswith("__") or info.name == "__call__"
        for node in ast.walk(info.node)
    )


def _given_out(cls: ClassInfo, name: str) -> bool:
    """Whether a method returns an attribute for others to work with, or it is listed among others of its kind."""
    for info in cls.functions.values():
        for node in ast.walk(info.node):
            if isinstance(node, ast.Return | ast.Yield) and node.value is not None:
                parts = node.value.elts if isinstance(node.value, ast.List | ast.Tuple) else [node.value]
            elif isinstance(node, ast.YieldFrom):
                parts = [node.value]
            elif isinstance(node, ast.List):
                parts = node.elts
            else:
                continue
            if any(isinstance(part, ast.Attribute) and _own(part, info) == [name] for part in parts):
                return True
    return False


def _only_called(function: ast.AST, name: str, made: ast.Assign) -> bool:
    """Whether a local variable is called, and nothing is done to what it holds."""
    called = False
    skipped: set[ast.AST] = {made.targets[0]}
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name and node.args:
            called = True
            skipped.add(node.func)
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            # layer = layer.to(device)
            inner = node.value.func
            if isinstance(inner.value, ast.Name) and inner.value.id == name and inner.attr in ("to", "cuda", "float", "double"):
                skipped.add(inner.value)
                skipped.update(t for t in node.targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            inner = node.value.func
            if isinstance(inner.value, ast.Name) and inner.value.id == name and inner.attr in ("to", "cuda", "float", "double"):
                skipped.add(inner.value)
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id == name and node not in skipped:
            return False
    return called
