# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers with crun under conmon: every verb of a container's life.

A `CrunRuntime` holds no state: all of it is in files, so that any process can go
on where another left off or was killed.  Its methods may be called from many
threads at once; calls for the same container must be serialised by the caller
(``files.locked``), except `state`, `wait`, `reopen_log` and `resize_terminal`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import conmon, errors, procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions, Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Status,
    conmon_pid,
    read_exit,
    read_state,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    Conflict,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

#: How long to wait for what is a matter of milliseconds: the kernel's end of a killed process.
_KILL_WAIT_S = 10.0


class CrunRuntime:
    """Create, start, watch, stop and delete containers of one owner."""

    def __init__(
        self,
        paths: Paths,
        runner: Runner,
        *,
        programs: Programs | None = None,
        cgroups: CgroupTree | None = None,
        concurrency: int = 16,
        command_timeout_s: float = 60.0,
    ) -> None:
        """Set up; ``concurrency`` bounds the children that all threads together have at once."""
        self._paths = paths
        self._runner = runner
        self._programs = programs or Programs()
        self._cgroups = cgroups or CgroupTree()
        self._places = threading.BoundedSemaphore(concurrency)
        self._timeout_s = command_timeout_s

    # ---- looking --------------------------------------------------------------------------------------

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container, or None when nothing of it is known; starts no process."""
        return read_state(Layout(self._paths, name), self._cgroups)

    def names(self) -> list[str]:
        """Return the names of all containers that have a record or a runtime state, sorted."""
        found = set(records.names(self._paths))
        with contextlib.suppress(FileNotFoundError):
            found.update(entry.name for entry in os.scandir(self._paths.runtime_root) if entry.is_dir())
        return sorted(name for name in found if not name.startswith("."))

    def list(self) -> t.Iterator[ContainerState]:
        """Yield the state of every container of this owner."""
        for name in self.names():
            state = self.state(name)
            if state is not None:
                yield state

    # ---- life -----------------------------------------------------------------------------------------

    def create(
        self,
        bundle_path: str,
        name: str,
        *,
        log_path: str | None = None,
        log_size_max: int | None = None,
        log_max_files: int = 1,
        terminal: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
        systemd_cgroup: bool = False,
        no_pivot: bool = False,
        timeout_s: float | None = None,
    ) -> int:
        """Create a container from a bundle and return the process id of its first process.

        The process waits for `start`.  Raises Conflict when a container of that name
        exists, NotFound without a bundle, and what `errors.translate` makes of crun's
        own errors; nothing is left behind then.
        """
        layout = Layout(self._paths, name)
        options = CreateOptions(
            log_path=log_path or layout.default_log,
            log_size_max=log_size_max,
            log_max_files=log_max_files,
            terminal=terminal,
            stdin=stdin,
            stdin_once=stdin_once,
            systemd_cgroup=systemd_cgroup,
            no_pivot=no_pivot,
        )
        bundle = os.path.abspath(bundle_path)
        conmon.check_log_path(options.log_path)
        if not os.path.exists(os.path.join(bundle, "config.json")):
            raise NotFound(f"'{bundle}' is no bundle: it has no config.json")
        if self.state(name) is not None:
            raise Conflict(f"container '{name}' exists", hint="Delete it first, or choose another name")
        self._prepare(layout, bundle, options)
        try:
            return self._launch(layout, bundle, options, timeout_s or self._timeout_s)
        except BaseException:
            self._clear_away(layout)
            raise

    def _prepare(self, layout: Layout, bundle: str, options: CreateOptions) -> None:
        layouts.prepare(self._paths)
        os.makedirs(os.path.dirname(options.log_path), mode=0o755, exist_ok=True)
        record = records.Record(
            name=layout.name,
            bundle=bundle,
            log_path=options.log_path,
            log_size_max=options.log_size_max,
            log_max_files=options.log_max_files,
            boot_id=procfs.boot_id(),
            created_at=time.time(),
        )
        records.save(layout, record)
        shutil.rmtree(layout.monitor_dir, ignore_errors=True)
        os.mkdir(layout.monitor_dir, mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(layout.exit_file)

    def _launch(self, layout: Layout, bundle: str, options: CreateOptions, timeout_s: float) -> int:
        argv = argvs.create_argv(self._programs, layout, bundle, options)
        with self._places:
            answer = conmon.launch(self._runner, argv, cwd=layout.monitor_dir, timeout_s=timeout_s)
        if answer.pid is None:
            raise errors.translate(
                CommandError("crun create failed", argv=argv, rc=1, stderr=answer.message), name=layout.name
            )
        watcher = conmon_pid(layout)
        if watcher is not None:
            self._cgroups.adopt(watcher)
        self._amend(layout, is_complete=True)
        return answer.pid

    def _amend(self, layout: Layout, **changes: t.Any) -> None:
        record = records.load(layout)
        if record is not None:
            records.save(layout, dataclasses.replace(record, **changes))

    def start(self, name: str) -> None:
        """Let a created container run.

        Raises NotFound, or WrongState when it was started before.
        """
        state = self._known(name)
        if state.status is not Status.CREATED:
            raise WrongState(f"container '{name}' is {state.status}, not created")
        self._crun(name, argvs.start_argv(self._programs, self._paths.runtime_root, name))
        self._amend(Layout(self._paths, name), started_at=time.time())

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for the end of a container and return its exit code; None when nobody saw it.

        Raises CommandTimeout after ``timeout_s`` seconds (None: never) and NotFound.
        """
        layout = Layout(self._paths, name)
        time_left = procfs.monotonic_deadline(timeout_s)
        watcher = conmon_pid(layout)
        state = self._known(name)
        if state.exit_code is not None:
            return state.exit_code
        # conmon ends after it has written the exit file, so its end is the one to wait for.
        for pid, start_time in ((watcher, 0), (state.pid, state.pid_start_time)):
            if pid is None:
                continue
            with procfs.held(pid, start_time) as pidfd:
                if pidfd is not None and not procfs.await_end(pidfd, time_left()):
                    raise CommandTimeout(
                        f"container '{name}' did not end within {timeout_s:g} s",
                        hint="Raise the time-out, or look at its log",
                    )
            code, _when = read_exit(layout)
            if code is not None:
                return code
        return None

    def kill(self, name: str, number: int | str = signal.SIGTERM, *, everyone: bool = False) -> None:
        """Send a signal to the first process of a container, or to everyone in its cgroup.

        ``number`` may be a name with or without ``SIG``.  Raises WrongState when the
        container has no process.
        """
        value = signal_number(number)
        state = self._known(name)
        if everyone:
            argv = argvs.kill_argv(self._programs, self._paths.runtime_root, name, value, everyone=True)
            self._crun(name, argv)
        elif state.pid is None or not procfs.send_signal(state.pid, state.pid_start_time, value):
            raise WrongState(f"container '{name}' has no process", hint="It has ended")

    def stop(self, name: str, number: int | str = signal.SIGTERM, *, timeout_s: float = 10.0) -> int | None:
        """End a container and return its exit code: a signal first, SIGKILL after ``timeout_s`` seconds.

        A paused container is resumed, since it could not act upon the signal.  One that
        has ended is left as it is.  None: the exit code is unknown.
        """
        value = signal_number(number)
        state = self._known(name)
        if state.status is Status.PAUSED:
            self.resume(name)
        if timeout_s > 0 and value != signal.SIGKILL and self._signal(state, value):
            with contextlib.suppress(CommandTimeout):
                return self.wait(name, timeout_s)
        self._signal(state, signal.SIGKILL)
        return self.wait(name, _KILL_WAIT_S)

    def _signal(self, state: ContainerState, value: int) -> bool:
        return state.pid is not None and procfs.send_signal(state.pid, state.pid_start_time, value)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a container and everything that tells of it; its log stays.

        One that is gone already is fine.  Raises WrongState when it runs and ``force`` is false.
        """
        layout = Layout(self._paths, name)
        state = self.state(name)
        if state is None:
            self._forget(layout)
            return
        if state.status in {Status.RUNNING, Status.PAUSED}:
            if not force:
                raise WrongState(f"container '{name}' is {state.status}", hint="Stop it first, or force it")
            self.stop(name, signal.SIGKILL)
        self._clear_away(layout)

    def pause(self, name: str) -> None:
        """Freeze all processes of a running container."""
        self._crun(name, argvs.pause_argv(self._programs, self._paths.runtime_root, name))

    def resume(self, name: str) -> None:
        """Thaw a paused container."""
        self._crun(name, argvs.resume_argv(self._programs, self._paths.runtime_root, name))

    # ---- helpers --------------------------------------------------------------------------------------

    def _known(self, name: str) -> ContainerState:
        state = self.state(name)
        if state is None:
            raise NotFound(f"there is no container '{name}'")
        return state

    def _crun(self, name: str, argv: t.Sequence[str], *, stdin: bytes | None = None) -> Completed:
        try:
            with self._places:
                return self._runner.run(argv, timeout_s=self._timeout_s, stdin=stdin)
        except CommandError as exc:
            raise errors.translate(exc, name=name) from exc

    def _clear_away(self, layout: Layout) -> None:
        """Remove all traces of a container in whatever state they are; can be repeated."""
        if os.path.isdir(layout.runtime_dir):
            self._crun(
                layout.name,
                argvs.delete_argv(self._programs, self._paths.runtime_root, layout.name, force=True),
            )
        self._end_monitor(layout)
        self._forget(layout)

    def _end_monitor(self, layout: Layout) -> None:
        """See conmon off: it would write an exit file for a container that is forgotten."""
        pid = conmon_pid(layout)
        if pid is None:
            return
        with procfs.held(pid) as pidfd:
            if pidfd is None or procfs.await_end(pidfd, 1.0):
                return
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            procfs.await_end(pidfd, _KILL_WAIT_S)

    def _forget(self, layout: Layout) -> None:
        shutil.rmtree(layout.monitor_dir, ignore_errors=True)
        for path in (os.path.dirname(layout.attach_socket), layout.exit_file):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        records.remove(layout)


def signal_number(value: int | str) -> int:
    """Return the number of a signal given as number or name, with or without ``SIG``."""
    text = str(int(value)) if isinstance(value, int) else value.strip().upper()
    if text.isdigit():
        if 0 < int(text) < signal.NSIG:
            return int(text)
    else:
        name = text if text.startswith("SIG") else "SIG" + text
        with contextlib.suppress(KeyError):
            return int(_SIGNALS[name])
    raise InvalidSpec("signal", f"'{value}' is no signal")


_SIGNALS: dict[str, int] = {
    **{member.name: member.value for member in signal.Signals},
    **{
        f"SIGRTMIN+{offset}": signal.SIGRTMIN + offset
        for offset in range(signal.SIGRTMAX - signal.SIGRTMIN + 1)
    },
    **{
        f"SIGRTMAX-{offset}": signal.SIGRTMAX - offset
        for offset in range(signal.SIGRTMAX - signal.SIGRTMIN + 1)
    },
}
