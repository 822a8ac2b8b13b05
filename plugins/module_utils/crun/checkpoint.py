# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Dump a running container by CRIU, and restore one from such a dump."""

from __future__ import annotations

import contextlib
import json
import os
import time

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import argv as argvs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import creation, criu
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status, read_state
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    NotFound,
    WrongState,
)

#: CRIU's log of a dump, in the work directory.
DUMP_LOG = "dump.log"
#: The cgroup in which crun keeps the container's one alive until CRIU fills it.
_PROXY = ".proxy-crun"


class Checkpoints:
    """Checkpoints of one owner's containers; calls for the same one are serialised by the caller."""

    def __init__(self, host: CrunHost) -> None:
        self._host = host
        self._is_host_known = False

    def check_host(self) -> None:
        """Raise MissingDependency unless this host can checkpoint; what was found good is not asked again."""
        if not self._is_host_known:
            criu.check_host(self._host)
            self._is_host_known = True

    def dump(
        self, name: str, images: str, work: str, *, leave_running: bool = True, timeout_s: float | None = None
    ) -> None:
        """Dump a running or paused container into the directory ``images``; CRIU's log goes to ``work``.

        Raises CommandTimeout after ``timeout_s`` seconds, CommandError with the end of CRIU's log; then the
        container is as it was.  A paused one stays paused.
        """
        self.check_host()
        host, layout = self._host, Layout(self._host.paths, name)
        state = read_state(layout, host.cgroups)
        if state is None:
            raise NotFound(f"there is no container '{name}'")
        if state.status not in {Status.RUNNING, Status.PAUSED}:
            raise WrongState(f"container '{name}' is {state.status}, not running")
        argv = argvs.checkpoint_argv(
            host.programs, host.root, name, images=images, work=work, leave_running=leave_running
        )
        try:
            with host.place():
                host.runner.run(
                    argv,
                    timeout_s=timeout_s or host.command_timeout_s,
                    env=criu.environment(host, work),
                )
        except CommandTimeout:
            raise
        except CommandError as exc:
            message = f"container '{name}' cannot be checkpointed"
            raise criu.failure(message, exc.stderr, os.path.join(work, DUMP_LOG), argv) from exc

    def restore(
        self,
        bundle_path: str,
        name: str,
        images: str,
        options: CreateOptions,
        *,
        timeout_s: float | None = None,
    ) -> int:
        """Create a container whose processes go on where the dump ``images`` left off, and return its pid.

        It runs at once.  The mount points of its bundle have to be in the root file system.  Raises what
        `CrunRuntime.create` raises, and CommandError with the end of CRIU's log; nothing is left behind then.
        """
        self.check_host()
        layout = Layout(self._host.paths, name)
        try:
            pid = creation.create(
                self._host,
                layout,
                bundle_path,
                options,
                timeout_s or self._host.command_timeout_s,
                restoring=criu.Restore(self._host, layout, images),
            )
        except BaseException:
            remove_proxies(self._host, bundle_path)
            raise
        creation.amend(layout, started_at=time.time())
        return pid


def remove_proxies(host: CrunHost, bundle_path: str) -> None:
    """Remove what a crun that could not restore leaves in the container's cgroup, and the cgroup with it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with open(os.path.join(bundle_path, "config.json"), "rb") as stream:
            group = json.load(stream).get("linux", {}).get("cgroupsPath")
        if isinstance(group, str) and group.startswith("/") and group.strip("/"):
            host.cgroups.remove(f"{group}/{_PROXY}")
            host.cgroups.remove(group)
