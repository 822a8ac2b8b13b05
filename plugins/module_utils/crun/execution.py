# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in a running container, to their end or the end of their time."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import select
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams, syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import console, errors, leftovers, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import (
    PID_SUFFIX,
    Layout,
    prepare,
    sockets,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest, exec_process
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Status,
    read_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import (
    MAX_TEXT,
    ResolvedUser,
    resolve_user,
)

#: How long crun may take to tell the process id of a command that is to be killed, and between two looks.
_PID_WAIT_S = 2.0
_PID_POLL_S = 0.005


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult(streams.Output):
    """How a command in a container ended; with a terminal, stderr is part of stdout."""

    argv: list[str]
    #: 128 + number for a command that a signal killed.
    rc: int


class ExecSession:
    """A command that runs in a container; `open_session` makes it, `close` must be called."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        pid_file: str,
        log: int,
        terminal: int | None,
        *,
        name: str,
        argv: t.Sequence[str],
    ) -> None:
        self.child = child
        self._name = name
        self._argv = list(argv)
        #: Controlling side of the terminal, or None without one.
        self.terminal = terminal
        self._pid_file = pid_file
        self._log = log

    def inner_pid(self) -> int | None:
        """Return the command's process id on the host once crun has told it."""
        with contextlib.suppress(FileNotFoundError, ValueError), open(self._pid_file, "rb") as stream:
            return int(stream.read())
        return None

    def runtime_error(self) -> str:
        """Return what crun itself complained of, as opposed to the command."""
        return os.pread(self._log, 65536, 0).decode("utf-8", "replace").strip()

    def failure(self, rc: int) -> CoreError | None:
        """Return why crun could not run it; None when ``rc`` is the command's own.  Before `close`."""
        complaint = self.runtime_error()
        if not complaint or rc == 0:
            return None
        failed = CommandError("crun exec failed", argv=self._argv, rc=rc, stderr=complaint)
        return errors.translate(failed, name=self._name)

    def shell_code(self) -> int | None:
        """Return what a shell would end with for a program that it cannot run; None for another reason."""
        return errors.shell_code(self.runtime_error())

    def _command(self) -> int | None:
        """Return the command's process id while it is the command's; crun gives it up as its last act."""
        pid = self.inner_pid()
        stat = None if pid is None or self.child.poll() is not None else procfs.read_stat(pid)
        return pid if stat is not None and self.child.pid in {stat.parent, stat.pid} else None

    def signal(self, number: int) -> None:
        """Send a signal to the command, if it still runs, and all that it started."""
        if (pid := self._command()) is not None:
            procfs.signal_family(pid, number)

    def hang_up(self) -> None:
        """Close the command's input, output and terminal, as when its user went away."""
        for stream in (self.child.stdin, self.child.stdout, self.child.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self.terminal is not None:
            os.close(self.terminal)
            self.terminal = None

    def kill(self) -> None:
        """Kill the command with everything it started, in the container and without."""
        deadline = time.monotonic() + _PID_WAIT_S
        # crun tells the process id after it has let the command go on.
        while self.inner_pid() is None and self.child.poll() is None:
            if time.monotonic() >= deadline:
                return
            time.sleep(_PID_POLL_S)
        if (pid := self._command()) is not None:
            procfs.kill_family(pid)

    def close(self) -> int:
        """End crun if it still runs, reap it, drop what the session held, and return the exit code."""
        rc = streams.end(self.child)
        if rc < 0:
            # A command outlives a crun that was killed.
            leftovers.end_orphan(self._pid_file)
        for handle in (self._log, self.terminal):
            if handle is not None:
                os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._pid_file)
        return rc if rc >= 0 else 128 - rc


def open_session(
    host: CrunHost,
    layout: Layout,
    request: ExecRequest,
    *,
    stdin: int = subprocess.PIPE,
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
    timeout_s: float = 60.0,
) -> ExecSession:
    """Start a command in a running container.

    The process object goes to crun by a file in memory: it may hold secrets.
    With ``request.terminal`` the streams are the session's terminal.  Raises
    NotFound, WrongState for a container that does not run, InvalidSpec for an
    unknown user.
    """
    state = _running(host, layout)
    process = exec_process(_config(layout), request, user_in(state, request))
    prepare(layout.paths)
    spec = memory_file("process", json.dumps(process).encode())
    # Not in the monitor directory: a container made by somebody else has none.
    pid_file = os.path.join(sockets(layout.paths), secrets.token_hex(8) + PID_SUFFIX)
    try:
        with console.receiver(layout) if request.terminal else contextlib.nullcontext() as receiver:
            log = memory_file("log", b"")
            # Whoever comes after us finds crun by this file, even if it has not told the process id yet.
            os.close(os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
            try:
                child = streams.spawn(
                    argvs.exec_argv(
                        host.programs,
                        host.root,
                        layout.name,
                        process_path=f"/proc/self/fd/{spec}",
                        pid_file=pid_file,
                        log_path=f"/proc/self/fd/{log}",
                        console_socket=receiver.path if receiver else None,
                    ),
                    stdin=subprocess.DEVNULL if receiver else stdin,
                    stdout=subprocess.PIPE if receiver else stdout,
                    stderr=subprocess.PIPE if receiver else stderr,
                    pass_fds=(spec, log),
                )
            except BaseException:
                os.close(log)
                os.unlink(pid_file)
                raise
            session = ExecSession(child, pid_file, log, None, name=layout.name, argv=request.args)
            try:
                session.terminal = receiver.accept(child, timeout_s) if receiver else None
            except BaseException:
                session.kill()
                session.close()
                raise
    finally:
        os.close(spec)
    return session


def run(
    host: CrunHost,
    layout: Layout,
    request: ExecRequest,
    *,
    stdin: bytes = b"",
    timeout_s: float | None = None,
    limit_bytes: int | None = None,
    stop: int | None = None,
) -> ExecResult:
    """Run a command in a container to its end; see `CrunRuntime.exec`."""
    # Not one of the host's places: a command may run for long, and others must get on meanwhile.
    session = open_session(host, layout, request)
    return to_end(
        session, layout.name, request, stdin=stdin, timeout_s=timeout_s, limit_bytes=limit_bytes, stop=stop
    )


def to_end(
    session: ExecSession,
    name: str,
    request: ExecRequest,
    *,
    stdin: bytes,
    timeout_s: float | None,
    limit_bytes: int | None,
    stop: int | None,
) -> ExecResult:
    """Feed a session's command, collect what it writes until its end or that of its time, and close it.

    ``name`` is the container's.
    """
    rc: int | None = None
    try:
        collected = _collect(session, stdin, timeout_s, limit_bytes, stop)
        rc = collected.rc
        failure = None if rc is None else session.failure(rc)
        if rc is None:
            session.kill()
    finally:
        ended = session.close()
    argv = list(request.args)
    if rc is None and stop is not None and _is_readable(stop):
        raise WrongState(f"{argv[0]} in container '{name}' was called off and killed")
    if rc is None:
        raise CommandTimeout(
            f"{argv[0]} in container '{name}' did not end within {timeout_s:g} s and was killed",
            argv=argv,
            stdout=collected.stdout.decode("utf-8", "replace"),
            stderr=collected.stderr.decode("utf-8", "replace"),
            hint="Raise the time-out, or look at what it waits for",
        )
    if failure is not None:
        raise failure
    return ExecResult(
        argv=argv,
        rc=ended,
        stdout_bytes=collected.stdout,
        stderr_bytes=collected.stderr,
        is_truncated=collected.is_truncated,
    )


def _is_readable(handle: int) -> bool:
    # Not select(2), which takes no descriptor beyond 1023.
    poller = select.poll()
    poller.register(handle, select.POLLIN)
    return bool(poller.poll(0))


def _collect(
    session: ExecSession, stdin: bytes, timeout_s: float | None, limit_bytes: int | None, stop: int | None
) -> streams.Collected:
    if session.terminal is None:
        return streams.collect(
            session.child, stdin=stdin, timeout_s=timeout_s, limit_bytes=limit_bytes, stop=stop
        )
    return console.collect(
        session.child, session.terminal, stdin=stdin, timeout_s=timeout_s, limit_bytes=limit_bytes, stop=stop
    )


def _running(host: CrunHost, layout: Layout) -> ContainerState:
    state = read_state(layout, host.cgroups)
    if state is None:
        raise NotFound(f"there is no container '{layout.name}'")
    if state.status is not Status.RUNNING:
        raise WrongState(f"container '{layout.name}' is {state.status}, not running")
    return state


def _config(layout: Layout) -> dict[str, t.Any]:
    """Return the configuration that crun keeps of the running container, not the bundle's of today."""
    with open(os.path.join(layout.runtime_dir, "config.json"), "rb") as stream:
        config: dict[str, t.Any] = json.load(stream)
    return config


def user_in(state: ContainerState, request: ExecRequest) -> ResolvedUser | None:
    """Return the user that a request names, looked up in the container; None when it names none."""
    if request.user is None:
        return None
    root = f"/proc/{state.pid}/root"
    return resolve_user(_text(root, "etc/passwd"), _text(root, "etc/group"), request.user)


def _text(root: str, path: str) -> str:
    """Read a file of the container, following its links within it only."""
    try:
        handle = syscalls.open_regular_beneath(root, path)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    with open(handle, "rb") as stream:
        return stream.read(MAX_TEXT).decode("utf-8", "replace")
