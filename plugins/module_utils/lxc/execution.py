# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in a running LXC container.

lxc-attach starts the launcher there, and that gets streams, arguments, variables and user through a
socket, as the container's first process did: nothing of it is on a command line, and the command's
output is its own.  The session is otherwise like crun's: lxc-attach stays as the parent of the command
and ends with its exit code.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import secrets
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams as children
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import (
    ExecSession,
    user_in,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import PID_SUFFIX, prepare, sockets
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest, exec_process
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import ContainerState
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block, commands, handover, streams
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.commands import LxcPrograms
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import Guest, LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.streams import Ends

#: How long a command may take to start.
_START_S: t.Final = 30.0

_RLIM_INFINITY: t.Final = (1 << 64) - 1

Process = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Inside:
    """A container that runs, and how it is reached."""

    layout: LxcLayout
    record: LxcRecord
    guest: Guest
    state: ContainerState


class LxcExecSession(ExecSession):
    """A command that runs in an LXC container; `open_session` makes it, `close` must be called."""

    #: Why the launcher could not run the command, once it has said so, and what it was to run.
    _refusal: tuple[handover.StartFailed, Process] | None = None

    def refuse(self, failure: handover.StartFailed, process: Process) -> CoreError:
        """Note that the command could not be run, and return why."""
        self._refusal = failure, process
        return handover.explained(failure.stage, failure.errno, process)

    def failure(self, rc: int) -> CoreError | None:
        """Return why the command could not be run; None when ``rc`` is its own."""
        if self._refusal is None:
            return None
        failure, process = self._refusal
        return handover.explained(failure.stage, failure.errno, process)

    def shell_code(self) -> int | None:
        """Return what a shell would end with for a program that it cannot run; None for another reason."""
        if self._refusal is None:
            return None
        return handover.shell_code(self._refusal[0].stage, self._refusal[0].errno)

    def tell(self, pid: int) -> None:
        """Write down the command's process id on the host; whoever comes after us finds it so."""
        with open(self._pid_file, "w", encoding="ascii") as stream:
            stream.write(str(pid))


def open_session(
    programs: LxcPrograms,
    inside: Inside,
    request: ExecRequest,
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    timeout_s: float = _START_S,
) -> LxcExecSession:
    """Start a command in a running container; see `crun.execution.open_session`."""
    with open(inside.layout.config, "rb") as stream:
        config = json.load(stream)
    process = exec_process(config, request, user_in(inside.state, request))
    encoded = block.encode(process)
    prepare(inside.layout.crun.paths)
    with contextlib.ExitStack() as stack:
        ends = _ends(inside, request, (stdin, stdout, stderr))
        stack.callback(ends.close)
        content = memory_file("block", encoded)
        stack.callback(os.close, content)
        token = secrets.token_hex(8)
        offset = inside.record.id_offset
        listener = handover.listen(os.path.join(inside.guest.io, token), offset, offset)
        stack.callback(listener.close)
        session = _attached(programs, inside, request, token)
        try:
            ends.give_to(session.child)
            session.terminal, ends.terminal = ends.terminal, None
            _start(session, inside, process, listener, ends, content, timeout_s)
        except BaseException:
            session.kill()
            session.close()
            raise
    return session


def _ends(inside: Inside, request: ExecRequest, wanted: t.Sequence[int]) -> Ends:
    if not request.terminal:
        return streams.pipes(wanted)
    state = inside.state
    if state.pid is None:
        raise WrongState(f"container '{state.name}' has no process", hint="It has ended")
    return streams.terminal(state.pid, state.pid_start_time, request.terminal_size)


def _attached(programs: LxcPrograms, inside: Inside, request: ExecRequest, token: str) -> LxcExecSession:
    """Start lxc-attach, which starts the launcher; what it complains of goes to a file in memory."""
    pid_file = os.path.join(sockets(inside.layout.crun.paths), secrets.token_hex(8) + PID_SUFFIX)
    log = memory_file("log", b"")
    os.close(os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        record = inside.record
        child = children.spawn(
            commands.attach_argv(programs, record.lxc_path, record.vmid, token),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
    except BaseException:
        os.close(log)
        os.unlink(pid_file)
        raise
    return LxcExecSession(child, pid_file, log, None, name=inside.layout.name, argv=request.args)


def _start(  # noqa: PLR0917 - all of what there is of a command by then
    session: LxcExecSession,
    inside: Inside,
    process: Process,
    listener: handover.Listener,
    ends: Ends,
    content: int,
    timeout_s: float,
) -> None:
    """Give the command what it needs, and return when it runs or cannot be run."""

    def is_ours(pid: int) -> bool:
        found = procfs.read_stat(pid)
        if found is None or found.parent != session.child.pid:
            return False
        # It waits for what to do: nothing runs without its limits, or without being known.
        session.tell(pid)
        try:
            _limit(pid, process)
        except (ProcessLookupError, FileNotFoundError):
            # The container has just ended; lxc-attach says so.
            return False
        return True

    child = os.pidfd_open(session.child.pid)
    try:
        started = listener.give(ends.given, content, timeout_s, is_ours, child=child)
    except handover.StartFailed as failure:
        why = session.refuse(failure, process)
        # As a shell would say it, on the command's own error output.
        with contextlib.suppress(OSError):
            os.write(ends.given[2], f"{why.message}\n".encode())
    except WrongState as exc:
        raise WrongState(
            f"container '{inside.layout.name}' did not let the command in",
            hint=f"lxc-attach said: {session.runtime_error()}" if session.runtime_error() else "It has ended",
        ) from exc
    else:
        os.close(started.pidfd)
    finally:
        os.close(child)


def _limit(pid: int, process: Process) -> None:
    """Give a process the limits that the container's first one has from LXC."""
    for limit in process.get("rlimits") or ():
        number = getattr(resource, str(limit["type"]), None)
        if number is not None:
            resource.prlimit(pid, number, (_bound(limit["soft"]), _bound(limit["hard"])))
    score = process.get("oomScoreAdj")
    if score is not None:
        with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as stream:
            stream.write(str(int(score)))


def _bound(value: int) -> int:
    return resource.RLIM_INFINITY if value in {-1, _RLIM_INFINITY} else int(value)
