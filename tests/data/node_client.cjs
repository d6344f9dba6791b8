// A client made of Microsoft's own protocol package. Arguments: the module folder, the Python to start, the project's folder.
// Prints one JSON object with what it saw.
const { spawn } = require("node:child_process");
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { pathToFileURL } = require("node:url");

const [modules, python, root] = process.argv.slice(2);
const p = require(require.resolve("vscode-languageserver-protocol/node", { paths: [modules] }));

const server = spawn(python, ["-m", "gradlint", "server", "--stdio"], { stdio: ["pipe", "pipe", "inherit"] });
const connection = p.createProtocolConnection(
  new p.StreamMessageReader(server.stdout),
  new p.StreamMessageWriter(server.stdin),
);
const uri = (name) => pathToFileURL(join(root, name)).toString();
const seen = {};
const open = (name) => {
  const text = readFileSync(join(root, name), "utf8");
  connection.sendNotification(p.DidOpenTextDocumentNotification.type, {
    textDocument: { uri: uri(name), languageId: "python", version: 1, text },
  });
  return text;
};
const pull = async (name) => {
  const report = await connection.sendRequest(p.DocumentDiagnosticRequest.type, { textDocument: { uri: uri(name) } });
  return report.items.map((item) => ({ code: item.code, line: item.range.start.line, related: item.relatedInformation }));
};

async function main() {
  connection.listen();
  connection.onRequest(p.RegistrationRequest.type, () => undefined);
  connection.onRequest(p.ConfigurationRequest.type, ({ items }) => items.map(() => ({})));
  const refreshed = new Promise((resolve) => connection.onRequest(p.DiagnosticRefreshRequest.type, () => resolve(true)));
  const { capabilities } = await connection.sendRequest(p.InitializeRequest.type, {
    processId: process.pid,
    rootUri: uri(""),
    workspaceFolders: [{ uri: uri("."), name: "project" }],
    capabilities: {
      textDocument: {
        diagnostic: { dynamicRegistration: true, relatedDocumentSupport: true },
        publishDiagnostics: { relatedInformation: true, dataSupport: true },
      },
      workspace: {
        configuration: true,
        diagnostics: { refreshSupport: true },
        didChangeWatchedFiles: { dynamicRegistration: true },
        workspaceEdit: { documentChanges: true },
      },
    },
  });
  seen.capabilities = Object.keys(capabilities).sort();
  connection.sendNotification(p.InitializedNotification.type, {});
  const model = open("model.py");
  open("helper.py");
  seen.first = await pull("model.py");
  // type fast, then look
  let version = 1;
  const lines = model.split("\n");
  const line = lines.findIndex((text) => text.includes("return self.head"));
  for (const letter of ["#", " ", "a", "b", "c"]) {
    const at = { line, character: lines[line].length };
    connection.sendNotification(p.DidChangeTextDocumentNotification.type, {
      textDocument: { uri: uri("model.py"), version: ++version },
      contentChanges: [{ range: { start: at, end: at }, text: letter }],
    });
    lines[line] += letter;
  }
  seen.burst = await pull("model.py");
  const where = { start: { line, character: 0 }, end: { line, character: lines[line].length } };
  const actions = await connection.sendRequest(p.CodeActionRequest.type, {
    textDocument: { uri: uri("model.py") },
    range: where,
    context: { diagnostics: [] },
  });
  seen.actions = actions.map((action) => action.title);
  seen.edit = actions[0].edit;
  connection.sendNotification(p.DidChangeTextDocumentNotification.type, {
    textDocument: { uri: uri("helper.py"), version: 2 },
    contentChanges: [{ text: "import torch\n\n\n@torch.no_grad()\ndef normalise(x):\n    return x / x.norm()\n" }],
  });
  seen.refreshed = await refreshed;
  seen.helper = await pull("helper.py");
  await connection.sendRequest(p.ShutdownRequest.type);
  const left = new Promise((resolve) => server.on("exit", resolve));
  connection.sendNotification(p.ExitNotification.type);
  seen.status = await left;
  console.log(JSON.stringify(seen));
}

main().then(
  () => process.exit(0),
  (error) => {
    console.error(error);
    server.kill();
    process.exit(1);
  },
);
