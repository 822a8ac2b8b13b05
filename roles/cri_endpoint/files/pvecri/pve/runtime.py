# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers of pods as LXC containers of Proxmox VE: every verb that the endpoint has for a container.

What happens within this host is the driver's, and works whether or not Proxmox VE answers: state,
logs, streams, exec, signals.  Making, starting, stopping, changing and removing go through its API.
"""

from __future__ import annotations

import signal
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.execution import ExecResult, ExecSession
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.processes import ExecRequest
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import (
    ContainerState,
    Problem,
    Status,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import record as records
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import resources
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.include import IncludeFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import ID_COUNT, ID_OFFSET, LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.sysctls import dotted_name
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import lxc_keys
from pvecri.pve import at_work, checks, destinations, failures, params, power, remove, status, stopping
from pvecri.pve.create import Maker
from pvecri.pve.facts import Lookup
from pvecri.pve.native_image import is_native
from pvecri.pve.node import PveNode
from pvecri.runtimes.protocol import Creation, Wish

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.driver import LxcDriver


class LxcRuntime:
    """The containers of this endpoint that Proxmox VE runs; calls for one container are serialised."""

    def __init__(
        self, node: PveNode, driver: LxcDriver, maker: Maker, lookup: Lookup, *, uses_v2: bool
    ) -> None:
        self.node = node
        self.driver = driver
        self._maker = maker
        self._lookup = lookup
        self._uses_v2 = uses_v2

    # ---- making -------------------------------------------------------------------------------------------

    def check(self, wish: Wish) -> None:
        """Raise what keeps the container from being made here, before anything is."""
        request, image = wish.request, wish.image
        checks.check(wish, self._lookup.facts_of(wish, is_native=is_native(image)))
        params.size_of_rootfs(request.config, request.pod, image.size_bytes, self.node.config)
        params.features(request.config, request.pod)
        with failures.named(self.node, f"container {request.config.metadata.name} cannot be created"):
            self.node.check()

    def create(self, creation: Creation) -> None:
        """Create a container from its bundle; what is left of one that fails, `delete` removes."""
        bundle, image = creation.bundle, creation.wish.image
        unprivileged = not creation.wish.request.config.linux.security_context.privileged
        checks.check_spec(bundle.config, unprivileged=unprivileged)
        if unprivileged and bundle.record is not None:
            maps = (IdMap(container_id=0, host_id=ID_OFFSET, size=ID_COUNT),)
            mounting.show_images_as(bundle.path, bundle.record, maps, maps)
        # A template's root file system is seen by nobody before Proxmox VE has unpacked it.
        config = destinations.resolved(bundle.config, None if is_native(image) else bundle.rootfs_path)
        if is_native(image):
            config = _in_a_container(config)
        self._maker.create(creation, config, lambda record: self._facts(creation, record))

    def _facts(self, creation: Creation, record: LxcRecord) -> IncludeFacts:
        sandbox, pod = creation.wish.request.sandbox, creation.wish.request.pod
        # A distribution's own init knows signals of its own, which LXC knows.
        has_init = is_native(creation.wish.image) and not creation.wish.image.config.stop_signal
        return IncludeFacts(
            netns=sandbox.netns,
            ipcns=sandbox.ipcns,
            utsns=sandbox.utsns,
            unprivileged=record.unprivileged,
            stop_signal=None if has_init else signal_number(creation.spec.stop_signal or "SIGTERM"),
            pod_sysctls=frozenset(map(dotted_name, pod.linux.sysctls)),
            uses_v2=self._uses_v2,
        )

    # ---- looking ------------------------------------------------------------------------------------------

    def knows(self, name: str) -> bool:
        """Say whether a container is one of ours."""
        return self.driver.knows(name)

    def state(self, name: str) -> ContainerState | None:
        """Return the state of a container from files alone, or None when nothing of it is known."""
        return self.driver.state(name)

    def names(self) -> list[str]:
        """Return the names of all containers on record, sorted."""
        return self.driver.names()

    def describe(self, name: str) -> dict[str, t.Any]:
        """Return what a verbose status says of a container beyond its state."""
        return status.describe(self.node, self.driver.paths, self._record(name))

    def anticipate(self) -> None:
        """Learn that a process will be created or executed in a moment: nothing is sooner for that."""

    # ---- life ---------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Let a created container run; returns when its program does."""
        power.start(self.node, self.driver, self._record(name), self.node.config.start_timeout_s)

    def stop(self, name: str, number: int | str, *, timeout_s: float = 10.0) -> int | None:
        """End a container and return its exit code: a signal first, SIGKILL after ``timeout_s`` seconds."""
        return stopping.stop(self.node, self.driver, self._record(name), number, timeout_s)

    def kill(self, name: str, number: int | str, *, everyone: bool = False) -> None:
        """Send a signal to the first process, or to everyone."""
        self.driver.kill(name, number, everyone=everyone)

    def wait(self, name: str, timeout_s: float | None = None) -> int | None:
        """Wait for the end of a container and return its exit code; None when nobody saw it."""
        return self.driver.wait(name, timeout_s)

    def repair(self, name: str) -> tuple[Problem, ...]:
        """Mend what `state` lists as problems, as far as nothing that works is ended."""
        return self.driver.repair(name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a container with its disk and everything that tells of it, however far its making came.

        One that is gone is fine.  Raises WrongState when it runs and ``force`` is false.
        """
        if not self.driver.knows(name):
            return
        record = self._record(name)
        state = self.driver.state(name)
        if state is not None and state.is_alive:
            if state.status is Status.RUNNING and not force:
                raise WrongState(f"container '{name}' is {state.status}", hint="Stop it first, or force it")
            stopping.stop(self.node, self.driver, record, signal.SIGKILL, 0.0)
        remove.destroy(self.node, self.driver, record)
        self._maker.vmids.release(record.vmid)

    def update(self, name: str, changes: t.Mapping[str, t.Any]) -> None:
        """Apply OCI ``linux.resources`` to a container: for good at Proxmox VE, exactly in its cgroup."""
        record = self._record(name)
        checks.check_memory((changes.get("memory") or {}).get("limit") or 0, "linux.memory_limit_in_bytes")
        limits = resources.pve_limits(changes, uses_v2=self._uses_v2)
        put = {key: lxc_keys.rendered(value) for key, value in limits.items() if value is not None}
        gone = [key for key, value in limits.items() if value is None]
        if put or gone:
            with failures.named(self.node, f"container {name} cannot be changed", vmid=record.vmid):
                at_work.refuse_strangers(self.node, record)
                container = self.node.container(record.vmid)
                container.configure(put, gone)
                digest = container.read().digest
            # Who looks for changes of others must not take this one for theirs.
            self.driver.amend(name, config_digest=digest or "")
        self.driver.update(name, changes)

    # ---- output and input ---------------------------------------------------------------------------------

    def exec(
        self,
        name: str,
        args: t.Sequence[str],
        *,
        timeout_s: float | None = 60.0,
        limit_bytes: int | None = None,
        stop: int | None = None,
    ) -> ExecResult:
        """Run a command in a running container to its end."""
        return self.driver.exec(name, args, timeout_s=timeout_s, limit_bytes=limit_bytes, stop=stop)

    def exec_session(self, name: str, request: ExecRequest, **streams: int) -> ExecSession:
        """Start a command and return the session with its pipes or terminal."""
        return self.driver.exec_session(name, request, **streams)

    def attach(self, name: str) -> socket.socket:
        """Return a socket that is attached to a container's first process."""
        return self.driver.attach(name)

    def reopen_log(self, name: str) -> None:
        """Go on in a new log file."""
        self.driver.reopen_log(name)

    def resize_terminal(self, name: str, width: int, height: int) -> None:
        """Set the size of a container's terminal."""
        self.driver.resize_terminal(name, width, height)

    # ---- helpers ------------------------------------------------------------------------------------------

    def _record(self, name: str) -> LxcRecord:
        return records.loaded(LxcLayout(self.driver.paths, name))


def _in_a_container(config: dict[str, t.Any]) -> dict[str, t.Any]:
    """Tell a distribution's own init where it runs, as LXC does: systemd acts by this variable."""
    env = config["process"].get("env") or []
    if any(variable.startswith("container=") for variable in env):
        return config
    return {**config, "process": {**config["process"], "env": [*env, "container=lxc"]}}
