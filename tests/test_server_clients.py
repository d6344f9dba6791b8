"""The language server with a real client at the other end, once as each kind of editor that people use."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest_lsp = pytest.importorskip("pytest_lsp")

from lsprotocol import types as t  # noqa: E402 - only with pytest-lsp
from pytest_lsp.client import LanguageClient, client_capabilities, make_test_lsp_client  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 20.0  # seconds; what is waited for takes a fraction of one on an idle machine

HELPER = """\
import torch


def normalise(x):
    return x / x.norm()
"""

MODEL = """\
import torch
from torch import nn

from helper import normalise


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(normalise(self.encoder(x)))
"""

TRAIN = """\
import torch
from torch import nn

from model import Net

net = Net()
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for x, y in torch.load("batches.pt"):
    loss = nn.functional.cross_entropy(net(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

CUT = "self.head(normalise(self.encoder(x)).detach())"
WHOLE = "self.head(normalise(self.encoder(x)))"


def vscode(*, pull: bool = True) -> t.ClientCapabilities:
    """A Visual Studio Code of today: pulls, refreshes, watches files, knows notebooks; UTF-16 only."""
    found = client_capabilities("visual-studio-code")
    assert found.workspace and found.text_document
    found.general = t.GeneralClientCapabilities(position_encodings=[t.PositionEncodingKind.Utf16])
    found.notebook_document = t.NotebookDocumentClientCapabilities(
        t.NotebookDocumentSyncClientCapabilities(dynamic_registration=True, execution_summary_support=True)
    )
    if pull:
        found.text_document.diagnostic = t.DiagnosticClientCapabilities(
            dynamic_registration=True, related_document_support=True
        )
        found.workspace.diagnostics = t.DiagnosticWorkspaceClientCapabilities(refresh_support=True)
    return found


def neovim(*, pull: bool) -> t.ClientCapabilities:
    """A Neovim: 0.11 pulls but cannot be told to pull again, and is pushed to; 0.12 can. Prefers UTF-8, watches no files."""
    found = client_capabilities("neovim@v0.11.0")
    assert found.workspace
    if pull:
        found.workspace.diagnostics = t.DiagnosticWorkspaceClientCapabilities(refresh_support=True)
    return found


PROFILES: dict[str, Callable[[], t.ClientCapabilities]] = {
    "vscode-pull": vscode,
    "vscode-push": lambda: vscode(pull=False),
    "neovim-push": lambda: neovim(pull=False),
    "neovim-pull": lambda: neovim(pull=True),
    "emacs": lambda: client_capabilities("emacs"),
}


class Editor:
    """A client with some files open, that sees what an editor would show."""

    def __init__(self, client: LanguageClient, capabilities: t.ClientCapabilities, root: Path) -> None:
        self.client = client
        self.root = root
        self.capabilities = capabilities
        self.result: t.InitializeResult | None = None
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.published: dict[str, t.PublishDiagnosticsParams] = {}
        self.news = asyncio.Event()
        client.feature(t.WORKSPACE_CODE_LENS_REFRESH)(lambda *_: None)

    @property
    def pulls(self) -> bool:
        assert self.result
        return self.result.capabilities.diagnostic_provider is not None

    def uri(self, name: str | Path) -> str:
        return (self.root / name).as_uri()

    def path(self, name: str) -> Path:
        return self.root / name

    def open(self, name: str, text: str | None = None) -> str:
        uri = self.uri(name)
        self.texts[uri] = text if text is not None else (self.root / name).read_text(encoding="utf-8")
        self.versions[uri] = 1
        document = t.TextDocumentItem(uri, "python", 1, self.texts[uri])
        self.client.text_document_did_open(t.DidOpenTextDocumentParams(document))
        return uri

    def change(self, uri: str, text: str) -> None:
        """Replace all of a document by one incremental edit in the middle, as an editor would."""
        old = self.texts[uri]
        start = next((i for i, (a, b) in enumerate(zip(old, text, strict=False)) if a != b), min(len(old), len(text)))
        tail = 0
        while tail < min(len(old), len(text)) - start and old[len(old) - 1 - tail] == text[len(text) - 1 - tail]:
            tail += 1
        where = t.Range(self.position(old, start), self.position(old, len(old) - tail))
        new = text[start : len(text) - tail]
        self.versions[uri] += 1
        self.texts[uri] = text
        identifier = t.VersionedTextDocumentIdentifier(uri=uri, version=self.versions[uri])
        self.client.text_document_did_change(
            t.DidChangeTextDocumentParams(identifier, [t.TextDocumentContentChangePartial(range=where, text=new)])
        )

    def position(self, text: str, offset: int) -> t.Position:
        before = text[:offset]
        line = before.count("\n")
        return t.Position(line, self.units(before[before.rfind("\n") + 1 :]))

    def units(self, text: str) -> int:
        assert self.result
        match self.result.capabilities.position_encoding:
            case t.PositionEncodingKind.Utf8:
                return len(text.encode())
            case t.PositionEncodingKind.Utf32:
                return len(text)
            case _:
                return len(text.encode("utf-16-le")) // 2

    def save(self, uri: str) -> None:
        self.root.joinpath(uri.removeprefix(self.root.as_uri() + "/")).write_text(self.texts[uri], encoding="utf-8")
        self.client.text_document_did_save(t.DidSaveTextDocumentParams(t.TextDocumentIdentifier(uri)))

    def close(self, uri: str) -> None:
        del self.texts[uri]
        self.client.text_document_did_close(t.DidCloseTextDocumentParams(t.TextDocumentIdentifier(uri)))

    async def pull(self, uri: str) -> list[t.Diagnostic]:
        identifier = t.TextDocumentIdentifier(uri)
        report = await self.client.text_document_diagnostic_async(t.DocumentDiagnosticParams(identifier))
        assert isinstance(report, t.RelatedFullDocumentDiagnosticReport)
        return list(report.items)

    async def shown(self, uri: str) -> list[t.Diagnostic]:
        """What is shown of a document once the server has caught up with its text."""
        if self.pulls:
            return await asyncio.wait_for(self.pull(uri), PATIENCE)
        await self.until(lambda: uri in self.published and self.published[uri].version == self.versions.get(uri))
        return list(self.published[uri].diagnostics)

    async def codes(self, uri: str) -> list[str]:
        return sorted(str(found.code) for found in await self.shown(uri))

    async def becomes(self, uri: str, codes: list[str]) -> None:
        """Wait until a document shows these findings without having been edited itself."""
        if self.pulls:
            while sorted(str(found.code) for found in await self.pull(uri)) != codes:
                count = self.client.diagnostic_refresh_count
                await self.until(lambda count=count: self.client.diagnostic_refresh_count > count)
        else:
            await self.until(
                lambda: uri in self.published and sorted(str(d.code) for d in self.published[uri].diagnostics) == codes
            )

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not holds():
                await asyncio.sleep(0.005)

    async def actions(self, uri: str, where: t.Range, *only: str) -> list[t.CodeAction]:
        context = t.CodeActionContext(diagnostics=[], only=list(only) or None)  # type: ignore[arg-type]
        identifier = t.TextDocumentIdentifier(uri)
        found = await self.client.text_document_code_action_async(t.CodeActionParams(identifier, where, context))
        return [action for action in found or [] if isinstance(action, t.CodeAction)]

    def edited(self, action: t.CodeAction, uri: str) -> str:
        """The text of a document after an action."""
        assert action.edit
        if action.edit.document_changes:
            assert self.capabilities.workspace.workspace_edit.document_changes  # type: ignore[union-attr]
            changes = [c for c in action.edit.document_changes if isinstance(c, t.TextDocumentEdit)]
            assert all(c.text_document.version == self.versions[c.text_document.uri] for c in changes)
            edits = [e for c in changes if c.text_document.uri == uri for e in c.edits]
        else:
            edits = list((action.edit.changes or {})[uri])
        text = self.texts[uri]
        lines = text.split("\n")

        def offset(position: t.Position) -> int:
            line = lines[position.line] if position.line < len(lines) else ""
            column = next(i for i in range(len(line) + 1) if self.units(line[:i]) >= position.character)
            return min(sum(len(each) + 1 for each in lines[: position.line]) + column, len(text))

        for edit in sorted(edits, key=lambda e: (e.range.start.line, e.range.start.character), reverse=True):
            assert isinstance(edit, t.TextEdit)
            text = text[: offset(edit.range.start)] + edit.new_text + text[offset(edit.range.end) :]
        return text


@asynccontextmanager
async def editing(
    root: Path, capabilities: t.ClientCapabilities, *, folders: list[Path] | None = None, settings: Any = None
) -> AsyncIterator[Editor]:
    """An editor with a server of its own, which has to leave cleanly."""
    client = make_test_lsp_client()
    if settings is not None:
        client.set_configuration({"gradlint": settings})
    editor = Editor(client, capabilities, root)

    @client.feature(t.CLIENT_REGISTER_CAPABILITY)
    def registered(_: t.RegistrationParams) -> None:
        return None

    def published(params: t.PublishDiagnosticsParams) -> None:
        editor.published[params.uri] = params

    client.protocol.fm.features.pop(t.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)
    client.feature(t.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS)(published)
    await client.start_io(sys.executable, "-m", "gradlint", "server", cwd=ROOT)
    server = client._server
    assert server is not None
    workspace = [t.WorkspaceFolder(folder.as_uri(), folder.name) for folder in ([root] if folders is None else folders)]
    uri = workspace[0].uri if workspace else None
    editor.result = await asyncio.wait_for(
        client.initialize_session(t.InitializeParams(capabilities, root_uri=uri, workspace_folders=workspace)), PATIENCE
    )
    try:
        yield editor
        await asyncio.wait_for(client.shutdown_session(), PATIENCE)
        assert server.returncode == 0
    finally:
        if server.returncode is None:
            server.kill()
        await client.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "helper.py").write_text(HELPER)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "pyproject.toml").write_text("[tool.gradlint]\n")
    return tmp_path


