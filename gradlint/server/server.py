"""The server itself: what the client says and asks, and what is answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.workspace import Workspace

from gradlint import __version__
from gradlint.server import present, settings
from gradlint.server.analyst import Analyst
from gradlint.server.documents import Document, Documents
from gradlint.server.opened import NOTEBOOK, Opened, path_of
from gradlint.server.present import FIX_ALL, SOURCE, Abilities, Verdict
from gradlint.server.project import Project
from gradlint.server.rows import Place, Row
from gradlint.server.settings import ClientSettings
from gradlint.server.verification import VERIFY, Unverified, verified
from gradlint.server.wire import Forget, Home
from gradlint.survey.discover import CONFIG_NAMES, nearest_settings

log = logging.getLogger(__name__)

STALE = 2.0
"""Seconds after which a client that cannot tell of changes on disk is not trusted to have seen them."""

_MANY = 200  # finished handlers that pygls may hold on to

_WATCHED = ("**/*.py", "**/*.pyi", "**/*.ipynb", "**/*.toml", "**/.gitignore", "**/*baseline*.json")
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>\d+):(?P<column>\d+): (?P<message>.+)", re.DOTALL)


class Server(LanguageServer):
    """gradlint in the editor."""

    def __init__(self) -> None:
        python = types.NotebookCellLanguage(language="python")
        notebooks = types.NotebookDocumentSyncOptions(
            notebook_selector=[
                types.NotebookDocumentFilterWithNotebook(notebook="jupyter-notebook", cells=[python]),
                types.NotebookDocumentFilterWithNotebook(
                    notebook=types.NotebookDocumentFilterPattern(pattern="**/*.ipynb"), cells=[python]
                ),
            ],
            save=True,
        )
        super().__init__(
            "gradlint",
            __version__,
            text_document_sync_kind=types.TextDocumentSyncKind.Incremental,
            notebook_document_sync=notebooks,
            max_workers=2,  # pygls reads standard input with one of them; nothing else runs there
        )
        self.analyst = Analyst()
        self.projects: dict[Home, Project] = {}
        self.opened: dict[str, tuple[Opened, Project | None]] = {}  # by unquoted address
        self.abilities = Abilities()
        self.pulls = False
        self.verdicts: dict[tuple[Path, str], tuple[tuple[Any, ...], Verdict]] = {}
        self.client_settings = ClientSettings()
        self.folder_settings: dict[Path, ClientSettings] = {}
        self.ready = asyncio.Event()
        self.watching = False
        self._looked = 0.0
        self._published: dict[str, list[types.Diagnostic]] = {}
        self._owners: dict[str, Project] = {}  # who published at an address
        self._results: dict[str, tuple[list[types.Diagnostic], str]] = {}
        self._result_ids = itertools.count(1)
        self._told: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    # Housekeeping ----------------------------------------------------------------------------------------------------

    def report_server_error(self, error: Exception, source: Any) -> None:
        """Write what went wrong to the log. Telling the client may be what went wrong."""
        log.error("%s", error, exc_info=error)

    @property
    def documents(self) -> Documents:
        """The open documents."""
        return cast(Documents, self.workspace)

    def later(self, work: Any) -> None:
        """Run a coroutine beside what is going on."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s", error, exc_info=error)

    def can(self, path: str) -> Any:
        """A capability of the client by its dotted name; None without it."""
        found: Any = self.client_capabilities
        for name in path.split("."):
            found = getattr(found, name, None)
        return found

    def tell(self, message: str, kind: types.MessageType = types.MessageType.Warning) -> None:
        """Show a message, once."""
        if message not in self._told:
            self._told.add(message)
            self.window_show_message(types.ShowMessageParams(kind, message))

    @contextlib.asynccontextmanager
    async def working(self, title: str = "gradlint reads the project", after: float = 1.0) -> AsyncIterator[None]:
        """Show the client that something takes its time, after so many seconds."""
        if not self.can("window.work_done_progress"):
            yield
            return
        token = f"gradlint-{next(self._result_ids)}"
        begun = False

        async def show() -> None:
            nonlocal begun
            await asyncio.sleep(after)
            await self.work_done_progress.create_async(token)
            self.work_done_progress.begin(token, types.WorkDoneProgressBegin(title=title))
            begun = True

        task = asyncio.create_task(show())
        try:
            yield
        finally:
            task.cancel()
            if begun:
                self.work_done_progress.end(token, types.WorkDoneProgressEnd())
            self.work_done_progress.tokens.pop(token, None)

    # Projects --------------------------------------------------------------------------------------------------------

    def folder_of(self, path: Path) -> Path | None:
        """The innermost workspace folder that a file lies in."""
        folders = (place for uri in self.workspace.folders if (place := path_of(self.workspace.folders[uri].uri)) is not None)
        holding = [folder for folder in folders if path.is_relative_to(folder)]
        return max(holding, key=lambda folder: len(folder.parts), default=None)

    def settings_of(self, folder: Path | None) -> ClientSettings:
        """What the client sets for a workspace folder."""
        return self.folder_settings.get(folder, self.client_settings) if folder is not None else self.client_settings

    def home_of(self, path: Path) -> Home | None:
        """The project that a file belongs to; None where nothing is to be reported."""
        folder = self.folder_of(path)
        chosen = self.settings_of(folder)
        if not chosen.enable:
            return None
        named = chosen.file(folder)
        found = named or nearest_settings(path.parent)
        if folder is None:
            return Home(path.parent, found, chosen.overrides, whole=False)
        inside = found is not None and named is None and found.parent.is_relative_to(folder)
        return Home(found.parent if inside and found is not None else folder, found, chosen.overrides)

    def project(self, home: Home) -> Project:
        """A project, new or known."""
        project = self.projects.get(home)
        if project is None:
            encoding = Document("", "", position_codec=self.documents.position_codec).encoding
            project = Project(home, self.analyst, self.documents, encoding, self.show, self.working)
            project.everything = home.whole and self.settings_of(self.folder_of(home.root)).mode == settings.ALL
            self.projects[home] = project
        return project

    def opens(self, opened: Opened) -> None:
        """A file or notebook was opened."""
        self._looked = time.monotonic()
        key = unquote(opened.uri)
        home = self.home_of(opened.path) if self.ready.is_set() else None
        project = self.project(home) if home is not None else None
        self.opened[key] = (opened, project)
        if project is not None:
            project.open[opened.path] = opened
            project.touch(refresh=True)

    def closes(self, uri: str) -> None:
        """A file or notebook was closed."""
        opened, project = self.opened.pop(unquote(uri), (None, None))
        if opened is None or project is None:
            return
        project.open.pop(opened.path, None)
        for address in [address for address, owner in self._owners.items() if owner is project]:
            if address == uri or self._is_cell(address, opened):
                self.publish(project, address, None, [])
        for key in [key for key in self.verdicts if key[0] == opened.path]:
            del self.verdicts[key]
        if project.open or project.everything:
            project.touch(refresh=True)
        elif not project.home.whole:
            self.drop(project)
        else:
            project.touch(refresh=True)

    def _is_cell(self, address: str, opened: Opened) -> bool:
        return opened.notebook and address.startswith(("vscode-notebook-cell:", f"{opened.uri}#"))

    def drop(self, project: Project) -> None:
        """Forget a project."""
        project.close()
        self.projects.pop(project.home, None)
        for address in [address for address, owner in self._owners.items() if owner is project]:
            self.publish(project, address, None, [])
        self.analyst.forget(Forget(project.home))

    def rehome(self, *, reload: bool = False) -> None:
        """See anew which project each open document belongs to, and have all of them analysed."""
        self._looked = time.monotonic()
        for key, (opened, before) in list(self.opened.items()):
            home = self.home_of(opened.path)
            after = self.project(home) if home is not None else None
            if after is not before:
                if before is not None:
                    before.open.pop(opened.path, None)
                if after is not None:
                    after.open[opened.path] = opened
                    after.touch(refresh=True)
                self.opened[key] = (opened, after)
        for uri in list(self.workspace.folders):
            folder = path_of(self.workspace.folders[uri].uri)
            if folder is not None and self.settings_of(folder).mode == settings.ALL:
                home = self.home_of(folder / "any.py")
                if home is not None:
                    self.project(home).touch(refresh=True)
        for project in list(self.projects.values()):
            wanted = self.settings_of(self.folder_of(project.home.root))
            project.everything = project.home.whole and wanted.mode == settings.ALL and wanted.enable
            if not project.open and not project.everything:
                self.drop(project)
            else:
                project.touch(refresh=True, reload=reload)

    def touch(self, uri: str, *, typing: bool = False, refresh: bool = False) -> None:
        """Something about an open document changed."""
        _, project = self.opened.get(unquote(uri), (None, None))
        if project is None:
            return
        if not self.watching and time.monotonic() - self._looked > STALE:
            refresh = True
            self._looked = time.monotonic()
        project.touch(typing=typing, refresh=refresh)
        self._sweep()

    def _sweep(self) -> None:
        """Drop the futures of notifications that were handled long ago; pygls keeps each of them for good."""
        futures = self.protocol._request_futures
        if len(futures) > _MANY:
            for key in [key for key, future in futures.items() if future.done()]:
                del futures[key]

    # Showing ---------------------------------------------------------------------------------------------------------

    def address(self, place: Place) -> str:
        """The address of the document that a place is in, as the client knows it."""
        for opened, _ in self.opened.values():
            if opened.path == place.path:
                return opened.address(place.cell, self.documents)
        return place.path.as_uri()

    def rows_at(self, uri: str) -> list[Row]:
        """What was found in a document (a file or a notebook's cell), if it is about the text as it is now."""
        opened, project = self.holder(uri)
        if opened is None or project is None or project.shown.get(opened.path) != opened.versions(self.documents):
            return []
        return [row for row in project.rows.get(opened.path, ()) if unquote(self.address(row.place)) == unquote(uri)]

    def holder(self, uri: str) -> tuple[Opened | None, Project | None]:
        """The open file or notebook that a document is or belongs to, and its project."""
        notebook = self.workspace.get_notebook_document(cell_uri=uri)
        return self.opened.get(unquote(notebook.uri if notebook is not None else uri), (None, None))

    def verdict(self, row: Row) -> Verdict | None:
        """What running the code said of a finding, as long as its file is as it was."""
        versions, verdict = self.verdicts.get((row.place.path, row.fingerprint), ((), None))
        if verdict is None:
            return None
        opened = next((opened for opened, _ in self.opened.values() if opened.path == row.place.path), None)
        return verdict if opened is not None and opened.versions(self.documents) == versions else None

    def diagnostics(self, uri: str) -> list[types.Diagnostic]:
        """The diagnostics of an open document."""
        return [present.diagnostic(row, self.address, self.abilities, self.verdict(row)) for row in self.rows_at(uri)]

    def show(self, project: Project) -> None:
        """Bring what the client shows of a project up to date."""
        answer = project.answer
        for level, note in answer.notes:
            if level != "info":
                log.warning("%s", note)
        if answer.trouble:
            self.tell(f"gradlint could not analyse {project.home.root}: {answer.trouble}", types.MessageType.Error)
        ours: dict[str, tuple[int | None, list[types.Diagnostic]]] = {}
        asked = project.waited_for()
        for opened in project.open.values():
            for document in opened.documents(self.documents):
                ours[document.uri] = document.version, self.diagnostics(document.uri)
        changed = False
        if self.pulls:
            for uri, (_, found) in ours.items():
                changed = self.result(uri, found)[1] or changed
        else:
            for uri, (version, found) in ours.items():
                self.publish(project, uri, version, found)
        pushed = set() if self.pulls else set(ours)
        for path, rows in project.rows.items():
            if path not in project.open:
                uri = path.as_uri()
                pushed.add(uri)
                self.publish(project, uri, None, [present.diagnostic(row, self.address, self.abilities, None) for row in rows])
        if answer.misconfigured:
            pushed.add(self._show_misconfigured(project))
        for uri in [uri for uri, owner in self._owners.items() if owner is project and uri not in pushed]:
            self.publish(project, uri, None, [])
        if self.pulls and changed and not asked:
            self.later(self._refresh_diagnostics())
        if self.settings_of(self.folder_of(project.home.root)).verify and self.can("workspace.code_lens.refresh_support"):
            self.later(self._refresh_lenses())

    def _show_misconfigured(self, project: Project) -> str:
        """Say in the settings file, and once aloud, why it cannot be used; returns its address."""
        why = project.answer.misconfigured
        self.tell(f"gradlint: {why}", types.MessageType.Error)
        match = _PLACE.fullmatch(why)
        file = project.home.settings or project.home.root / "pyproject.toml"
        line, message = (int(match["line"]) - 1, match["message"]) if match else (0, why)
        column = int(match["column"]) - 1 if match else 0
        where = types.Range(types.Position(line, column), types.Position(line, column + 1))
        found = types.Diagnostic(where, message, severity=types.DiagnosticSeverity.Error, source=SOURCE)
        self.publish(project, file.as_uri(), None, [found])
        return file.as_uri()

    def publish(self, project: Project, uri: str, version: int | None, found: list[types.Diagnostic]) -> None:
        """Push the diagnostics of a document, unless the client has just these for this version."""
        if version is None and self._published.get(uri, []) == found:
            if not found:
                self._published.pop(uri, None)
                self._owners.pop(uri, None)
            return
        if found or version is not None:
            self._published[uri] = found
            self._owners[uri] = project
        else:
            self._published.pop(uri, None)
            self._owners.pop(uri, None)
        self.text_document_publish_diagnostics(types.PublishDiagnosticsParams(uri, found, version))

    def result(self, uri: str, found: list[types.Diagnostic]) -> tuple[str, bool]:
        """The name of a result that the client pulls, and whether it differs from the last one."""
        kept = self._results.get(uri)
        if kept is not None and kept[0] == found:
            return kept[1], False
        name = str(next(self._result_ids))
        self._results[uri] = found, name
        return name, True

    async def _refresh_diagnostics(self) -> None:
        with contextlib.suppress(JsonRpcException, asyncio.CancelledError):
            await self.workspace_diagnostic_refresh_async(None)

    async def _refresh_lenses(self) -> None:
        with contextlib.suppress(JsonRpcException, asyncio.CancelledError):
            await self.workspace_code_lens_refresh_async(None)

    # Settings --------------------------------------------------------------------------------------------------------

    async def read_settings(self) -> None:
        """Ask the client for its settings, if it can be asked."""
        if not self.can("workspace.configuration"):
            return
        folders = [folder for uri in list(self.workspace.folders) if (folder := self.workspace.folders.get(uri)) is not None]
        items = [types.ConfigurationItem(scope_uri=folder.uri, section=SOURCE) for folder in folders]
        items.append(types.ConfigurationItem(section=SOURCE))
        try:
            sections = await asyncio.wait_for(self.workspace_configuration_async(types.ConfigurationParams(items)), 10)
        except (JsonRpcException, TimeoutError) as error:
            log.warning("the client gave no settings: %s", error)
            return
        if len(sections) != len(items):
            return
        if sections[-1] is not None:
            self.client_settings = settings.read(sections[-1])
        self.folder_settings = {
            path: settings.read(section)
            for folder, section in zip(folders, sections, strict=False)
            if section is not None and (path := path_of(folder.uri)) is not None
        }


