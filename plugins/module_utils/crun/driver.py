# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers with crun under conmon: every verb of a container's life.

A `CrunRuntime` holds no state: all of it is in files, so that any process can go
on where another left off or was killed.  Its methods may be called from many
threads at once; calls for the same container must be serialised by the caller
(`files.locked`), except `state`, `wait`, `exec`, `reopen_log` and
`resize_terminal`.
"""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import socket
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import (
    attach,
    attached,
    conmon,
    creation,
    execution,
    procfs,
    removal,
    resources,
    rotation,
    starting,
    waiting,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.anticipation import WINDOW_S, Anticipation
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions, Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.attached import RunResult
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.checkpoint import Checkpoints
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecResult, ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.exits import ExitWatcher
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.sealed import SealedProgram
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
    read_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


class CrunRuntime:
    """Create, start, watch, stop and delete the containers of one owner."""

    def __init__(
        self,
        paths: Paths,
        runner: Runner,
        *,
        programs: Programs | None = None,
        cgroups: CgroupTree | None = None,
        concurrency: int = 16,
        command_timeout_s: float = 60.0,
        anticipation: Anticipation | None = None,
        sealed: SealedProgram | None = None,
    ) -> None:
        """Set up; ``concurrency`` bounds the children that all threads together have at once.

        For processes that live long: ``anticipation`` gives `anticipate` its effect, and ``sealed``
        is crun held in memory.
        """
        self._anticipation = anticipation
        self._host = CrunHost(
            paths,
            runner,
            programs or Programs(),
            cgroups or CgroupTree(),
            threading.BoundedSemaphore(concurrency),
            command_timeout_s,
            sealed,
        )
        #: Dumps of containers and restores from them.
        self.checkpoints = Checkpoints(self._host)

    # ---- looking --------------------------------------------------------------------------------------

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container, or None when nothing of it is known; starts no process."""
        return read_state(self._layout(name), self._host.cgroups)

    def names(self) -> builtins.list[str]:
        """Return the names of all containers that have a record or a runtime state, sorted."""
        found = set(records.names(self._host.paths))
        with contextlib.suppress(FileNotFoundError):
            found.update(entry.name for entry in os.scandir(self._host.root) if entry.is_dir())
        return sorted(name for name in found if not name.startswith("."))

    def list(self) -> t.Iterator[ContainerState]:
        """Yield the state of every container of this owner."""
        for name in self.names():
            state = self.state(name)
            if state is not None:
                yield state

    def watch_exits(self) -> ExitWatcher:
        """Return a watcher that names containers as they end, for callers that have many."""
        layouts.prepare(self._host.paths)
        return ExitWatcher(self._host.paths.exits)

    # ---- life -----------------------------------------------------------------------------------------

    def anticipate(self, for_s: float = WINDOW_S) -> None:
        """Say that a process will be created or executed within ``for_s`` seconds: it then is sooner."""
        if self._anticipation is not None:
            self._anticipation.expect(for_s)

    def create(
        self,
        bundle_path: str,
        name: str,
        *,
        log_path: str | None = None,
        log_size_max: int | None = None,
        log_max_files: int = 1,
        log_total_max: int | None = None,
        terminal: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
        systemd_cgroup: bool = False,
        no_pivot: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Create a container from a bundle and return the process id of its first process.

        The process waits for `start`.  The log is in CRI format; an empty path is none.  With
        ``log_size_max`` bytes a new file is begun and ``log_max_files`` are kept in all (``log_path``,
        ``log_path.1``, …); without, it grows (the endpoint's kubelet rotates by itself,
        see `reopen_log`).

        Raises Conflict when a container of that name exists, NotFound without a bundle,
        and what `errors.translate` makes of crun's complaints; nothing is left behind then.
        """
        layout = self._layout(name)
        options = CreateOptions(
            log_path=layout.default_log if log_path is None else log_path,
            log_size_max=log_size_max,
            log_max_files=log_max_files,
            log_total_max=log_total_max,
            terminal=terminal,
            stdin=stdin,
            stdin_once=stdin_once,
            systemd_cgroup=systemd_cgroup,
            no_pivot=no_pivot,
        )
        return creation.create(
            self._host, layout, bundle_path, options, timeout_s or self._host.command_timeout_s
        )

    def start(self, name: str) -> None:
        """Let a created container run.

        Raises NotFound, or WrongState when it was started before.
        """
        state = self._known(name)
        if state.status is not Status.CREATED:
            raise WrongState(f"container '{name}' is {state.status}, not created")
        starting.start(self._host, self._layout(name), state)
        # It runs: a disk that is too full to note since when is no reason to say that it does not.
        with contextlib.suppress(OSError):
            creation.amend(self._layout(name), started_at=time.time())

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for the end of a container and return its exit code; None when nobody saw it.

        The code is 128 + number for one that a signal ended.  Raises CommandTimeout
        after ``timeout_s`` seconds (None: never) and NotFound.
        """
        return waiting.await_exit(self._layout(name), self._known(name), timeout_s)

    def kill(self, name: str, number: int | str = signal.SIGTERM, *, everyone: bool = False) -> None:
        """Send a signal to the first process of a container, or to everyone in its cgroup.

        ``number`` may be a name.  Raises WrongState when the container has no process.
        """
        value = signal_number(number)
        state = self._known(name)
        if not state.is_alive:
            raise WrongState(f"container '{name}' has no process", hint="It has ended")
        if everyone:
            argv = argvs.kill_argv(self._host.programs, self._host.root, name, value, everyone=True)
            self._host.run(name, argv)
        elif not _signal(state, value):
            raise WrongState(f"container '{name}' has no process", hint="It has ended")

    def stop(self, name: str, number: int | str = signal.SIGTERM, *, timeout_s: float = 10.0) -> int | None:
        """End a container and return its exit code: a signal first, SIGKILL after ``timeout_s`` seconds.

        A paused container is resumed, since it could not act upon the signal.  One that
        has ended is left as it is; one that was never started is killed at once.  None:
        the exit code is unknown.
        """
        value = signal_number(number)
        state = self._known(name)
        if state.status is Status.PAUSED:
            self.resume(name)
        may_act = state.status is not Status.CREATED and value != signal.SIGKILL
        if may_act and timeout_s > 0 and _signal(state, value):
            with contextlib.suppress(CommandTimeout):
                return self.wait(name, timeout_s)
        _signal(state, signal.SIGKILL)
        try:
            return self.wait(name, removal.KILL_WAIT_S)
        except CommandTimeout:
            if self._known(name).is_alive:
                raise
            # Only conmon hangs: the exit code will not be known, and `repair` ends it.
            return None

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a container and everything that tells of it; its log stays.

        One that is gone already is fine.  Raises WrongState when it runs and ``force`` is false.
        """
        state = self.state(name)
        if state is not None and state.status in {Status.RUNNING, Status.PAUSED}:
            if not force:
                raise WrongState(f"container '{name}' is {state.status}", hint="Stop it first, or force it")
            self.stop(name, signal.SIGKILL)
        removal.clear_away(self._host, self._layout(name))

    def pause(self, name: str) -> None:
        """Freeze all processes of a running container; one that is paused stays so."""
        self._freeze(name, Status.RUNNING, Status.PAUSED, argvs.pause_argv)

    def resume(self, name: str) -> None:
        """Thaw a paused container; one that runs goes on."""
        self._freeze(name, Status.PAUSED, Status.RUNNING, argvs.resume_argv)

    def _freeze(
        self,
        name: str,
        before: Status,
        after: Status,
        build: t.Callable[[Programs, str, str], builtins.list[str]],
    ) -> None:
        state = self._known(name)
        if state.status is after:
            return
        if state.status is not before:
            raise WrongState(f"container '{name}' is {state.status}, not {before}")
        self._host.run(name, build(self._host.programs, self._host.root, name))

    def update(self, name: str, changes: t.Mapping[str, t.Any]) -> None:
        """Apply OCI ``linux.resources`` to a living container; keys left out stay, -1 lifts a limit.

        The bundle's ``config.json`` stays as it was.  Raises WrongState for one that has ended.
        """
        resources.update(self._host, self._living(name), changes)

    def repair(self, name: str) -> tuple[Problem, ...]:
        """Mend what `state` lists as problems, as far as nothing that works is ended; return what was."""
        return removal.repair(self._host, self._layout(name))

    # ---- output and input -----------------------------------------------------------------------------

    def exec(
        self,
        name: str,
        args: t.Sequence[str],
        *,
        timeout_s: float | None = 60.0,
        stdin: bytes = b"",
        env: t.Mapping[str, str] | None = None,
        cwd: str | None = None,
        user: str | None = None,
        terminal: bool = False,
        limit_bytes: int | None = None,
        stop: int | None = None,
    ) -> ExecResult:
        """Run a command in a running container and return its output and exit code, whatever that is.

        ``user`` is ``user[:group]`` by name or number; what is None or not in ``env`` is as
        the container's own process has it.  Output beyond ``limit_bytes`` a stream is dropped.
        Raises CommandTimeout with the output so far after the command and all its
        descendants were killed, WrongState after the same because the descriptor ``stop`` has
        become readable, InvalidSpec when there is no such program or user, NotFound and WrongState.
        """
        request = ExecRequest(args=tuple(args), env=env or {}, cwd=cwd, user=user, terminal=terminal)
        return execution.run(
            self._host,
            self._layout(name),
            request,
            stdin=stdin,
            timeout_s=timeout_s,
            limit_bytes=limit_bytes,
            stop=stop,
        )

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> ExecSession:
        """Start a command and return the session with its pipes or terminal, for callers that stream.

        ``stdin``, ``stdout`` and ``stderr`` are as subprocess takes them.  The caller closes it.
        """
        return execution.open_session(self._host, self._layout(name), request, **streams)

    def run(
        self,
        bundle_path: str,
        name: str,
        *,
        timeout_s: float | None = None,
        stdin: bytes = b"",
        limit_bytes: int = attached.LIMIT_BYTES,
        **options: t.Any,
    ) -> RunResult:
        """Create and start a container, wait for its end, and return exit code and output.

        The container is left stopped.  Output beyond ``limit_bytes`` is not kept, neither
        here nor in the log.  ``options`` are those of `create`.  Raises CommandTimeout with
        the output so far after the container was killed.
        """
        return attached.run(
            self,
            self._layout(name),
            bundle_path,
            timeout_s=timeout_s,
            stdin=stdin,
            limit_bytes=limit_bytes,
            options=options,
        )

    def attach(self, name: str) -> socket.socket:
        """Return a socket attached to the container's streams; see `attach` for its packets."""
        self._living(name)
        return attach.connect(self._layout(name))

    def reopen_log(self, name: str) -> None:
        """Make conmon go on in a new file, after somebody renamed the log."""
        self._living(name)
        conmon.reopen_log(self._layout(name).control_fifo)

    def settle_log(self, name: str) -> None:
        """Number the files that conmon has replaced, should no log keeper have done so."""
        record = records.load(self._layout(name))
        if record is not None and record.has_rotation:
            rotation.settle(record.log_path, record.log_max_files)

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal in characters."""
        self._living(name)
        conmon.resize_terminal(self._layout(name).control_fifo, width, height)

    # ---- helpers --------------------------------------------------------------------------------------

    def _layout(self, name: str) -> Layout:
        return Layout(self._host.paths, name)

    def _living(self, name: str) -> ContainerState:
        state = self._known(name)
        if not state.is_alive:
            raise WrongState(f"container '{name}' is {state.status}", hint="Start it first")
        return state

    def _known(self, name: str) -> ContainerState:
        state = self.state(name)
        if state is None:
            raise NotFound(f"there is no container '{name}'")
        return state


def _signal(state: ContainerState, value: int) -> bool:
    return state.pid is not None and procfs.send_signal(state.pid, state.pid_start_time, value)
