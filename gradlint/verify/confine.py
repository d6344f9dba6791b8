"""Confines the process that runs user code: namespaces where the system allows them, limits, and an audit hook.

A guard rail against accidents, not a sandbox against malice.  Everything here is for a freshly forked process and cannot be
undone in it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_NEWNS, _NEWUSER, _NEWPID, _NEWNET, _NEWIPC = 0x0002_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0800_0000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
MOST_FORKS = 256
"""Processes that a program may start in all."""

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "MPLBACKEND": "Agg",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
    "GLOO_SOCKET_IFNAME": "lo",
}
"""What keeps well-behaved libraries from asking for the network or a screen."""


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """End this process when its parent ends, where the system can do that."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parents end, where the system can do that."""
    if sys.platform == "linux":
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1)


def unshare() -> bool:
    """Leave the host's network, process and mount namespaces. Whether that worked; the next fork is process 1 of its own."""
    if sys.platform != "linux":
        return False
    user, group = os.getuid(), os.getgid()
    libc = _libc()
    if libc.unshare(_NEWUSER | _NEWNS | _NEWNET | _NEWPID | _NEWIPC):
        return False
    with suppress(OSError):
        Path("/proc/self/setgroups").write_text("deny")
    try:
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    except OSError:
        return True  # files are then seen as nobody's, which is harmless for reading
    with suppress(OSError):
        _raise_loopback()
    return True


def _raise_loopback() -> None:
    """Bring up the loopback device of a new network namespace: distributed training talks to itself through it."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", 0x1 | 0x40))  # SIOCSIFFLAGS: up and running


def overlay(folder: str, scratch: str) -> bool:
    """Lay a writable layer over a folder: what is written there goes to ``scratch``. Needs namespaces. Whether it worked."""
    upper, work = os.path.join(scratch, "upper"), os.path.join(scratch, "work")
    with suppress(FileExistsError):
        os.mkdir(upper)
        os.mkdir(work)
    options = f"lowerdir={folder},upperdir={upper},workdir={work},userxattr"
    if any(sign in folder for sign in ",:\\"):
        return False
    return not _libc().mount(b"overlay", folder.encode(), b"overlay", 0, options.encode())


def own_processes() -> None:
    """Show only the processes of the new namespace; call in its first process."""
    _libc().mount(b"proc", b"/proc", b"proc", 0, None)


def limit(memory: int, seconds: float) -> None:
    """Limit this process and its children: bytes of private memory, seconds of computing, no core dumps."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_DATA, memory)
    _lower(resource.RLIMIT_CPU, int(seconds * (os.cpu_count() or 1)) + 10)
    _lower(resource.RLIMIT_FSIZE, 1 << 32)