def run(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(scenario, 3 * PATIENCE))


@pytest.mark.parametrize("profile", PROFILES)
def test_session(project: Path, profile: str) -> None:
    """An editing session from opening to leaving: findings, their story, edits, fixes, comments, another file, closing."""

    async def scenario() -> None:
        capabilities = PROFILES[profile]()
        async with editing(project, capabilities) as editor:
            model = editor.open("model.py")
            assert await editor.codes(model) == []

            editor.change(model, MODEL.replace(WHOLE, CUT))
            (found,) = await editor.shown(model)
            assert (found.code, found.source, found.severity) == ("GRD102", "gradlint", t.DiagnosticSeverity.Error)
            assert found.code_description and "GRD102-detach-on-loss-path" in found.code_description.href
            line = next(i for i, text in enumerate(MODEL.split("\n")) if WHOLE in text)
            assert found.range.start.line == line
            if profile == "emacs":  # cannot show related places, so the message tells the way
                assert found.related_information is None
                assert "train.py:11" in found.message
            else:
                places = [
                    (Path(entry.location.uri).name, entry.location.range.start.line) for entry in found.related_information
                ]
                assert places[0] == ("train.py", 10)
                assert places[-1] == ("model.py", line)

            where = t.Position(line, found.range.start.character)
            page = await editor.client.text_document_hover_async(t.HoverParams(t.TextDocumentIdentifier(model), where))
            assert page and isinstance(page.contents, t.MarkupContent)
            assert "detach-on-loss-path" in page.contents.value
            assert "Why is this bad" in page.contents.value

            actions = await editor.actions(model, found.range, "quickfix")
            titles = [action.title for action in actions]
            assert titles[0].endswith("(changes training)")
            assert titles[1:] == ["Disable GRD102 for this line"]
            assert editor.edited(actions[0], model) == MODEL
            silenced = editor.edited(actions[1], model)
            assert "# gradlint: ignore[GRD102]" in silenced
            assert await editor.actions(model, found.range, "source.fixAll") == []  # an unsafe fix is not for all at once

            editor.change(model, silenced)
            assert await editor.codes(model) == []
            editor.change(model, MODEL.replace(WHOLE, CUT))
            assert await editor.codes(model) == ["GRD102"]

            # an edit in a helper cuts what the open model trains
            helper = editor.open("helper.py")
            assert await editor.codes(helper) == []
            editor.change(model, MODEL)
            assert await editor.codes(model) == []
            editor.change(helper, HELPER.replace("def normalise", "@torch.no_grad()\ndef normalise"))
            assert await editor.codes(helper) == ["GRD101"]
            train = editor.open("train.py")
            assert await editor.codes(train) == []
            editor.close(helper)  # the text on disk counts again
            if not editor.pulls:
                await editor.until(lambda: not editor.published[helper].diagnostics)
            assert await editor.codes(model) == []

    run(scenario())


