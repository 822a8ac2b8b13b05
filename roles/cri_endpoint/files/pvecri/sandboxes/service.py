# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run, stop and remove sandboxes: what the CRI's sandbox calls do, without gRPC.

Calls for one sandbox are serialised by the caller; calls for different ones run side by side.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    InvalidSpec,
    NotFound,
    WrongState,
)
from pvecri.api import cri_pb2
from pvecri.context import Context
from pvecri.sandboxes import cgroup, resources, status
from pvecri.sandboxes.run import SandboxRun, new_record
from pvecri.sandboxes.teardown import Steps, erase, teardown
from pvecri.sandboxes.validate import validate
from pvecri.state.holds import REMOVING, STOPPING
from pvecri.state.records import Phase, SandboxRecord

#: What the service wants of containers: end this one at once; remove this one.
OnContainer = t.Callable[[str], t.Any]

#: Containers of a pod that are ended side by side.
_WORKERS = 8


class SandboxService:
    """The sandbox calls of the CRI."""

    def __init__(
        self, context: Context, *, end_container: OnContainer, remove_container: OnContainer
    ) -> None:
        """Set up; the functions end a container without delay and remove one, and are idempotent."""
        self._context = context
        self._end_container = end_container
        self._remove_container = remove_container
        self._slots = threading.BoundedSemaphore(context.config.network.max_parallel)
        #: Address ranges of this node's pods, for plugins that are told (capability ``ipRanges``).
        self.pod_cidrs: tuple[str, ...] = ()

    # ---- run ------------------------------------------------------------------------------------------

    def run(self, config: cri_pb2.PodSandboxConfig, handler: str = "") -> str:
        """Make a sandbox and return its id.

        Repeated with the same request it returns the id of the one that is there.  Raises
        InvalidSpec, Conflict when another request has the same metadata, and what networks,
        kernel and crun raise; nothing is left behind then.
        """
        context = self._context
        pod = validate(config, handler, context.policy, is_systemd=context.uses_systemd)
        record = new_record(context, pod, config.SerializeToString(deterministic=True), handler)
        if record.extra["owns_cgroup"]:
            resources.check(pod.resources, context.host)
        while (held := context.registry.reserve_sandbox(record)).id != record.id:
            if not self._is_left_over(held):
                return self._repeated(held)
        with context.registry.held(record.id):
            record = self._with_own_cgroup(record)
            return SandboxRun(context, pod, record, slots=self._slots, pod_cidrs=self.pod_cidrs).run().id

    def _with_own_cgroup(self, record: SandboxRecord) -> SandboxRecord:
        """Return the record of a pod whose cgroup was there before only because of a run that was cut short.

        With the name reserved that one is completely gone.
        """
        if (
            record.extra["owns_cgroup"]
            or cgroup.PodCgroup(record.cgroup_parent, self._context.runner).exists()
        ):
            return record
        extra = {**record.extra, "owns_cgroup": True}
        return self._context.registry.update_sandbox(record.id, extra=extra)

    def _is_left_over(self, held: SandboxRecord) -> bool:
        """Take apart what a run that was cut short has left; return whether it was that.

        Recovery may be at it already: then that is waited for.
        """
        if held.phase is not Phase.CREATING:
            return False
        with self._context.registry.held(held.id):
            self.remove(held.id)
        return True

    def _repeated(self, held: SandboxRecord) -> str:
        """Return the id of the sandbox that an equal request has made; raises Conflict if it is no more."""
        if held.phase is not Phase.READY or self._context.registry.flags(held.id):
            raise Conflict(
                f"sandbox {held.id} of the same pod and attempt is {held.phase}",
                hint="Remove it first, or ask for the next attempt",
            )
        return held.id

    # ---- stop and remove ------------------------------------------------------------------------------

    def stop(self, sandbox_id: str) -> None:
        """End a sandbox's containers and take away its network; one that is gone or stopped is fine.

        Raises `teardown.TeardownError` when something is left; repeating it goes on.
        """
        record = self._found(sandbox_id)
        if record is None:
            return
        with self._context.registry.flagged(record.id, STOPPING):
            self._stop(record)

    def _stop(self, record: SandboxRecord) -> None:
        steps = Steps(record.id)
        self._on_containers(record.id, steps, self._end_container)
        if steps.failures:
            # What runs needs its network and namespaces.
            steps.finish()
        # Said before it is done: with nothing but a part of its things it is not ready any more.  One in the
        # making stays that until it is gone, since nobody was told of it.
        if record.phase is Phase.READY:
            self._context.registry.update_sandbox(record.id, phase=Phase.STOPPED)
        teardown(self._context, record)
        self._context.registry.update_sandbox(record.id, ips=())

    def remove(self, sandbox_id: str) -> None:
        """Remove a sandbox with its containers; one that is gone is fine.

        It is stopped first if it is not.  Raises `teardown.TeardownError` when something is left.
        """
        record = self._found(sandbox_id)
        if record is None:
            return
        context = self._context
        with context.registry.flagged(record.id, STOPPING), context.registry.flagged(record.id, REMOVING):
            self._stop(record)
            steps = Steps(record.id)
            self._on_containers(record.id, steps, self._remove_container)
            steps.finish()
            erase(context, self._without_shared_cgroup(record))
            context.registry.remove_sandbox(record.id)

    def _without_shared_cgroup(self, record: SandboxRecord) -> SandboxRecord:
        """Hand a cgroup of our own that another pod names as well to that pod; return the record."""
        if not record.extra.get("owns_cgroup"):
            return record
        registry = self._context.registry
        for other in registry.sandboxes():
            if other.id != record.id and other.cgroup_parent == record.cgroup_parent:
                with contextlib.suppress(NotFound):
                    registry.change_sandbox(
                        other.id, lambda heir: {"extra": {**heir.extra, "owns_cgroup": True}}
                    )
                    return dataclasses.replace(record, extra={**record.extra, "owns_cgroup": False})
        return record

    def _found(self, sandbox_id: str) -> SandboxRecord | None:
        try:
            return self._context.registry.sandbox(sandbox_id)
        except NotFound:
            return None

    def _on_containers(self, sandbox_id: str, steps: Steps, act: OnContainer) -> None:
        """Do the same to all containers of a sandbox, side by side, and note what failed."""
        ids = [record.id for record in self._context.registry.containers_of(sandbox_id)]
        if not ids:
            return
        with concurrent.futures.ThreadPoolExecutor(min(len(ids), _WORKERS), "sandbox-stop") as pool:
            futures = {container: pool.submit(act, container) for container in ids}
        for container, future in futures.items():
            steps.take(f"container {container}", future.result)

    # ---- looking and changing --------------------------------------------------------------------------

    def status_info(self, sandbox_id: str) -> dict[str, str]:
        """Return the ``info`` of a verbose PodSandboxStatus; raises NotFound."""
        return status.info(self._context, self._context.registry.sandbox(sandbox_id))

    def update_resources(
        self,
        sandbox_id: str,
        overhead: cri_pb2.LinuxContainerResources,
        new_resources: cri_pb2.LinuxContainerResources,
    ) -> None:
        """Take over what a pod may use now; its cgroup is changed if it is ours (see `cgroup`).

        Raises NotFound, WrongState for one that is not ready, InvalidSpec also when the
        kernel refuses a limit, and CommandError when systemd does.
        """
        context = self._context
        record = context.registry.sandbox(sandbox_id)
        wanted = resources.pod_resources(overhead, new_resources, "")
        if record.phase is not Phase.READY:
            raise WrongState(f"sandbox {record.id} is {record.phase}, not ready")
        if record.extra.get("owns_cgroup"):
            resources.check(wanted, context.host, "")
            try:
                cgroup.PodCgroup(record.cgroup_parent, context.runner).limit(wanted)
            except OSError as exc:
                raise InvalidSpec("resources", f"the kernel refuses it: {exc}") from exc
        told = {"overhead": overhead, "resources": new_resources}
        in_force = {name: message.SerializeToString().hex() for name, message in told.items()}
        context.registry.update_sandbox(record.id, extra={**record.extra, **in_force})
