import { execFile } from "node:child_process";

import * as vscode from "vscode";
import { RevealOutputChannelOn } from "vscode-languageclient";
import { LanguageClient, type LanguageClientOptions, type ServerOptions } from "vscode-languageclient/node";

import { serverCommand, withInterpreter } from "./command";

let client: LanguageClient | undefined;
let log: vscode.LogOutputChannel;
let starting: Promise<void> = Promise.resolve();

export async function activate(context: vscode.ExtensionContext): Promise<void> {
  log = vscode.window.createOutputChannel("gradlint", { log: true });
  context.subscriptions.push(
    log,
    vscode.commands.registerCommand("gradlint.restart", restart),
    vscode.commands.registerCommand("gradlint.showLog", () => log.show()),
    vscode.workspace.onDidChangeConfiguration((event) => {
      if (event.affectsConfiguration("gradlint.path") || event.affectsConfiguration("gradlint.interpreter")) {
        void restart();
      }
    }),
  );
  const python = await pythonExtension();
  const changed = python?.environments?.onDidChangeActiveEnvironmentPath;
  if (changed) {
    context.subscriptions.push(changed(() => void restart()));
  }
  await restart();
}

export async function deactivate(): Promise<void> {
  await starting.catch(() => undefined);
  await client?.dispose();
  client = undefined;
}

/** Start the server, or end it and start it anew; one after the other, however often it is asked for. */
function restart(): Promise<void> {
  starting = starting.catch(() => undefined).then(start);
  return starting;
}

async function start(): Promise<void> {
  await client?.dispose();
  client = undefined;
  const settings = vscode.workspace.getConfiguration("gradlint");
  const found = await serverCommand(
    { path: settings.get<string[]>("path", []), interpreter: settings.get<string[]>("interpreter", []) },
    await selectedInterpreter(),
    hasGradlint,
  );
  log.info(`starting ${[found.command, ...found.args].join(" ")}`);
  const server: ServerOptions = { command: found.command, args: found.args };
  const options: LanguageClientOptions = {
    documentSelector: [
      { scheme: "file", language: "python" },
      { scheme: "untitled", language: "python" },
      { notebook: "*", language: "python" },
    ],
    outputChannel: log,
    revealOutputChannelOn: RevealOutputChannelOn.Never,
    diagnosticPullOptions: { onChange: true, onSave: true, onTabs: false },
    middleware: {
      workspace: {
        configuration: async (params, token, next) => {
          const sections = await next(params, token);
          if (!Array.isArray(sections)) {
            return sections;
          }
          const interpreter = await selectedInterpreter();
          return sections.map((section, index) =>
            params.items[index]?.section === "gradlint" ? withInterpreter(section, interpreter) : section,
          );
        },
      },
    },
  };
  client = new LanguageClient("gradlint", "gradlint", server, options);
  try {
    await client.start();
  } catch (error) {
    log.error(String(error));
    const how = "Install it where your project's Python is: pip install 'torch-gradlint[lsp]'.";
    const answer = await vscode.window.showErrorMessage(`gradlint does not start. ${how}`, "Show the log");
    if (answer) {
      log.show();
    }
  }
}

// The Python extension ------------------------------------------------------------------------------------------------

interface PythonApi {
  readonly environments?: {
    readonly onDidChangeActiveEnvironmentPath?: vscode.Event<unknown>;
    getActiveEnvironmentPath(resource?: vscode.Uri): { readonly path: string };
    resolveEnvironment(environment: {
      readonly path: string;
    }): Promise<{ readonly executable: { readonly uri?: vscode.Uri } } | undefined>;
  };
}

async function pythonExtension(): Promise<PythonApi | undefined> {
  const extension = vscode.extensions.getExtension<PythonApi>("ms-python.python");
  try {
    return extension && (extension.isActive ? extension.exports : await extension.activate());
  } catch (error) {
    log.warn(`the Python extension cannot be asked: ${String(error)}`);
    return undefined;
  }
}

async function selectedInterpreter(): Promise<string[] | undefined> {
  const environments = (await pythonExtension())?.environments;
  if (!environments) {
    return undefined;
  }
  const folder = vscode.workspace.workspaceFolders?.[0]?.uri;
  const found = await environments.resolveEnvironment(environments.getActiveEnvironmentPath(folder));
  const path = found?.executable.uri?.fsPath;
  return path ? [path] : undefined;
}

function hasGradlint(interpreter: readonly string[]): Promise<boolean> {
  const [command, ...options] = interpreter;
  const program = "import importlib.util as u, sys; sys.exit(not (u.find_spec('gradlint') and u.find_spec('pygls')))";
  return new Promise((resolve) => {
    execFile(command ?? "python", [...options, "-c", program], { timeout: 10_000 }, (error) => resolve(!error));
  });
}