@pytest.mark.parametrize("profile", ["vscode-pull", "vscode-push", "neovim-push"])
def test_dependants_are_updated(project: Path, profile: str) -> None:
    """What is said of an open file follows an edit in another one."""

    async def scenario() -> None:
        async with editing(project, PROFILES[profile]()) as editor:
            step = "    optimizer.step()\n"
            train = editor.open("train.py", TRAIN.replace(step, step + "    net.encoder.requires_grad = False\n"))
            assert await editor.codes(train) == ["GRD206"]
            model = editor.open("model.py")
            assert await editor.codes(model) == []
            editor.change(
                model, MODEL.replace("self.encoder = nn.Linear(4, 4)", "self.encoder = nn.Parameter(torch.ones(4, 4))")
            )
            assert await editor.codes(model) is not None
            await editor.becomes(train, [])
            editor.change(model, MODEL)
            await editor.becomes(train, ["GRD206"])

    run(scenario())


@pytest.mark.parametrize("profile", PROFILES)
def test_columns_after_an_emoji(project: Path, profile: str) -> None:
    """Columns are in the units of the client, whichever of the three they are, and edits arrive where they were made."""
    text = MODEL.replace(f"return {WHOLE}", f'"🙂é"; return {CUT}  # 🙂')

    async def scenario() -> None:
        async with editing(project, PROFILES[profile]()) as editor:
            assert editor.result
            encodings = {"emacs": "utf-32", "neovim-push": "utf-8", "neovim-pull": "utf-8"}
            assert editor.result.capabilities.position_encoding == encodings.get(profile, "utf-16")
            uri = editor.open("model.py", text)
            (found,) = await editor.shown(uri)
            line = text.split("\n")[found.range.start.line]
            start = line.index("normalise(self.encoder")
            end = line.index(".detach()") + len(".detach()")
            assert found.range.start.character == editor.units(line[:start])
            assert found.range.end.character == editor.units(line[:end])
            (fix, silence) = await editor.actions(uri, found.range)
            assert editor.edited(fix, uri) == text.replace(CUT, WHOLE)
            assert "# 🙂  # gradlint: ignore[GRD102]\n" in editor.edited(silence, uri)
            editor.change(uri, text.replace("é", "🙂🙂"))
            (found,) = await editor.shown(uri)
            line = editor.texts[uri].split("\n")[found.range.start.line]
            assert found.range.start.character == editor.units(line[: line.index("normalise(self.encoder")])

    run(scenario())