def build() -> Server:
    """A server with all its handlers."""
    server = Server()
    _lifecycle(server)
    _texts(server)
    _questions(server)
    return server


# The beginning and the end -------------------------------------------------------------------------------------------


def _lifecycle(server: Server) -> None:
    @server.feature(types.INITIALIZE)
    def initialize(params: types.InitializeParams) -> None:
        base: Workspace = server.protocol.workspace
        folders = list(params.workspace_folders or [])
        if not folders and base.root_uri:
            folders = [types.WorkspaceFolder(base.root_uri, "")]
        server.protocol._workspace = Documents(base.root_uri, base._sync_kind, folders, base.position_encoding)
        options = params.initialization_options
        if isinstance(options, dict):
            server.client_settings = settings.read(options.get("settings", options))
        published = server.can("text_document.publish_diagnostics")
        formats = server.can("text_document.hover.content_format")
        server.abilities = Abilities(
            related=bool(getattr(published, "related_information", False)),
            data=bool(getattr(published, "data_support", False)),
            markdown=formats is None or types.MarkupKind.Markdown in formats,
            versioned_edits=bool(server.can("workspace.workspace_edit.document_changes")),
        )
        # A client that cannot be told to ask again would keep what a change in another file made untrue.
        asks = server.can("text_document.diagnostic") is not None
        server.pulls = asks and bool(server.can("workspace.diagnostics.refresh_support"))
        if server.pulls:
            options = types.DiagnosticOptions(inter_file_dependencies=True, workspace_diagnostics=False, identifier=SOURCE)
            server.feature(types.TEXT_DOCUMENT_DIAGNOSTIC, options)(_pull(server))

    @server.feature(types.INITIALIZED)
    async def initialized(_: types.InitializedParams) -> None:
        registrations = []
        if server.can("workspace.did_change_watched_files.dynamic_registration"):
            watchers = [types.FileSystemWatcher(glob_pattern=pattern) for pattern in _WATCHED]
            registrations.append(
                types.Registration(
                    "gradlint-files",
                    types.WORKSPACE_DID_CHANGE_WATCHED_FILES,
                    types.DidChangeWatchedFilesRegistrationOptions(watchers),
                )
            )
        if server.can("workspace.did_change_configuration.dynamic_registration"):
            registrations.append(
                types.Registration(
                    "gradlint-settings",
                    types.WORKSPACE_DID_CHANGE_CONFIGURATION,
                    types.DidChangeConfigurationRegistrationOptions(section=SOURCE),
                )
            )
        if registrations:
            try:
                await server.client_register_capability_async(types.RegistrationParams(registrations))
                server.watching = any(entry.id == "gradlint-files" for entry in registrations)
            except JsonRpcException as error:
                log.warning("the client refused to register: %s", error)
        server.later(server.analyst.start())  # while the client says what it wants
        await server.read_settings()
        server.ready.set()
        server.rehome()

    @server.feature(types.SHUTDOWN)
    async def shutdown(_: Any = None) -> None:
        for project in server.projects.values():
            project.close()
        for task in list(server._tasks):
            task.cancel()
        await server.analyst.close()