def _lower(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(kind, (allowed, allowed))


def default_memory() -> int:
    """Three quarters of the machine's memory, at most 32 GiB, in bytes."""
    try:
        physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 8 << 30
    return min(physical * 3 // 4, 32 << 30)


class Guard:
    """An audit hook that keeps a program off the network and off files that are not its own.

    ``writable``: folders below which it may write.  ``asked``: hosts that it tried to reach.  ``denied``: files that it tried
    to write.  Processes that it forks share the count of forks.
    """

    def __init__(self, writable: Sequence[str]) -> None:
        self.writable = (*(os.path.realpath(folder) + os.sep for folder in writable), "/dev/", "/proc/")
        self.asked: list[str] = []
        self.denied: list[str] = []
        self._forks = mmap.mmap(-1, 8)
        self._handlers: dict[str, Callable[[tuple[Any, ...]], None]] = {
            "open": self._open,
            "os.remove": lambda args: self._write(args[0]),
            "os.rmdir": lambda args: self._write(args[0]),
            "os.mkdir": lambda args: self._write(args[0]),
            "os.rename": lambda args: self._write(args[1]) or self._write(args[0]),  # type: ignore[func-returns-value]
            "os.truncate": lambda args: self._write(args[0]),
            "shutil.rmtree": lambda args: self._write(args[0]),
            "socket.connect": lambda args: self._connect(args[1]),
            "socket.getaddrinfo": lambda args: self._connect((args[0],)),
            "socket.gethostbyname": lambda args: self._connect((args[0],)),
            "os.fork": lambda _: self._fork(),
            "os.forkpty": lambda _: self._fork(),
            "subprocess.Popen": lambda _: self._fork(),
            "os.system": lambda _: self._fork(),
            "os.posix_spawn": lambda _: self._fork(),
            "os.kill": self._kill,
            "os.killpg": self._kill,
        }

    def install(self) -> None:
        """Watch from now on, for the rest of the process."""
        handlers = self._handlers

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is not None:
                handler(arguments)

        sys.addaudithook(hook)

    def _open(self, arguments: tuple[Any, ...]) -> None:
        path, mode, flags = arguments
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND) if isinstance(flags, int) else 0
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            self._write(path)

    def _write(self, path: Any) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        name = os.fsdecode(path)
        parent, leaf = os.path.split(os.path.abspath(name))
        real = os.path.realpath(name) if os.path.islink(name) else os.path.join(os.path.realpath(parent), leaf)
        if not f"{real}{os.sep}".startswith(self.writable):
            self.denied.append(real)
            raise PermissionError(13, "gradlint lets a program write only in its own folder and the scratch folder", name)

    def _connect(self, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) and address else ""
        if isinstance(host, bytes):
            host = host.decode("ascii", "replace")
        if host in ("", None, "localhost", "::1", "0.0.0.0", "::") or str(host).startswith("127."):
            return
        if host in (socket.gethostname(), ""):
            return
        self.asked.append(str(host))
        raise ConnectionError(f"gradlint lets a program reach no network (it asked for {host})")

    def _fork(self) -> None:
        (count,) = struct.unpack("q", self._forks[:8])
        self._forks[:8] = struct.pack("q", count + 1)
        if count >= MOST_FORKS:
            raise PermissionError(f"gradlint lets a program start at most {MOST_FORKS} processes")

    def _kill(self, arguments: tuple[Any, ...]) -> None:
        if arguments[0] in (0, -1, 1):
            raise PermissionError("gradlint lets a program signal only processes of its own")


def mirror(folder: str, scratch: str, most: int = 4000) -> str:
    """A copy of a folder made of links, for a program to run in where nothing can be laid over it. Returns the copy.

    Folders are real down to some depth, so that new files end up in the copy.
    """
    copy = os.path.join(scratch, "run")
    os.mkdir(copy)
    left = most
    pending = [(folder, copy, 0)]
    while pending:
        source, target, depth = pending.pop()
        with suppress(OSError), os.scandir(source) as entries:
            for entry in entries:
                left -= 1
                if left < 0:
                    return copy
                place = os.path.join(target, entry.name)
                if entry.is_dir(follow_symlinks=False) and depth < 3 and not entry.name.startswith("."):
                    os.mkdir(place)
                    pending.append((entry.path, place, depth + 1))
                else:
                    os.symlink(entry.path, place)
    return copy


def kill_descendants(process: int) -> None:
    """Kill a process, its group, and whatever it started that is still there."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)
    with suppress(ProcessLookupError, PermissionError):
        os.kill(process, signal.SIGKILL)


def kill_orphans() -> None:
    """Kill all children of this process, also adopted ones, until there are none."""
    for _ in range(64):
        children = _children(os.getpid())
        if not children:
            return
        for child in children:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        import time

        time.sleep(0.01)


def _children(parent: int) -> list[int]:
    found = []
    with suppress(OSError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    state = Path(f"/proc/{name}/stat").read_text(encoding="utf-8", errors="replace")
                    if int(state.rpartition(")")[2].split()[1]) == parent:
                        found.append(int(name))
    return found