def test_lines_end_where_the_protocol_says(project: Path) -> None:
    """A form feed ends no line for an editor, nor does a line separator in a string; edits below must land right."""
    text = "\f\nX = '\u2028\x1c'\r\n" + MODEL.replace(WHOLE, CUT)

    async def scenario() -> None:
        async with editing(project, vscode(pull=False)) as editor:
            uri = editor.open("model.py", text)
            (found,) = await editor.shown(uri)
            assert "detach" in text.replace("\r\n", "\n").split("\n")[found.range.start.line]
            editor.change(uri, text.replace(CUT, WHOLE))
            assert await editor.codes(uri) == []
            editor.change(uri, text.replace("class Net", "class Other"))
            assert "GRD001" not in await editor.codes(uri)

    run(scenario())


def test_burst_of_edits(project: Path) -> None:
    """After a burst, one answer about the last text, and none about a text that is gone."""

    async def scenario() -> None:
        async with editing(project, vscode(pull=False)) as editor:
            uri = editor.open("model.py")
            await editor.codes(uri)
            seen: list[tuple[int | None, int]] = []

            def published(params: t.PublishDiagnosticsParams) -> None:
                editor.published[params.uri] = params
                if params.uri == uri:
                    seen.append((params.version, len(params.diagnostics)))

            editor.client.protocol.fm.features[t.TEXT_DOCUMENT_PUBLISH_DIAGNOSTICS] = published
            for number in range(60):
                editor.change(uri, MODEL.replace(WHOLE, CUT if number % 2 else WHOLE) + f"# {number}\n")
                await asyncio.sleep(0.002)
            assert await editor.codes(uri) == ["GRD102"]
            assert len(seen) < 30
            assert all(count == (version or 0) % 2 for version, count in seen), seen

    run(scenario())