# What happens to texts -----------------------------------------------------------------------------------------------


def _texts(server: Server) -> None:
    @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
    def opened(params: types.DidOpenTextDocumentParams) -> None:
        document = params.text_document
        path = path_of(document.uri)
        if path is None or path.suffix == NOTEBOOK or (document.language_id != "python" and path.suffix not in (".py", ".pyi")):
            return
        server.opens(Opened(path, document.uri))

    @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
    def changed(params: types.DidChangeTextDocumentParams) -> None:
        server.touch(params.text_document.uri, typing=True)

    @server.feature(types.TEXT_DOCUMENT_DID_SAVE)
    def saved(params: types.DidSaveTextDocumentParams) -> None:
        if not server.watching and server.ready.is_set():
            server.rehome(reload=True)
        else:
            server.touch(params.text_document.uri, refresh=True)

    @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
    def closed(params: types.DidCloseTextDocumentParams) -> None:
        server.closes(params.text_document.uri)

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_OPEN)
    def notebook_opened(params: types.DidOpenNotebookDocumentParams) -> None:
        path = path_of(params.notebook_document.uri)
        if path is not None:
            path = path if path.suffix == NOTEBOOK else path.with_name(path.name + NOTEBOOK)
            server.opens(Opened(path, params.notebook_document.uri, notebook=True))

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CHANGE)
    def notebook_changed(params: types.DidChangeNotebookDocumentParams) -> None:
        server.touch(params.notebook_document.uri, typing=True)

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_SAVE)
    def notebook_saved(params: types.DidSaveNotebookDocumentParams) -> None:
        server.touch(params.notebook_document.uri, refresh=True)

    @server.feature(types.NOTEBOOK_DOCUMENT_DID_CLOSE)
    def notebook_closed(params: types.DidCloseNotebookDocumentParams) -> None:
        server.closes(params.notebook_document.uri)

    @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
    def files_changed(params: types.DidChangeWatchedFilesParams) -> None:
        paths = [path for change in params.changes if (path := path_of(change.uri)) is not None]
        if any(path.suffix in (".toml", ".json") or path.name in (*CONFIG_NAMES, ".gitignore") for path in paths):
            server.rehome(reload=True)
            return
        for project in server.projects.values():
            if any(path.is_relative_to(project.home.root) for path in paths):
                project.touch(refresh=True)

    @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
    async def settings_changed(params: types.DidChangeConfigurationParams) -> None:
        if isinstance(params.settings, dict) and params.settings:
            server.client_settings = settings.read(params.settings.get(SOURCE, params.settings))
        await server.read_settings()
        server.rehome(reload=True)

    @server.feature(types.WORKSPACE_DID_CHANGE_WORKSPACE_FOLDERS)
    async def folders_changed(_: types.DidChangeWorkspaceFoldersParams) -> None:
        await server.read_settings()
        server.rehome()


