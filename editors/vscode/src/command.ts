/** Which command starts the server: what is set, else the interpreter's own gradlint, else the one on the PATH. */

export interface Settings {
  /** `gradlint.path`: a command that is gradlint. */
  readonly path: readonly string[];
  /** `gradlint.interpreter`: a command that is Python. */
  readonly interpreter: readonly string[];
}

export interface Command {
  readonly command: string;
  readonly args: string[];
}

/**
 * @param settings what the person set
 * @param selected the interpreter that the Python extension has selected, if there is one
 * @param hasGradlint whether an interpreter can import gradlint
 */
export async function serverCommand(
  settings: Settings,
  selected: readonly string[] | undefined,
  hasGradlint: (interpreter: readonly string[]) => Promise<boolean>,
): Promise<Command> {
  const [own, ...rest] = settings.path;
  if (own) {
    return { command: own, args: [...rest, "server"] };
  }
  const interpreter = settings.interpreter.length ? settings.interpreter : selected;
  const [python, ...options] = interpreter ?? [];
  if (python && (settings.interpreter.length || (await hasGradlint([python, ...options])))) {
    return { command: python, args: [...options, "-m", "gradlint", "server"] };
  }
  return { command: "gradlint", args: ["server"] };
}

/** The settings that the server is told: those that were set, with the interpreter that would be used where none was. */
export function withInterpreter(section: unknown, selected: readonly string[] | undefined): unknown {
  if (typeof section !== "object" || section === null || !selected?.length) {
    return section;
  }
  const given = (section as { interpreter?: unknown }).interpreter;
  return Array.isArray(given) && given.length ? section : { ...section, interpreter: [...selected] };
}
