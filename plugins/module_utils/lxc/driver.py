# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live with LXC containers on their host: everything of a container's life but what Proxmox VE does.

Proxmox VE creates, starts, stops and removes the container.  Before that conmon and the holder are made
here, who take the container's streams and wait for its end; from then on it is looked at, attached to,
signalled, changed, and commands run in it, whether or not Proxmox VE answers.

An `LxcDriver` holds no state of containers: all of it is in files, so that any process can go on where
another left off or was killed.  Its methods may be called from many threads at once; calls for
the same container must be serialised by the caller, except `state`, `wait`, `await_start`, `exec`,
`exec_session`, `reopen_log`, `resize_terminal` and `amend`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import attach, conmon, procfs, waiting
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import execution as loops
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecResult
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (
    execution,
    preparation,
    removal,
    resources,
    staging,
    starting,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import layout as layouts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.commands import LxcPrograms
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.execution import Inside, LxcExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.host import LxcHost
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import Config, IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.state import read_state
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


class LxcDriver:
    """Prepare, watch, enter and clear away the containers of one owner."""

    def __init__(
        self,
        paths: Paths,
        runner: Runner,
        *,
        programs: Programs | None = None,
        lxc: LxcPrograms | None = None,
        cgroups: CgroupTree | None = None,
        command_timeout_s: float = 60.0,
        warn: t.Callable[[str], None] = lambda _text: None,
    ) -> None:
        """Set up; ``warn`` hears of what is no reason to fail."""
        self.paths = paths
        self._host = LxcHost(
            paths,
            runner,
            programs or Programs(),
            lxc or LxcPrograms(),
            cgroups or CgroupTree(),
            command_timeout_s,
            warn,
        )

    # ---- looking ------------------------------------------------------------------------------------------

    def knows(self, name: str) -> bool:
        """Say whether there is a record of a container."""
        return records.exists(self._layout(name))

    def names(self) -> list[str]:
        """Return the names of all containers on record, sorted."""
        return records.names(self.paths)

    def amend(self, name: str, **changes: t.Any) -> LxcRecord:
        """Change fields of a container's record and return it; see `record.amend`."""
        return records.amend(self._layout(name), **changes)

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container from files alone, or None when there is no record of it.

        One that can be started is CREATED, with the holder for its process.
        """
        return read_state(self._layout(name), self._host.cgroups)

    # ---- life ---------------------------------------------------------------------------------------------

    def prepare(self, record: LxcRecord, config: Config, facts: IncludeFacts) -> None:
        """Make what there is of a container on this host, so that Proxmox VE can start it.

        ``config`` is its ``config.json``, whose mounts lead through no link of the image; ``facts`` say how
        it meets its pod.  The record is saved if it was not.  A second call makes anew what is gone.
        Raises InvalidSpec and Unsupported for what cannot be had, naming the part of the configuration,
        and WrongState for a container that was started.
        """
        layout = self._layout(record.name)
        if starting.is_decided(layout):
            raise WrongState(f"container '{record.name}' was started", hint="Make a new one")
        preparation.prepare(self._host, record, config, facts)

    def await_start(self, name: str, timeout_s: float, stop: int | None = None) -> int:
        """Wait until a container that is being started runs its program, and return its process id.

        Raises CommandTimeout when it did not come to that in time, WrongState when the descriptor ``stop``
        has become readable or nobody waits for the container any more, and what keeps the program from
        running: InvalidSpec naming the part of the configuration, Unsupported, CommandError.
        """
        layout = self._layout(name)
        record = records.loaded(layout)
        return starting.await_start(layout, layouts.guest(self.paths, record.vmid), timeout_s, stop)

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for the end of a container and return its exit code; None when nobody saw it.

        The code is 128 + number for one that a signal ended.  Raises CommandTimeout
        after ``timeout_s`` seconds (None: never) and NotFound.
        """
        layout = self._layout(name)
        waiting.await_exit(layout.crun, self._known(name), timeout_s)
        # What conmon has written may be its holder's end.
        state, record = self._known(name), records.load(layout)
        if record is not None and state.status is Status.STOPPED and state.started_at is None:
            # It will not be started any more, and kubelet must get its volumes free.
            staging.unstage(layouts.guest(self.paths, record.vmid))
        return state.exit_code

    def kill(self, name: str, number: int | str = signal.SIGTERM, *, everyone: bool = False) -> None:
        """Send a signal to the first process of a container, or to everyone in its cgroup.

        ``number`` may be a name.  Raises WrongState when the container has no process.
        """
        value = signal_number(number)
        state = self._known(name)
        if state.pid is None:
            raise WrongState(f"container '{name}' has no process", hint="It has ended")
        if everyone and state.status is Status.RUNNING:
            for pid in self._host.cgroups.processes(state.cgroup or ""):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, value)
        if not procfs.send_signal(state.pid, state.pid_start_time, value) and not everyone:
            raise WrongState(f"container '{name}' has no process", hint="It has ended")

    def update(self, name: str, changes: t.Mapping[str, t.Any]) -> None:
        """Apply OCI ``linux.resources`` to a running container; keys left out stay, -1 lifts a limit.

        For one that was only created the configuration of its start is changed.  Raises WrongState for one
        that has ended, and what `resources.apply` raises.
        """
        state = self._living(name)
        record = records.loaded(self._layout(name))
        if state.status is Status.CREATED:
            preparation.change(self._host, record, changes)
        else:
            resources.apply(self._host.cgroups, record.vmid, changes)

    def repair(self, name: str) -> tuple[Problem, ...]:
        """Mend what `state` lists as problems, as far as nothing that works is ended; return what was.

        - A container that was only created and whose conmon or holder is gone gets them anew.
        - A conmon that outlived its container is ended.
        - What was shown for the start of one that runs is taken away.

        One whose making was cut short may be at Proxmox VE, which is not asked here: it stays.
        """
        return removal.repair(self._host, self._layout(name))

    def clear_away(self, name: str, *, keep_guest: bool = False) -> None:
        """Remove all traces of a container but its log; can be repeated.

        Only after Proxmox VE has removed the container: it could not even be stopped without the file that
        its configuration includes.  ``keep_guest`` leaves that.  Raises WrongState when it runs.
        """
        removal.clear_away(self._host, self._layout(name), keep_guest=keep_guest)

    def clear_guest(self, vmid: int) -> None:
        """Remove the files of a vmid that has no record and is no container any more; none is fine."""
        removal.clear_guest(self._host, vmid)

    # ---- output and input ---------------------------------------------------------------------------------

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
        """Run a command in a running container; parameters and errors are those of `CrunRuntime.exec`."""
        request = ExecRequest(args=tuple(args), env=env or {}, cwd=cwd, user=user, terminal=terminal)
        return loops.to_end(
            self.exec_session(name, request),
            name,
            request,
            stdin=stdin,
            timeout_s=timeout_s,
            limit_bytes=limit_bytes,
            stop=stop,
        )

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> LxcExecSession:
        """Start a command and return the session with its pipes or terminal, for callers that stream.

        ``stdin``, ``stdout`` and ``stderr`` are as subprocess takes them.  The caller closes it.
        """
        layout, state = self._layout(name), self._known(name)
        if state.status is not Status.RUNNING:
            raise WrongState(f"container '{name}' is {state.status}, not running")
        record = records.loaded(layout)
        inside = Inside(layout, record, layouts.guest(self.paths, record.vmid), state)
        return execution.open_session(self._host.lxc, inside, request, **streams)

    def attach(self, name: str) -> socket.socket:
        """Return a socket attached to the container's streams; see `crun.attach` for its packets."""
        self._living(name)
        return attach.connect(self._layout(name).crun)

    def reopen_log(self, name: str) -> None:
        """Make conmon go on in a new file, after somebody renamed the log."""
        self._living(name)
        conmon.reopen_log(self._layout(name).crun.control_fifo)

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal in characters."""
        self._living(name)
        conmon.resize_terminal(self._layout(name).crun.control_fifo, width, height)

    # ---- helpers ------------------------------------------------------------------------------------------

    def _layout(self, name: str) -> LxcLayout:
        return LxcLayout(self.paths, name)

    def _known(self, name: str) -> ContainerState:
        state = self.state(name)
        if state is None:
            raise NotFound(f"there is no container '{name}'")
        return state

    def _living(self, name: str) -> ContainerState:
        state = self._known(name)
        if not state.is_alive:
            raise WrongState(f"container '{name}' is {state.status}", hint="Start it first")
        return state