# What the client asks ------------------------------------------------------------------------------------------------


def _pull(server: Server) -> Callable[[types.DocumentDiagnosticParams], Any]:
    async def pull(params: types.DocumentDiagnosticParams) -> types.DocumentDiagnosticReport:
        uri = params.text_document.uri
        await _settled(server, uri)
        document = server.documents.text_documents.get(unquote(uri))
        found = server.diagnostics(uri) if document is not None else []
        name, _ = server.result(uri, found)
        if params.previous_result_id == name:
            return types.RelatedUnchangedDocumentDiagnosticReport(result_id=name)
        return types.RelatedFullDocumentDiagnosticReport(items=found, result_id=name)

    return pull


async def _settled(server: Server, uri: str) -> None:
    """Wait until what is known of a document is about its text as it is now."""
    await server.ready.wait()
    _, project = server.holder(uri)
    if project is not None:
        await project.settle()


def _questions(server: Server) -> None:
    @server.feature(types.TEXT_DOCUMENT_HOVER)
    async def hover(params: types.HoverParams) -> types.Hover | None:
        uri = params.text_document.uri
        await _settled(server, uri)
        document = server.documents.text_documents.get(unquote(uri))
        if not isinstance(document, Document):
            return None
        return present.hover(server.rows_at(uri), params.position, document, server.address, server.abilities, server.verdict)

    kinds: Iterable[Any] = (types.CodeActionKind.QuickFix.value, FIX_ALL)
    code_actions = types.CodeActionOptions(code_action_kinds=list(kinds))

    @server.feature(types.TEXT_DOCUMENT_CODE_ACTION, code_actions)
    async def actions(params: types.CodeActionParams) -> list[types.CodeAction]:
        uri = params.text_document.uri
        await _settled(server, uri)
        document = server.documents.text_documents.get(unquote(uri))
        return _actions(server, document, params) if isinstance(document, Document) else []

    @server.feature(types.TEXT_DOCUMENT_CODE_LENS)
    async def lenses(params: types.CodeLensParams) -> list[types.CodeLens]:
        uri = params.text_document.uri
        await _settled(server, uri)
        path = path_of(uri)
        if path is None or not server.settings_of(server.folder_of(path)).verify:
            return []
        return [
            types.CodeLens(present.text_range(row.place), _verify_command(row, uri, "Verify by running the code"))
            for row in server.rows_at(uri)
            if row.claims
        ]

    @server.command(VERIFY)
    async def verify(what: Any) -> dict[str, Any] | None:
        if not isinstance(what, dict) or not isinstance(what.get("uri"), str):
            return None
        uri = what["uri"]
        await _settled(server, uri)
        opened, project = server.holder(uri)
        row = next((row for row in server.rows_at(uri) if row.fingerprint == what.get("fingerprint")), None)
        if opened is None or project is None or row is None:
            server.window_show_message(types.ShowMessageParams(types.MessageType.Info, "This finding is no longer there."))
            return None
        chosen = server.settings_of(server.folder_of(opened.path))
        if not chosen.verify:
            return None
        versions = opened.versions(server.documents)
        try:
            verdict = await verified(server, row, opened, project.home, chosen)
        except Unverified as error:
            server.window_show_message(types.ShowMessageParams(types.MessageType.Warning, str(error)))
            return None
        if opened.versions(server.documents) == versions:
            server.verdicts[row.place.path, row.fingerprint] = versions, verdict
            server.show(project)
        server.window_show_message(types.ShowMessageParams(types.MessageType.Info, f"{row.code}: {verdict.sentence()}"))
        return {"verdict": verdict.outcome, "reason": verdict.reason, "evidence": list(verdict.evidence)}


