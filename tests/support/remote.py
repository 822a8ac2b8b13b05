# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run sessions of clients over channels in memory, with the real crun or with processes of this host.

async with serving(runtime) as place:
    result = await place.run(["cat"], data=b"text")
    assert (result.stdout, result.exit_code) == (b"text", 0)
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import pathlib
import signal
import socket
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.tests.support.channels import MemoryChannel, RemoteClient, remote_pair
from pvecri.daemon.operations import Operations
from pvecri.streaming.channel import ChannelReset, StreamOptions
from pvecri.streaming.remote import RemoteSessions, Runtime
from pvecri.streaming.times import Times
from pvecri.streaming.work import AttachWork, ExecWork

NAP = f"sleep 1000{os.getpid()}"

#: Waits of the endpoint, shorter than real ones.
QUICK = Times(
    size_s=0.05,
    drain_s=0.3,
    gone_s=0.6,
    stopping_s=0.2,
    farewell_s=0.3,
    answer_s=0.1,
    stall_s=0.5,
    linger_s=0.1,
    close_s=5,
)


class LocalRuntime:
    """Runs commands as processes of this host, in the way in which `CrunRuntime` does in containers."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.requests: list[ExecRequest] = []
        self.sessions: list[ExecSession] = []
        #: Raised in place of a session or connection.
        self.error: Exception | None = None
        #: Waited for before a session or connection is made.
        self.before: t.Callable[[], object] = lambda: None
        #: What crun complains of.
        self.complaint = b""
        self.sizes: list[tuple[int, int]] = []
        #: conmon's ends of the connections.
        self.conmons: list[socket.socket] = []
        self.anticipated = 0

    def anticipate(self) -> None:
        self.anticipated += 1

    def exec_session(self, name: str, request: ExecRequest, **options: int) -> ExecSession:
        self.before()
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        handle, pid_file = tempfile.mkstemp(suffix=".pid", dir=self._directory)
        log = os.memfd_create("log")
        os.write(log, self.complaint)
        terminal = side = None
        argv = list(request.args)
        if request.terminal:
            terminal, side = os.openpty()
            if request.terminal_size is not None:
                console.resize(terminal, *request.terminal_size)
            # Its first terminal is the controlling one of a session's leader.
            argv = ["sh", "-c", 'exec "$@" <"$0" >"$0" 2>&1', os.ttyname(side), *argv]
        child = streams.spawn(argv, env={"TERM": "dumb", **request.env_defaults}, **options)
        if side is not None:
            os.close(side)
        with open(handle, "wb") as stream:
            stream.write(str(child.pid).encode())
        session = ExecSession(child, pid_file, log, terminal, name=name, argv=request.args)
        self.sessions.append(session)
        return session

    def attach(self, name: str) -> socket.socket:
        self.before()
        if self.error is not None:
            raise self.error
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.conmons.append(theirs)
        return ours

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        if self.error is not None:
            raise self.error
        self.sizes.append((width, height))


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a client got."""

    stdout: bytes
    stderr: bytes
    error: bytes

    @property
    def status(self) -> dict[str, t.Any]:
        """The status from v4 on."""
        return dict(json.loads(self.error))

    @property
    def exit_code(self) -> int:
        """The exit code in the status; fails for any other failure."""
        status = self.status
        if status["status"] == "Success":
            return 0
        assert status["reason"] == "NonZeroExitCode", status
        (cause,) = status["details"]["causes"]
        assert cause["reason"] == "ExitCode"
        return int(cause["message"])


