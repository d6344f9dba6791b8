"""Runs the programs of rule pages and watches what trains. Run as ``python -m gradlint.testing.harness``.

One JSON request a line on standard input, one JSON answer a line on standard output.  Each program runs in a process forked
from one that has torch loaded, because importing torch takes longer than all else together.  The programs are our own:
this is no sandbox.

Request:  ``{"folder": …, "entry": "main.py", "watch": ["model.encoder", …], "timeout": 20}``.
Answer:   ``{"error": "" or "Type: text", "output": …, "steps": n, "objects": {"model.encoder": {…}}}``.

What is said of a watched object (all booleans are over its parameters, or the tensor itself):
``parameters``: how many; ``with_grad``: names whose ``.grad`` is there at the end; ``nonzero_grad``: those with a gradient that
is not all zeros; ``changed``: names that differ from what they were before the first forward, backward or step that met them;
``watched``: whether each was met before the end;
``moved_frozen``: names that an optimizer step changed while they did not require grad; ``trainable``: names that require
grad at the end; ``buffers``, ``changed_buffers``; ``optimized``: names found in an optimizer; ``training``: the mode.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Watcher:
    """Notes what happens to the watched objects of a running program.

    Objects are looked up by name in the program's module, at the first forward, backward or optimizer step, so a page's
    program makes them at module level before it trains.
    """

    def __init__(self, names: list[str], namespace: dict[str, Any]) -> None:
        # By name, not by statement: nothing outside gradlint.verify imports torch.
        self.torch = importlib.import_module("torch")
        self.names = names
        self.namespace = namespace
        self.first: dict[str, dict[int, tuple[Any, Any]]] = {name: {} for name in names}
        self.before: list[tuple[str, str, Any, Any]] = []
        self.moved_frozen: dict[str, set[str]] = {name: set() for name in names}
        self.optimizers: list[Any] = []
        self.steps = 0

    def install(self) -> None:
        """Hook in. Only in a process that runs one program and ends: nothing is ever unhooked."""
        modules = importlib.import_module("torch.nn.modules.module")
        modules.register_module_forward_pre_hook(lambda _module, _inputs: self.snapshot())
        optimizers = importlib.import_module("torch.optim.optimizer")
        optimizers.register_optimizer_step_pre_hook(lambda optimizer, _args, _kwargs: self.before_step(optimizer))
        optimizers.register_optimizer_step_post_hook(lambda _optimizer, _args, _kwargs: self.after_step())
        backward: Callable[..., None] = self.torch.autograd.backward

        def watched_backward(*args: Any, **kwargs: Any) -> None:
            self.snapshot()
            backward(*args, **kwargs)

        self.torch.autograd.backward = watched_backward

    def find(self, name: str) -> Any:
        """The object a dotted name stands for now, or None."""
        parts = name.split(".")
        value: Any = self.namespace.get(parts[0])
        for part in parts[1:]:
            value = value[int(part)] if part.isdigit() else getattr(value, part, None)
        return value

    def parameters(self, value: Any) -> dict[str, Any]:
        """The parameters below an object; a tensor is its own."""
        if isinstance(value, self.torch.nn.Module):
            return dict(value.named_parameters())
        return {"": value} if isinstance(value, self.torch.Tensor) else {}

    def buffers(self, value: Any) -> dict[str, Any]:
        """The buffers below a module."""
        return dict(value.named_buffers()) if isinstance(value, self.torch.nn.Module) else {}

    def snapshot(self) -> None:
        """Keep the values of every watched tensor not seen before (and the tensor, so that its id stays its own)."""
        for name in self.names:
            value = self.find(name)
            for tensor in (*self.parameters(value).values(), *self.buffers(value).values()):
                if id(tensor) not in self.first[name]:
                    self.first[name][id(tensor)] = tensor, tensor.detach().clone()

    def before_step(self, optimizer: Any) -> None:
        """Keep what is frozen now."""
        self.snapshot()
        self.steps += 1
        if not any(optimizer is other for other in self.optimizers):
            self.optimizers.append(optimizer)
        self.before = [
            (name, key, tensor, tensor.detach().clone())
            for name in self.names
            for key, tensor in self.parameters(self.find(name)).items()
            if not tensor.requires_grad
        ]

    def after_step(self) -> None:
        """Note what was frozen and moved all the same."""
        for name, key, tensor, value in self.before:
            if not self.torch.equal(tensor.detach(), value):
                self.moved_frozen[name].add(key)

    def report(self, name: str) -> dict[str, Any]:
        """What the answer says of one object."""
        value = self.find(name)
        if value is None:
            return {"unknown": True}
        parameters = self.parameters(value)
        buffers = self.buffers(value)
        grads = {key: tensor.grad for key, tensor in parameters.items() if tensor.is_leaf and tensor.grad is not None}
        first = self.first[name]
        changed = {
            key
            for key, tensor in (*parameters.items(), *buffers.items())
            if id(tensor) in first and not self.torch.equal(tensor.detach(), first[id(tensor)][1])
        }
        held = [*self.optimizers, *(x for x in self.namespace.values() if isinstance(x, self.torch.optim.Optimizer))]
        optimized = {id(tensor) for optimizer in held for group in optimizer.param_groups for tensor in group["params"]}
        return {
            "parameters": len(parameters),
            "with_grad": sorted(grads),
            "nonzero_grad": sorted(key for key, grad in grads.items() if bool(grad.ne(0).any())),
            "watched": all(id(tensor) in first for tensor in parameters.values()),
            "changed": sorted(changed & set(parameters)),
            "moved_frozen": sorted(self.moved_frozen[name]),
            "trainable": sorted(key for key, tensor in parameters.items() if tensor.requires_grad),
            "buffers": len(buffers),
            "changed_buffers": sorted(changed & set(buffers)),
            "optimized": sorted(key for key, tensor in parameters.items() if id(tensor) in optimized),
            "training": bool(getattr(value, "training", False)),
        }


def observe(folder: Path, entry: str, watch: list[str]) -> dict[str, Any]:
    """Run ``entry`` in ``folder`` as ``__main__`` in this process, and say what was seen. Leaves the process changed."""
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    module = types.ModuleType("__main__")
    module.__file__ = str(folder / entry)
    sys.modules["__main__"] = module
    watcher = Watcher(watch, module.__dict__)
    watcher.torch.manual_seed(0)
    watcher.install()
    error = ""
    try:
        exec(compile((folder / entry).read_text(encoding="utf-8"), entry, "exec"), module.__dict__)
    except BaseException as trouble:
        if not (isinstance(trouble, SystemExit) and trouble.code in (0, None)):
            error = f"{type(trouble).__name__}: {trouble}"
            traceback.print_exc()
    return {"error": error, "steps": watcher.steps, "objects": {name: watcher.report(name) for name in watch}}


def observe_forked(request: dict[str, Any]) -> dict[str, Any]:
    """``observe`` in a forked child, with a time limit in seconds."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: PTH123, SIM115 - for the rest of this process
            answer = observe(Path(request["folder"]), request["entry"], request["watch"])
            sys.stdout.flush()
            sys.stderr.flush()
            with os.fdopen(writing, "w", encoding="utf-8") as stream:
                json.dump(answer, stream)
            os._exit(0)
        os.close(writing)
        data = _read(reading, float(request["timeout"]))
        os.close(reading)
        if data is None:
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        output.seek(0)
        text = output.read().decode("utf-8", "replace")
    if data is None:
        return {"error": f"TimeoutError: no answer within {request['timeout']} s", "output": text, "steps": 0, "objects": {}}
    if not data:
        return {"error": f"ChildProcessError: ended with status {status}", "output": text, "steps": 0, "objects": {}}
    return {"output": text, **json.loads(data)}


def _read(descriptor: int, timeout: float) -> bytes | None:
    """All bytes until the end of the stream, or None after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    data = b""
    while True:
        ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        chunk = os.read(descriptor, 65536)
        if not chunk:
            return data
        data += chunk


def main() -> None:
    """Serve requests until standard input ends."""
    torch = importlib.import_module("torch")
    # A process forked from one that has used two threads hangs in its first matrix product.
    torch.set_num_threads(1)
    # The first step imports half of torch again; let the children inherit it.
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter])
    parameter.sum().backward()
    optimizer.step()
    for line in sys.stdin:
        print(json.dumps(observe_forked(json.loads(line))), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        main()
