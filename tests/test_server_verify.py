"""Verifying from the editor: only when enabled, only when asked, in a process of its own that can be cancelled."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytest_lsp")

from lsprotocol import types as t
from pytest_lsp.client import LanguageClient, client_capabilities, make_test_lsp_client

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30.0

SCRIPT = """\
import torch
from torch import nn

encoder = nn.Linear(4, 4)
head = nn.Linear(4, 2)
optimizer = torch.optim.SGD([*encoder.parameters(), *head.parameters()], lr=0.1)
for step in range(20):
    loss = head(encoder(torch.ones(2, 4)).detach()).sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

# Stands in for the user's Python: answers for gradlint with the verdict it was told, after the time it was told.
STAND_IN = f"""\
#!{sys.executable}
import json, os, pathlib, subprocess, sys, time
here = pathlib.Path(__file__).parent
(here / "asked.json").write_text(json.dumps(sys.argv[1:]))
plan = json.loads((here / "plan.json").read_text())
if "say" in plan:
    sys.exit(plan["say"])
(here / "pid").write_text(str(os.getpid()))
time.sleep(plan.get("seconds", 0))
arguments = ["-m", "gradlint", "check", "--exit-zero", "--no-cache", "--output-format", "json", sys.argv[-1]]
environment = {{**os.environ, "PYTHONPATH": {str(ROOT)!r}}}
rows = json.loads(subprocess.run([sys.executable, *arguments], env=environment, capture_output=True).stdout)
for row in rows:
    row["verdict"], row["evidence"] = plan["verdict"], [{{"text": "`encoder.*`: no gradient"}}]
    row["verification"] = {{"reason": "encoder starves", "driver": "train.py", "device": "cpu", "seconds": 1.0}}
print(json.dumps(rows))
"""


@asynccontextmanager
async def editing(root: Path, settings: dict[str, Any]) -> AsyncIterator[LanguageClient]:
    client = make_test_lsp_client()
    client.set_configuration({"gradlint": settings})
    client.feature(t.CLIENT_REGISTER_CAPABILITY)(lambda *_: None)
    client.feature(t.WORKSPACE_CODE_LENS_REFRESH)(lambda *_: None)
    capabilities = client_capabilities("visual-studio-code")
    await client.start_io(sys.executable, "-m", "gradlint", "server", cwd=ROOT)
    await client.initialize_session(
        t.InitializeParams(capabilities, root_uri=root.as_uri(), workspace_folders=[t.WorkspaceFolder(root.as_uri(), "x")])
    )
    try:
        yield client
        await asyncio.wait_for(client.shutdown_session(), PATIENCE)
        assert client._server and client._server.returncode == 0
    finally:
        if client._server and client._server.returncode is None:
            client._server.kill()
        await client.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "train.py").write_text(SCRIPT)
    (folder / "gradlint.toml").touch()
    python = tmp_path / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)
    return folder


def settings(project: Path, *, enable: bool = True) -> dict[str, Any]:
    return {"interpreter": [str(project.parent / "python")], "verify": {"enable": enable, "timeout": 7}}


def plan(project: Path, **what: Any) -> None:
    (project.parent / "plan.json").write_text(json.dumps(what))


async def until(holds: Any) -> None:
    async with asyncio.timeout(PATIENCE):
        while not holds():
            await asyncio.sleep(0.01)


async def opened(client: LanguageClient, project: Path) -> str:
    uri = (project / "train.py").as_uri()
    client.text_document_did_open(t.DidOpenTextDocumentParams(t.TextDocumentItem(uri, "python", 1, SCRIPT)))
    await until(lambda: client.diagnostics.get(uri))
    return uri


async def lens(client: LanguageClient, uri: str) -> list[t.CodeLens]:
    return list(await client.text_document_code_lens_async(t.CodeLensParams(t.TextDocumentIdentifier(uri))) or [])


def test_nothing_is_offered_unless_enabled(project: Path) -> None:
    async def scenario() -> None:
        plan(project, verdict="confirmed")
        async with editing(project, settings(project, enable=False)) as client:
            uri = await opened(client, project)
            assert await lens(client, uri) == []
            where = client.diagnostics[uri][0].range
            context = t.CodeActionContext(diagnostics=[])
            actions = await client.text_document_code_action_async(
                t.CodeActionParams(t.TextDocumentIdentifier(uri), where, context)
            )
            assert actions and not any("Verify" in action.title for action in actions)
            # asked for all the same, by a client that remembers the command
            arguments = [{"uri": uri, "fingerprint": client.diagnostics[uri][0].data["fingerprint"]}]
            answer = await client.workspace_execute_command_async(
                t.ExecuteCommandParams("gradlint.verify", arguments=arguments)
            )
            assert answer is None
            assert not (project.parent / "asked.json").exists()

    asyncio.run(scenario())


