# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Drive one LXC container of a Proxmox VE cluster: the verbs, each one request and its task.

Nothing here decides what is to be done; `lxc_plan` does.  Verbs wait for their
task and for its effect, and a failure is judged by the state that it left, not
by its text.
"""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandTimeout,
    CoreError,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers, guests, props, tasks
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual

_FIRST_POLL_S = 0.05
_LONGEST_POLL_S = 2.0
_POLL_GROWTH = 1.6

#: Beyond the container's own time to stop: unmounting, and the task's start.
_SHUTDOWN_GRACE_S = 60.0

Seconds = t.Callable[[float], None]


@dataclasses.dataclass(slots=True)
class Reading:
    """What to read besides config and status, each at the price of a request."""

    pending: bool = False
    ha: bool = False


class Container:
    """One container by node and id; both are taken as they are until a verb moves it."""

    def __init__(
        self,
        client: PveClient,
        node: str,
        vmid: int,
        *,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: Seconds = time.sleep,
    ) -> None:
        self.client = client
        self.node = node
        self.vmid = vmid
        #: Warnings of all tasks so far.
        self.warnings: list[str] = []
        self._clock = clock
        self._sleep = sleep

    @property
    def path(self) -> tuple[str, ...]:
        """Return the API path as segments."""
        return ("nodes", self.node, "lxc", str(self.vmid))

    @property
    def task_timeout_s(self) -> float:
        """Return how long a task may take."""
        return self.client.connection.task_timeout_s

    # ---- reading

    def read(self, what: Reading | None = None, *, pool: str | None = None) -> Actual:
        """Return the container's state; raises ApiError when it is not on this node."""
        what = what or Reading()
        config = self._dict("config")
        status = self.status()
        digest, lock = config.pop("digest", None), config.pop("lock", None)
        is_running = status.get("status") == "running"
        with answers.understood(f"the status of container {self.vmid}"):
            managed = bool(int((status.get("ha") or {}).get("managed") or 0))
        return Actual(
            vmid=self.vmid,
            node=self.node,
            status=str(status.get("status")),
            config=config,
            digest=digest,
            lock=lock or status.get("lock") or None,
            pool=pool,
            ha_managed=managed,
            ha=self.ha_settings() if what.ha and managed else {},
            pending=self.pending() if what.pending and is_running else (),
        )

    def status(self) -> dict[str, t.Any]:
        """Return ``status/current``, which does not lag behind as the cluster's list does."""
        return self._dict("status", "current")

    def _dict(self, *parts: str) -> dict[str, t.Any]:
        answer = self.client.get((*self.path, *parts))
        with answers.understood(f"GET {'/'.join(parts)} of container {self.vmid}"):
            return dict(answer)

    def pending(self) -> tuple[str, ...]:
        """Return the config keys whose change waits for the next start."""
        entries = self.client.get((*self.path, "pending"))
        return tuple(sorted(e["key"] for e in entries if "pending" in e or e.get("delete")))

    def ha_settings(self) -> dict[str, t.Any]:
        """Return the settings of its high availability resource."""
        return dict(self.client.get(("cluster", "ha", "resources", f"ct:{self.vmid}")))

    # ---- locks and waiting

    def wait_unlocked(self, timeout_s: float) -> None:
        """Wait until no lock is on the container; raise WrongState naming it after ``timeout_s``."""
        lock: str | None = None

        def is_free() -> bool:
            nonlocal lock
            lock = self.status().get("lock") or None
            return lock is None

        if self._poll(is_free, timeout_s):
            return
        running = guests.running_tasks(self.client, Guest(vmid=self.vmid, node=self.node))
        holder = f"task {running[0]} holds it" if running else "no task that shows holds it"
        who = f"container {self.vmid} on node '{self.node}'"
        raise WrongState(
            f"{who} has been locked ({lock}) for {timeout_s:g} s; {holder}",
            hint="Wait for the task, or raise lock_timeout"
            if running
            else f"'pct unlock {self.vmid}' on the node removes a lock whose task died",
        )

    def wait_status(self, wanted: str, timeout_s: float) -> bool:
        """Return whether the container gets the status ``running`` or ``stopped`` in time."""
        return self._poll(lambda: self.status().get("status") == wanted, timeout_s)

    def _poll(self, is_done: t.Callable[[], bool], timeout_s: float) -> bool:
        deadline = self._clock() + timeout_s
        wait_s = _FIRST_POLL_S
        while not is_done():
            left_s = deadline - self._clock()
            if left_s <= 0:
                return False
            self._sleep(min(wait_s, left_s))
            wait_s = min(wait_s * _POLL_GROWTH, _LONGEST_POLL_S)
        return True

    def run(self, upid: t.Any, timeout_s: float | None = None) -> None:
        """Wait for a task and keep its warnings; some requests end without one."""
        if isinstance(upid, str) and upid.startswith("UPID:"):
            done = tasks.wait_task(self.client, upid, timeout_s or self.task_timeout_s)
            self.warnings += done.warnings

    # ---- making and changing

    def create(self, params: t.Mapping[str, t.Any]) -> None:
        """Create the container from the parameters of `lxc_create.create_params`."""
        self.run(self.client.post(("nodes", self.node, "lxc"), **params))

    def clone_to(self, params: t.Mapping[str, t.Any]) -> None:
        """Clone this container by the parameters of `lxc_create.clone_params`."""
        self.run(self.client.post((*self.path, "clone"), **params))

    def configure(
        self, put: t.Mapping[str, t.Any], delete: t.Sequence[str] = (), *, digest: str | None = None
    ) -> None:
        """Change config keys at once; refused when ``digest`` is no longer the config's."""
        self.client.put(
            (*self.path, "config"), **put, delete=",".join(delete) if delete else None, digest=digest
        )

    def resize(self, disk: str, size_bytes: int) -> None:
        """Grow a disk to ``size_bytes``; its file system grows with it."""
        self.run(self.client.put((*self.path, "resize"), disk=disk, size=props.format_size(size_bytes)))

    def move_volume(self, disk: str, storage: str, *, bwlimit: int | None = None) -> None:
        """Move a volume to another storage; the old one is removed when the copy is whole."""
        upid = self.client.post(
            (*self.path, "move_volume"), volume=disk, storage=storage, delete=True, bwlimit=bwlimit
        )
        self.run(upid)

    def migrate(
        self, target: str, *, running: bool, shutdown_timeout_s: int, bwlimit: int | None = None
    ) -> None:
        """Move the container to another node; a running one is stopped and started there."""
        upid = self.client.post(
            (*self.path, "migrate"),
            target=target,
            restart=running or None,
            timeout=shutdown_timeout_s if running else None,
            bwlimit=bwlimit,
        )
        self.run(upid, self.task_timeout_s + shutdown_timeout_s)
        there = Container(self.client, target, self.vmid, clock=self._clock, sleep=self._sleep)
        # High availability only takes the wish; the move follows in its own time.
        if not self._poll(there.exists, self.task_timeout_s):
            raise CommandTimeout(
                f"container {self.vmid} has not arrived on node '{target}' within {self.task_timeout_s:g} s",
                hint="Look at the state of high availability, or raise task_timeout",
            )
        self.node = target

    def exists(self) -> bool:
        """Say whether the container is on this node."""
        try:
            self.status()
        except ApiError as exc:
            if exc.is_unreachable:
                raise
            return False
        return True

    def to_template(self) -> None:
        """Convert the container, which must be stopped, to a template."""
        self.run(self.client.post((*self.path, "template")))

    def destroy(self, *, purge: bool, unreferenced_disks: bool) -> None:
        """Remove the container, which must be stopped, with its volumes."""
        params = {"purge": purge, "destroy-unreferenced-disks": unreferenced_disks or None}
        self.run(self.client.delete(self.path, **params))

    # ---- power

    def start(self, *, ha_managed: bool = False) -> None:
        """Start the container."""
        self.run(self.client.post((*self.path, "status", "start")))
        if ha_managed and not self.wait_status("running", self.task_timeout_s):
            raise self._ha_too_slow("started")

    def reboot(self, *, timeout_s: int, ha_managed: bool = False) -> None:
        """Stop and start the container; what was pending then applies."""
        upid = self.client.post((*self.path, "status", "reboot"), timeout=timeout_s)
        self.run(upid, self.task_timeout_s + timeout_s)
        if ha_managed and not self.wait_status("running", self.task_timeout_s):
            raise self._ha_too_slow("restarted")

    def shutdown(self, *, timeout_s: int, force: bool, ha_managed: bool = False) -> None:
        """Ask the container to stop; ``force`` kills it after ``timeout_s``, at once for 0.

        Raises WrongState when it goes on running.
        """
        try:
            if force and timeout_s == 0:
                upid = self.client.post((*self.path, "status", "stop"))
            else:
                upid = self.client.post(
                    (*self.path, "status", "shutdown"), timeout=timeout_s, forceStop=force or None
                )
            self.run(upid, timeout_s + _SHUTDOWN_GRACE_S + self.task_timeout_s)
        except (ApiError, TaskFailed) as exc:
            self._judge_shutdown(exc, timeout_s, force)
            return
        if ha_managed and not self.wait_status("stopped", self.task_timeout_s):
            raise self._ha_too_slow("stopped")

    def _judge_shutdown(self, exc: CoreError, timeout_s: int, force: bool) -> None:
        """Pass a failure over when the container is stopped all the same."""
        status = self.status()
        if status.get("status") == "stopped":
            return
        if isinstance(exc, TaskFailed) and not force and not status.get("lock"):
            raise WrongState(
                f"container {self.vmid} did not stop within {timeout_s} s ({exc.exitstatus})",
                hint="Set 'force: true' to kill it then, or raise shutdown_timeout",
            ) from exc
        raise exc

    def _ha_too_slow(self, what: str) -> CommandTimeout:
        return CommandTimeout(
            f"high availability has not {what} container {self.vmid} within {self.task_timeout_s:g} s",
            hint="Look at the state of its HA resource, or raise task_timeout",
        )

    # ---- pool and high availability

    def leave_pool(self, pool: str) -> None:
        """Take the container out of a pool."""
        self.client.put(("pools",), poolid=pool, vms=self.vmid, delete=True)

    def join_pool(self, pool: str, *, moves: bool) -> None:
        """Put the container into a pool; ``moves`` says that it is in another one."""
        # Proxmox VE up to 8.0 does not know the parameter.
        self.client.put(("pools",), **{"poolid": pool, "vms": self.vmid, "allow-move": moves or None})

    def ha_add(self, settings: t.Mapping[str, t.Any]) -> None:
        """Make the container highly available."""
        self.client.post(("cluster", "ha", "resources"), sid=f"ct:{self.vmid}", **settings)

    def ha_update(self, settings: t.Mapping[str, t.Any]) -> None:
        """Change settings of its high availability."""
        self.client.put(("cluster", "ha", "resources", f"ct:{self.vmid}"), **settings)

    def ha_remove(self) -> None:
        """Take the container out of high availability."""
        self.client.delete(("cluster", "ha", "resources", f"ct:{self.vmid}"))