def test_safe_fixes_all_at_once(project: Path) -> None:
    """``source.fixAll.gradlint`` does what ``--fix`` does."""
    text = TRAIN.replace("optimizer.step()", "optimizer.step").replace(
        "net = Net()", "net = Net()\nnet.head.requires_grad = False"
    )

    async def scenario() -> None:
        async with editing(project, vscode()) as editor:
            uri = editor.open("train.py", text)
            assert await editor.codes(uri) == ["GRD206", "GRD208"]
            everywhere = t.Range(t.Position(0, 0), t.Position(0, 0))
            (action,) = await editor.actions(uri, everywhere, "source.fixAll.gradlint")
            assert action.kind == "source.fixAll.gradlint"
            fixed = editor.edited(action, uri)
            (project / "train.py").write_text(text)
            command = [sys.executable, "-m", "gradlint", "check", "--fix", "--no-cache", str(project / "train.py")]
            subprocess.run(command, cwd=ROOT, check=False, capture_output=True)
            assert fixed == (project / "train.py").read_text()
            assert [action.kind for action in await editor.actions(uri, everywhere)] == ["source.fixAll.gradlint"]

    run(scenario())


def test_settings_are_read_again(project: Path) -> None:
    """A change of the settings file or of the client's settings holds at once; a mistake is shown where it stands."""

    async def scenario() -> None:
        async with editing(project, vscode(pull=False), settings={}) as editor:
            uri = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(uri) == ["GRD102"]
            toml = project / "pyproject.toml"
            event = t.FileEvent(toml.as_uri(), t.FileChangeType.Changed)

            async def write(text: str) -> None:
                toml.write_text(text)
                editor.client.workspace_did_change_watched_files(t.DidChangeWatchedFilesParams([event]))

            await write('[tool.gradlint]\nignore = ["GRD102"]\n')
            await editor.becomes(uri, [])
            await write('[tool.gradlint]\nignroe = ["GRD102"]\n')
            await editor.until(lambda: bool(toml.as_uri() in editor.published))
            (found,) = editor.published[toml.as_uri()].diagnostics
            assert found.range.start == t.Position(1, 0)
            assert "did you mean ignore" in found.message
            assert not editor.published[uri].diagnostics
            await write("[tool.gradlint]\n")
            await editor.becomes(uri, ["GRD102"])
            assert not editor.published[toml.as_uri()].diagnostics

            for settings, codes in (({"ignore": ["GRD1"]}, []), ({}, ["GRD102"]), ({"enable": False}, []), ({}, ["GRD102"])):
                editor.client.set_configuration({"gradlint": settings})
                editor.client.workspace_did_change_configuration(t.DidChangeConfigurationParams(None))
                await editor.becomes(uri, codes)

    run(scenario())


def test_settings_without_a_watcher(project: Path) -> None:
    """A client that watches no files has its settings read again when something is saved."""

    async def scenario() -> None:
        async with editing(project, neovim(pull=False)) as editor:
            uri = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(uri) == ["GRD102"]
            (project / "pyproject.toml").write_text('[tool.gradlint]\nignore = ["GRD102"]\n')
            editor.save(uri)
            await editor.becomes(uri, [])

    run(scenario())


