import assert from "node:assert/strict";
import { test } from "node:test";

import { serverCommand, withInterpreter } from "./command";

const unset = { path: [], interpreter: [] };
const has = async () => true;
const hasNot = async () => false;

test("a command that is set wins", async () => {
  const found = await serverCommand({ path: ["/opt/gradlint", "-v"], interpreter: ["python3"] }, ["/venv/python"], has);
  assert.deepEqual(found, { command: "/opt/gradlint", args: ["-v", "server"] });
});

test("an interpreter that is set is used without asking it", async () => {
  const found = await serverCommand({ path: [], interpreter: ["py", "-3.12"] }, ["/venv/python"], hasNot);
  assert.deepEqual(found, { command: "py", args: ["-3.12", "-m", "gradlint", "server"] });
});

test("the selected interpreter is used where it has gradlint", async () => {
  const found = await serverCommand(unset, ["/venv/python"], has);
  assert.deepEqual(found, { command: "/venv/python", args: ["-m", "gradlint", "server"] });
});

test("else the one on the path", async () => {
  assert.deepEqual(await serverCommand(unset, ["/venv/python"], hasNot), { command: "gradlint", args: ["server"] });
  assert.deepEqual(await serverCommand(unset, undefined, has), { command: "gradlint", args: ["server"] });
});

test("the server is told the selected interpreter where none is set", () => {
  assert.deepEqual(withInterpreter({ enable: true, interpreter: [] }, ["/venv/python"]), {
    enable: true,
    interpreter: ["/venv/python"],
  });
  assert.deepEqual(withInterpreter({ interpreter: ["mine"] }, ["/venv/python"]), { interpreter: ["mine"] });
  assert.equal(withInterpreter(null, ["/venv/python"]), null);
});