def test_a_verdict_is_shown_until_the_text_changes(project: Path) -> None:
    async def scenario() -> None:
        plan(project, verdict="confirmed")
        async with editing(project, settings(project)) as client:
            uri = await opened(client, project)
            (found,) = await lens(client, uri)
            assert not (project.parent / "asked.json").exists()  # never by itself
            assert found.command
            parameters = t.ExecuteCommandParams(found.command.command, arguments=found.command.arguments)
            answer = await client.workspace_execute_command_async(parameters)
            assert answer == {"verdict": "confirmed", "reason": "encoder starves", "evidence": ["`encoder.*`: no gradient"]}
            asked = json.loads((project.parent / "asked.json").read_text())
            assert asked[:3] == ["-m", "gradlint", "verify"]
            assert asked[asked.index("--timeout") + 1] == "7.0"
            assert asked[-1] == str(project / "train.py")
            await until(lambda: "Confirmed by running the code: encoder starves" in client.diagnostics[uri][0].message)
            where = client.diagnostics[uri][0].range.start
            page = await client.text_document_hover_async(t.HoverParams(t.TextDocumentIdentifier(uri), where))
            assert page and "`encoder.*`: no gradient" in page.contents.value  # type: ignore[union-attr]
            kinds = [type(report).__name__ for reports in client.progress_reports.values() for report in reports]
            assert kinds[-2:] == ["WorkDoneProgressBegin", "WorkDoneProgressEnd"]
            # an edit: what ran is no longer what is shown
            change = t.TextDocumentContentChangeWholeDocument(text=SCRIPT + "# more\n")
            identifier = t.VersionedTextDocumentIdentifier(uri=uri, version=2)
            client.text_document_did_change(t.DidChangeTextDocumentParams(identifier, [change]))
            await until(lambda: "Confirmed" not in client.diagnostics[uri][0].message)
            (found,) = await lens(client, uri)
            parameters = t.ExecuteCommandParams(found.command.command, arguments=found.command.arguments)  # type: ignore[union-attr]
            assert await client.workspace_execute_command_async(parameters) is None
            assert client.messages[-1].message == "Save the file first: what is on disk is what runs."

    asyncio.run(scenario())


def test_a_run_can_be_cancelled(project: Path) -> None:
    async def scenario() -> None:
        plan(project, verdict="confirmed", seconds=60)
        async with editing(project, settings(project)) as client:
            uri = await opened(client, project)
            (found,) = await lens(client, uri)
            parameters = t.ExecuteCommandParams(found.command.command, arguments=found.command.arguments)  # type: ignore[union-attr]
            running = asyncio.create_task(client.workspace_execute_command_async(parameters))
            pid = project.parent / "pid"
            await until(lambda: pid.exists() and pid.read_text())
            # the server answers meanwhile
            where = client.diagnostics[uri][0].range.start
            assert await client.text_document_hover_async(t.HoverParams(t.TextDocumentIdentifier(uri), where))
            (token,) = [token for token in client.progress_reports if "verify" in str(token)]
            client.window_work_done_progress_cancel(t.WorkDoneProgressCancelParams(token))
            assert await asyncio.wait_for(running, PATIENCE) is None
            assert client.messages[-1].message == "The run was cancelled; nothing was decided."
            process = Path("/proc", pid.read_text())
            if Path("/proc/self").exists():
                await until(lambda: not process.exists())

    asyncio.run(scenario())


def test_an_interpreter_without_gradlint_is_named(project: Path) -> None:
    async def scenario() -> None:
        plan(project, say="/usr/bin/python: No module named gradlint")
        async with editing(project, settings(project)) as client:
            uri = await opened(client, project)
            (found,) = await lens(client, uri)
            parameters = t.ExecuteCommandParams(found.command.command, arguments=found.command.arguments)  # type: ignore[union-attr]
            assert await client.workspace_execute_command_async(parameters) is None
            assert client.messages[-1].message.startswith(
                f"gradlint is not installed in {project.parent / 'python'}: pip install"
            )
            plan(project, say="gradlint: no code can be run here: torch is missing")
            assert await client.workspace_execute_command_async(parameters) is None
            assert client.messages[-1].message.endswith("no code can be run here: torch is missing")

    asyncio.run(scenario())


def test_the_code_is_really_run(project: Path) -> None:
    """The whole way, with an interpreter that has torch: the finding is confirmed, with what starves."""
    pytest.importorskip("torch")

    async def scenario() -> None:
        (project.parent / "python").unlink()
        (project.parent / "python").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
        (project.parent / "python").chmod(0o755)
        async with editing(project, {"interpreter": [str(project.parent / "python")], "verify": {"enable": True}}) as client:
            uri = await opened(client, project)
            (found,) = await lens(client, uri)
            assert found.command
            parameters = t.ExecuteCommandParams(found.command.command, arguments=found.command.arguments)
            answer = await asyncio.wait_for(client.workspace_execute_command_async(parameters), 3 * PATIENCE)
            assert answer["verdict"] == "confirmed", answer  # type: ignore[index]
            assert any("encoder" in text for text in answer["evidence"])  # type: ignore[index]
            await until(lambda: "Confirmed by running the code" in client.diagnostics[uri][0].message)

    asyncio.run(scenario())