class Session:
    """One client with the endpoint's task that serves it."""

    def __init__(self, client: RemoteClient, task: asyncio.Task[None]) -> None:
        self.client = client
        self.task = task

    @property
    def stdin(self) -> MemoryChannel:
        assert self.client.stdin is not None
        return self.client.stdin

    @property
    def stdout(self) -> MemoryChannel:
        assert self.client.stdout is not None
        return self.client.stdout

    @property
    def resize(self) -> MemoryChannel:
        assert self.client.resize is not None
        return self.client.resize

    async def send(self, data: bytes, *, chunk: int = 65536) -> None:
        """Write input, and its end."""
        with contextlib.suppress(ChannelReset):
            for start in range(0, len(data), chunk):
                await self.stdin.write(data[start : start + chunk])
            await self.stdin.close_write()

    async def size(self, width: int, height: int) -> None:
        """Tell the size of the terminal."""
        await self.resize.write(json.dumps({"Width": width, "Height": height}).encode() + b"\n")

    async def until(self, words: bytes) -> bytes:
        """Read output until it has these words."""
        found = b""
        while words not in found:
            found += await asyncio.wait_for(self.stdout.read(), 20)
            assert found, "the output has ended"
        return found

    async def result(self) -> Result:
        """Read everything to its end."""
        client = self.client
        out, err, error = await asyncio.wait_for(
            asyncio.gather(*(_all(channel) for channel in (client.stdout, client.stderr, client.error))), 60
        )
        await asyncio.wait_for(self.task, 20)
        return Result(stdout=out, stderr=err, error=error)

    async def lose(self) -> None:
        """Vanish, and wait until the endpoint is through with the session."""
        self.client.link.lose()
        await asyncio.wait_for(self.task, 20)


async def _all(channel: MemoryChannel | None) -> bytes:
    return b"" if channel is None else await channel.read_all()


class Place:
    """An endpoint's sessions."""

    def __init__(self, remote: RemoteSessions, container_id: str) -> None:
        self.remote = remote
        self.container_id = container_id

    def begin(
        self,
        argv: t.Sequence[str],
        *,
        stdin: bool = True,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        protocol: str = "v4",
    ) -> Session:
        """Begin a command."""
        stderr = stderr and not tty
        options = StreamOptions(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        ours, client = remote_pair(options, protocol=protocol)
        work = ExecWork(
            container_id=self.container_id,
            command=tuple(word.replace("NAP", NAP) for word in argv),
            tty=tty,
        )
        task = asyncio.get_running_loop().create_task(self.remote.run_exec(ours, work))
        return Session(client, task)

    def attach(
        self, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, tty: bool = False, **has: bool
    ) -> Session:
        """Begin an attachment; ``has_stdin``, ``stdin_once``, ``has_tty`` are the container's."""
        stderr = stderr and not tty
        ours, client = remote_pair(StreamOptions(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty))
        work = AttachWork(container_id=self.container_id, stdin=stdin, **has)
        task = asyncio.get_running_loop().create_task(self.remote.run_attach(ours, work))
        return Session(client, task)

    async def run(self, argv: t.Sequence[str], *, data: bytes = b"", **options: t.Any) -> Result:
        """Run a command to its end, with this input."""
        session = self.begin(argv, **options)
        if session.client.stdin is None:
            return await session.result()
        _none, result = await asyncio.gather(session.send(data), session.result())
        return result


@contextlib.asynccontextmanager
async def serving(
    runtime: Runtime, *, container_id: str = "c", times: Times = QUICK
) -> t.AsyncIterator[Place]:
    """Yield a place for sessions; afterwards no task and no descriptor of theirs may be left."""
    tasks_before = asyncio.all_tasks()
    before = descriptors()
    operations = Operations()
    remote = RemoteSessions(runtime=runtime, operations=operations, times=times)
    try:
        yield Place(remote, container_id)
    finally:
        await remote.close()
        operations.close()
    left = [task for task in asyncio.all_tasks() - tasks_before if not task.done()]
    assert not left, left
    assert descriptors() - before == set()


def descriptors() -> set[str]:
    """Return this process's open files, by number and what they are."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            what = os.readlink(f"/proc/self/fd/{name}")
            # Those of the event loop itself come with its first wait.
            if "eventpoll" not in what and "eventfd" not in what:
                found.add(f"{name} {what}")
    return found


def naps() -> list[int]:
    """Return the processes that sleep by NAP."""
    wanted = NAP.replace(" ", "\0").encode() + b"\0"
    found = []
    for entry in pathlib.Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (entry / "cmdline").read_bytes() == wanted:
                found.append(int(entry.name))
    return found


def end_naps() -> None:
    """End them."""
    for pid in naps():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
