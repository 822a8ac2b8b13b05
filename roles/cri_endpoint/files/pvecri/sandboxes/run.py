# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a sandbox.

Its record is written before anything is done and says what will be there, so that a
daemon killed at any point finds, and takes apart, what was made.  While the CNI plugins
run, which is most of the time, all that does not need the network is made beside them.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import CniResult
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import find_config
from pvecri.context import Context
from pvecri.sandboxes import cgroup, files, namespaces, pause, teardown
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Pod
from pvecri.stages import Stages
from pvecri.state import spare
from pvecri.state.records import Phase, SandboxRecord


def new_record(context: Context, pod: Pod, config: bytes, handler: str) -> SandboxRecord:
    """Return the record of a sandbox that is to be made, under a new id."""
    sandbox_id = os.urandom(32).hex()
    places = Places(context.paths, sandbox_id)
    own = {kind: places.namespace(kind) for kind in namespaces.kinds_of(pod)}
    parent = pod.cgroup_parent or cgroup.own_parent(sandbox_id, is_systemd=context.uses_systemd)
    return SandboxRecord(
        id=sandbox_id,
        name=pod.key,
        config=config,
        handler=handler,
        created_at_ns=time.time_ns(),
        netns=own.get("net", ""),
        ipcns=own.get("ipc", ""),
        utsns=own.get("uts", ""),
        userns=own.get("user", ""),
        cgroup_parent=parent,
        has_pause=pod.shares_pid,
        extra={
            # Looked at before anybody could make it.
            "owns_cgroup": not cgroup.PodCgroup(parent, context.runner).exists(),
            "uid_maps": [[line.container_id, line.host_id, line.size] for line in pod.uid_maps],
            "gid_maps": [[line.container_id, line.host_id, line.size] for line in pod.gid_maps],
        },
    )


class SandboxRun:
    """One sandbox in the making: call `run` once."""

    def __init__(
        self,
        context: Context,
        pod: Pod,
        record: SandboxRecord,
        *,
        slots: threading.Semaphore,
        pod_cidrs: t.Sequence[str] = (),
    ) -> None:
        """Set up; ``slots`` bounds how many pods are in their plugins at once."""
        self._context = context
        self._pod = pod
        self._record = record
        self._places = Places(context.paths, record.id)
        self._slots = slots
        self._pod_cidrs = tuple(pod_cidrs)
        self._stages = Stages()

    def run(self) -> SandboxRecord:
        """Make the sandbox and return its record, READY; what failed leaves nothing behind.

        The record has been reserved by the caller.  When even the way back fails, it stays, STOPPED
        and saying why, so that a later stop and removal go on with it.
        """
        try:
            result = self._make()
            with self._stages.timed("files"):
                files.write(self._pod, self._places, self._addresses(result), result.dns if result else {})
            with self._stages.timed("record"):
                changes: dict[str, t.Any] = {"phase": Phase.READY, "ips": self._addresses(result)}
                spare.save_sandbox(self._context.paths, dataclasses.replace(self._record, **changes))
                record = self._context.registry.update_sandbox(self._record.id, **changes)
        except BaseException as exc:
            self._undo(exc)
            raise
        self._context.log.debug("sandbox made", extra={"sandbox": record.id, **self._stages.times})
        return record

    def _make(self) -> CniResult | None:
        if self._pod.has_host_network:
            self._make_namespaces()
            self._make_beside()
            return None
        with concurrent.futures.ThreadPoolExecutor(1, "sandbox") as helper:
            namespaces_made = helper.submit(self._make_namespaces)
            beside_made = helper.submit(self._make_beside, namespaces_made)
            with self._stages.timed("network"):
                result = self._attached(namespaces_made.result)
            # The pool waits for it even when the network has failed: nothing is undone while it works.
            beside_made.result()
        namespaces.apply_sysctls(self._pod, self._places, is_attached=True)
        return result

    def _make_namespaces(self) -> None:
        with self._stages.timed("namespaces"):
            files.prepare(self._places)
            namespaces.make(self._pod, self._places)
            namespaces.apply_sysctls(self._pod, self._places, is_attached=False)

    def _make_beside(self, made: concurrent.futures.Future[None] | None = None) -> None:
        """Make what needs the namespaces, which were ``made`` before, and not the network."""
        if made is not None:
            made.result()
        with self._stages.timed("beside"):
            files.mount_shm(self._pod, self._places)
            if self._record.extra["owns_cgroup"]:
                cgroup.PodCgroup(self._record.cgroup_parent, self._context.runner).make(self._pod.resources)
            if self._pod.shares_pid:
                pause.start(self._context, self._pod, self._record.id, self._record.cgroup_parent)

    def _attached(self, ready: t.Callable[[], object]) -> CniResult:
        """Attach the pod; a network that is missing or wrong is no fault of the request."""
        try:
            return self._attach(ready)
        except (InvalidSpec, NotFound) as exc:
            if isinstance(exc, InvalidSpec) and exc.field.startswith("config."):
                raise
            raise WrongState(f"the network is not ready: {exc.message}", hint=exc.hint) from exc

    def _attach(self, ready: t.Callable[[], object]) -> CniResult:
        context, pod = self._context, self._pod
        network = find_config(None, context.config.network.conf_dir)
        declared = {
            key
            for plugin in network.plugins
            for key, wanted in (plugin.get("capabilities") or {}).items()
            if wanted
        }
        offered = pod.capabilities(cgroup.group_path(self._record.cgroup_parent), self._pod_cidrs)
        for key in ("portMappings", "bandwidth"):
            if key in offered and key not in declared:
                # Some networks see to it by themselves, from the cluster's own records.
                context.log.info(
                    "no plugin of the network takes what the pod asks for",
                    extra={"sandbox": self._record.id, "network": network.name, "capability": key},
                )
        with self._slots:
            return context.cni.add(
                self._record.id,
                self._record.netns,
                network,
                capabilities={key: value for key, value in offered.items() if key in declared},
                args=pod.cni_args(self._record.id),
                ready=ready,
            )

    @staticmethod
    def _addresses(result: CniResult | None) -> tuple[str, ...]:
        return result.addresses if result else ()

    def _undo(self, cause: BaseException) -> None:
        context, record = self._context, self._record
        try:
            teardown.teardown(context, record)
            teardown.erase(context, record)
            context.registry.remove_sandbox(record.id)
        except Exception as exc:  # the client is to hear of the first failure, whatever this one is
            context.log.error(
                "a sandbox that failed is still there in part",
                exc_info=None if isinstance(exc, CoreError) else exc,
                extra={"sandbox": record.id, "error": str(exc)},
            )
            with contextlib.suppress(CoreError, OSError):
                context.registry.update_sandbox(record.id, phase=Phase.STOPPED, message=f"{cause}; {exc}")