def _verify_command(row: Row, uri: str, title: str) -> types.Command:
    return types.Command(title=title, command=VERIFY, arguments=[{"uri": uri, "fingerprint": row.fingerprint}])


def _actions(server: Server, document: Document, params: types.CodeActionParams) -> list[types.CodeAction]:
    uri, only = params.text_document.uri, params.context.only
    rows = server.rows_at(uri)
    asked = [row for row in rows if present.overlaps(row.place, params.range)]
    found: list[types.CodeAction] = []

    def edit(edits: Iterable[tuple[Place, str]]) -> types.WorkspaceEdit:
        texts = ((server.address(place), types.TextEdit(present.text_range(place), text)) for place, text in edits)
        return present.workspace_edit(texts, lambda other: _version(server, other), server.abilities)

    if present.wants(only, types.CodeActionKind.QuickFix.value):
        for row in asked:
            shown = [present.diagnostic(row, server.address, server.abilities, server.verdict(row))]
            if row.fix is not None:
                found.append(
                    types.CodeAction(
                        present.fix_title(row.fix),
                        kind=types.CodeActionKind.QuickFix,
                        diagnostics=shown,
                        is_preferred=row.fix.safe,
                        edit=edit(row.fix.edits),
                    )
                )
            silence = present.silencing(row, document)
            if silence is not None:
                silenced = present.workspace_edit([(uri, silence)], lambda other: _version(server, other), server.abilities)
                found.append(
                    types.CodeAction(
                        f"Disable {row.code} for this line",
                        kind=types.CodeActionKind.QuickFix,
                        diagnostics=shown,
                        edit=silenced,
                    )
                )
            path = path_of(uri) or row.place.path
            if row.claims and server.settings_of(server.folder_of(path)).verify:
                found.append(
                    types.CodeAction(
                        f"Verify {row.code} by running the code",
                        kind=types.CodeActionKind.QuickFix,
                        diagnostics=shown,
                        command=_verify_command(row, uri, "Verify"),
                    )
                )
    if present.wants(only, FIX_ALL) and (edits := present.safe_edits(rows)):
        found.append(types.CodeAction("Apply all safe fixes of gradlint", kind=cast(Any, FIX_ALL), edit=edit(edits)))
    return found


def _version(server: Server, uri: str) -> int | None:
    document = server.documents.text_documents.get(unquote(uri))
    return document.version if document is not None else None


# Standard input and output -------------------------------------------------------------------------------------------


def serve() -> int:
    """Serve the client at the other end of standard input and output until it is done; returns the exit code."""
    logging.basicConfig(
        level=os.environ.get("GRADLINT_LOG", "WARNING").upper(), stream=sys.stderr, format="%(name)s: %(message)s"
    )
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever prints must not be taken for an answer
    server = build()
    try:
        server.start_io(sys.stdin.buffer, answers)
    finally:
        server.analyst.kill()
    return 0 if server.protocol._shutdown else 1