def test_several_roots(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each folder is a project with settings of its own; folders come and go."""
    other = tmp_path_factory.mktemp("other")
    for name, text in (("helper.py", HELPER), ("model.py", MODEL.replace(WHOLE, CUT)), ("train.py", TRAIN)):
        (other / name).write_text(text)
    (other / "gradlint.toml").write_text('ignore = ["GRD102"]\n')

    async def scenario() -> None:
        async with editing(project, vscode(pull=False), folders=[project, other]) as editor:
            first = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            second = editor.open(str(other / "model.py"))
            assert await editor.codes(first) == ["GRD102"]
            assert await editor.codes(second) == []
            (other / "gradlint.toml").unlink()
            event = t.FileEvent((other / "gradlint.toml").as_uri(), t.FileChangeType.Deleted)
            editor.client.workspace_did_change_watched_files(t.DidChangeWatchedFilesParams([event]))
            await editor.becomes(second, ["GRD102"])
            change = t.WorkspaceFoldersChangeEvent(added=[], removed=[t.WorkspaceFolder(other.as_uri(), "other")])
            editor.client.workspace_did_change_workspace_folders(t.DidChangeWorkspaceFoldersParams(change))
            await editor.becomes(second, [])  # on its own, no training loop is in sight
            assert await editor.codes(first) == ["GRD102"]

    run(scenario())


def test_single_files(project: Path) -> None:
    """Without a folder, only what is open is read: no walk over the disk."""

    async def scenario() -> None:
        async with editing(project, vscode(pull=False), folders=[]) as editor:
            model = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(model) == []
            train = editor.open("train.py")
            assert await editor.codes(train) == []
            await editor.becomes(model, ["GRD102"])
            untitled = "untitled:Untitled-1"
            editor.texts[untitled], editor.versions[untitled] = TRAIN.replace("optimizer.step()", "optimizer.step"), 1
            document = t.TextDocumentItem(untitled, "python", 1, editor.texts[untitled])
            editor.client.text_document_did_open(t.DidOpenTextDocumentParams(document))
            assert await editor.codes(untitled) == ["GRD208"]

    run(scenario())


def test_excluded_files_are_left_alone(project: Path) -> None:
    async def scenario() -> None:
        (project / "pyproject.toml").write_text('[tool.gradlint]\nextend-exclude = ["model.py"]\n')
        async with editing(project, vscode()) as editor:
            uri = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(uri) == []

    run(scenario())


def test_whole_workspace(project: Path) -> None:
    """Where the client wishes it, files that are not open are reported on too."""

    async def scenario() -> None:
        (project / "model.py").write_text(MODEL.replace(WHOLE, CUT))
        async with editing(project, vscode(), settings={"diagnosticMode": "workspace"}) as editor:
            uri = editor.uri("model.py")
            await editor.until(lambda: uri in editor.published and bool(editor.published[uri].diagnostics))
            editor.open("model.py")  # from now on the client asks
            await editor.until(lambda: not editor.published[uri].diagnostics)
            assert await editor.codes(uri) == ["GRD102"]

    run(scenario())


@pytest.mark.parametrize("pull", [False, True])
def test_notebook(project: Path, pull: bool) -> None:
    """Findings of a notebook are shown in its cells, and follow cells that are edited, added, moved and removed."""
    cells = [
        "import torch\nfrom torch import nn\n%matplotlib inline",
        "net = nn.Linear(2, 2)\noptimizer = torch.optim.SGD(net.parameters())",
        "loss = net(torch.ones(1, 2)).sum()\nloss.backward()\noptimizer.step",
    ]

    async def scenario() -> None:
        async with editing(project, vscode(pull=pull)) as editor:
            notebook = editor.uri("play.ipynb")
            uris = [f"vscode-notebook-cell:{notebook.removeprefix('file:')}#c{number}" for number in range(3)]
            documents = [t.TextDocumentItem(uri, "python", 1, text) for uri, text in zip(uris, cells, strict=True)]
            editor.versions.update(dict.fromkeys(uris, 1))
            editor.texts.update(dict(zip(uris, cells, strict=True)))
            kinds = [t.NotebookCell(t.NotebookCellKind.Code, uri) for uri in uris]
            text = t.NotebookCell(t.NotebookCellKind.Markup, f"{uris[0]}m")
            editor.client.notebook_document_did_open(
                t.DidOpenNotebookDocumentParams(t.NotebookDocument(notebook, "jupyter-notebook", 1, [text, *kinds]), documents)
            )
            assert await editor.codes(uris[2]) == ["GRD208"]
            assert await editor.codes(uris[0]) == []
            (found,) = await editor.shown(uris[2])
            assert found.range.start.line == 2
            (fix, silence) = await editor.actions(uris[2], found.range, "quickfix")
            assert editor.edited(fix, uris[2]) == cells[2] + "()"
            assert editor.edited(silence, uris[2]).endswith("optimizer.step  # gradlint: ignore[GRD208]")

            # text edited in a cell
            def change(cells_changed: t.NotebookDocumentCellChanges, version: int) -> None:
                identifier = t.VersionedNotebookDocumentIdentifier(version=version, uri=notebook)
                event = t.NotebookDocumentChangeEvent(cells=cells_changed)
                editor.client.notebook_document_did_change(t.DidChangeNotebookDocumentParams(identifier, event))

            editor.versions[uris[2]] = 2
            whole = t.TextDocumentContentChangeWholeDocument(text=cells[2] + "()")
            content = t.NotebookDocumentCellContentChanges(t.VersionedTextDocumentIdentifier(uri=uris[2], version=2), [whole])
            change(t.NotebookDocumentCellChanges(text_content=[content]), 2)
            assert await editor.codes(uris[2]) == []
            # a new cell before it, with a fault
            new = f"{uris[0]}new"
            editor.versions[new] = 1
            array = t.NotebookCellArrayChange(start=3, delete_count=0, cells=[t.NotebookCell(t.NotebookCellKind.Code, new)])
            item = t.TextDocumentItem(new, "python", 1, "optimizer.zero_grad")
            structure = t.NotebookDocumentCellChangeStructure(array, did_open=[item])
            change(t.NotebookDocumentCellChanges(structure=structure), 3)
            assert await editor.codes(new) == ["GRD208"]
            # and away with it
            array = t.NotebookCellArrayChange(start=3, delete_count=1, cells=[])
            structure = t.NotebookDocumentCellChangeStructure(array, did_close=[t.TextDocumentIdentifier(new)])
            change(t.NotebookDocumentCellChanges(structure=structure), 4)
            if pull:
                assert await editor.pull(new) == []
            else:
                await editor.until(lambda: not editor.published[new].diagnostics)
            identifiers = [t.TextDocumentIdentifier(uri) for uri in uris]
            editor.client.notebook_document_did_close(
                t.DidCloseNotebookDocumentParams(t.NotebookDocumentIdentifier(notebook), identifiers)
            )
            if not pull:
                await editor.until(lambda: not any(editor.published[uri].diagnostics for uri in uris))

    run(scenario())


def test_broken_text_and_back(project: Path) -> None:
    """A text that is no Python says so; what was found in it before is not kept."""

    async def scenario() -> None:
        async with editing(project, vscode(pull=False)) as editor:
            uri = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(uri) == ["GRD102"]
            editor.change(uri, "def broken(:\n")
            assert await editor.codes(uri) == ["GRD001"]
            editor.change(uri, MODEL)
            assert await editor.codes(uri) == []

    run(scenario())


def test_a_crash_leaves_nothing_stale(project: Path) -> None:
    """When the process that analyses dies, findings are worked out anew; nobody has to restart anything."""

    async def scenario() -> None:
        async with editing(project, vscode(pull=False)) as editor:
            uri = editor.open("model.py", MODEL.replace(WHOLE, CUT))
            assert await editor.codes(uri) == ["GRD102"]
            server = editor.client._server
            assert server
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
            if not children.exists():
                pytest.skip("needs /proc to find the process")
            (worker,) = children.read_text().split()
            subprocess.run(["kill", "-9", worker], check=True)
            editor.change(uri, MODEL.replace(WHOLE, CUT) + "\n")
            assert await editor.codes(uri) == ["GRD102"]
            editor.change(uri, MODEL)
            assert await editor.codes(uri) == []

    run(scenario())


def test_server_without_pygls_says_so(project: Path, tmp_path: Path) -> None:
    """One line and exit code 2."""
    code = "import sys; sys.modules['pygls'] = None; import importlib.util as u; find = u.find_spec\n"
    code += "u.find_spec = lambda name, *a: None if name == 'pygls' else find(name, *a)\n"
    code += "from gradlint.cli import main; sys.exit(main(['server']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "gradlint: the language server needs pygls, which is not installed: pip install 'torch-gradlint[lsp]'\n"
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_random_editing(project: Path, seed: int) -> None:
    """Whatever was edited, opened, closed, saved, renamed: no fault on the way, and at the end what the command line says."""
    chance = random.Random(seed)
    snippets = [
        "x.detach()",
        "    with torch.no_grad():\n        pass\n",
        "# 🙂",
        "\n",
        ")",
        "optimizer.step\n",
        "def f(:",
        ".data",
        "\f",
    ]

    async def scenario() -> None:
        async with editing(project, PROFILES[chance.choice(list(PROFILES))]()) as editor:
            names = ["helper.py", "model.py", "train.py"]
            live: dict[str, str] = {}
            for _ in range(120):
                deed = chance.random()
                if deed < 0.15 or not live:
                    name = chance.choice(names)
                    if name not in live:
                        live[name] = editor.open(name)
                elif deed < 0.75:
                    name = chance.choice(list(live))
                    text = editor.texts[live[name]]
                    at = chance.randrange(len(text) + 1)
                    cut = text[at + chance.choice([0, 0, 0, 1, 5]) :]
                    editor.change(live[name], text[:at] + chance.choice(snippets) + cut)
                elif deed < 0.85:
                    original = {"helper.py": HELPER, "model.py": MODEL.replace(WHOLE, CUT), "train.py": TRAIN}
                    name = chance.choice(list(live))
                    editor.change(live[name], original.get(name, MODEL))
                elif deed < 0.92:
                    editor.save(live[chance.choice(list(live))])
                elif deed < 0.97:
                    editor.close(live.pop(chance.choice(list(live))))
                else:
                    old = chance.choice(names)
                    if old in live:
                        editor.close(live.pop(old))
                    new = f"renamed_{chance.randrange(10**6)}.py"
                    (project / old).rename(project / new)
                    names[names.index(old)] = new
                    changes = [
                        t.FileEvent(editor.uri(old), t.FileChangeType.Deleted),
                        t.FileEvent(editor.uri(new), t.FileChangeType.Created),
                    ]
                    editor.client.workspace_did_change_watched_files(t.DidChangeWatchedFilesParams(changes))
                if chance.random() < 0.3:
                    await asyncio.sleep(chance.random() * 0.05)
            for name in names:
                if name not in live:
                    live[name] = editor.open(name)
                editor.save(live[name])
            shown = {}
            for uri in live.values():
                editor.change(uri, editor.texts[uri] + "\n")
                editor.save(uri)
                await asyncio.sleep(0)
            for name, uri in live.items():
                found = await editor.shown(uri)
                shown[name] = sorted((str(d.code), d.range.start.line + 1) for d in found)
            assert not [message.message for message in editor.client.messages if "could not" in message.message]
            command = [sys.executable, "-m", "gradlint", "check", "--no-cache", "--output-format", "json", "."]
            done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=_environment())
            said: dict[str, list[tuple[str, int]]] = {name: [] for name in live}
            for row in json.loads(done.stdout):
                said[row["filename"]].append((row["code"], row["location"]["row"]))
            assert shown == {name: sorted(rows) for name, rows in said.items()}

    run(scenario())


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}
