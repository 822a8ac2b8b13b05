# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoint containers and pods; synchronous, for threads.

All containers of a checkpoint are paused before the first one is dumped and resumed after
the last one, so that the archive shows one moment of all of them: whatever one of them has
sent to another before is either received or still in the kernel's buffers, which are in
the images.  Nothing is guaranteed about what reaches them from outside.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.state import Status
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    Unsupported,
    WrongState,
)
from pvecri import __version__
from pvecri.api import cri_pb2
from pvecri.checkpoints import layout
from pvecri.checkpoints.capture import Capture, told_of
from pvecri.checkpoints.changes import write_tree
from pvecri.checkpoints.journal import Journal, resume
from pvecri.checkpoints.messages import plain
from pvecri.checkpoints.writing import check_target, write_archive
from pvecri.containers.selection import is_guest
from pvecri.context import Context
from pvecri.sandboxes.places import Places
from pvecri.stages import Stages
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord

#: Name of the archive when a directory is given for one.
POD_ARCHIVE: t.Final = "pod-checkpoint.tar"

_LEAVE_RUNNING: t.Final = "leaveRunning"


class CheckpointService:
    """Writes checkpoints; one for the daemon.  Calls for the same object are serialised by the caller."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._journal = Journal(context.paths.state_dir)

    def start(self) -> None:
        """Begin, in a thread, to clear away what a killed daemon left; containers that it paused go on."""
        keys = self._journal.left_over()
        if keys:
            threading.Thread(target=self._clear, args=(keys,), name="checkpoints", daemon=True).start()

    def _clear(self, keys: t.Sequence[str]) -> None:
        for key in keys:
            self._journal.clear(key, self._context.crun, self._context.log)

    # ---- containers ---------------------------------------------------------------------------------------

    def checkpoint_container(self, container_id: str, location: str, timeout_s: float = 0) -> None:
        """Write a running container into the archive ``location``; it goes on running.

        0 seconds are the time of the configuration.  Raises InvalidSpec, NotFound, WrongState,
        MissingDependency when this host cannot, CommandTimeout and CommandError; then there is no archive.
        """
        context = self._context
        record = context.registry.container(container_id)
        self._refuse_guests([record])
        if timeout_s < 0:
            raise InvalidSpec("timeout", f"{timeout_s} is less than 0")
        target = check_target(location, "location")
        context.crun.checkpoints.check_host()
        stages = Stages()
        with self._journal.work(target, [record.id]) as work:
            sandbox = context.registry.sandbox(record.sandbox_id)
            self._capture(sandbox, {record.id: work.archive}, timeout_s, stages)
            size = write_archive(target, work.temporary, work.archive)
        stages.done("archive")
        context.log.info(
            "container checkpointed", extra={"container": record.id, "location": target, "bytes": size}
        )
        context.log.debug("container captured", extra={"container": record.id, **stages.times})

    # ---- pods ---------------------------------------------------------------------------------------------

    def checkpoint_pod(
        self,
        sandbox_id: str,
        output_path: str,
        container_ids: t.Sequence[str] = (),
        options: t.Mapping[str, str] | None = None,
    ) -> None:
        """Write running containers of a pod, all of them unless some are named, into one archive.

        ``output_path`` is the archive or a directory for it.  Raises what `checkpoint_container` raises.
        """
        context = self._context
        leave_running = is_on(options or {}, _LEAVE_RUNNING)
        sandbox = context.registry.sandbox(sandbox_id)
        if sandbox.phase is not Phase.READY:
            raise WrongState(f"sandbox {sandbox.id} is {sandbox.phase}, not ready")
        place = os.path.join(output_path, POD_ARCHIVE) if os.path.isdir(output_path) else output_path
        target = check_target(place, "output_path")
        records = self._containers(sandbox, container_ids)
        self._refuse_guests(records)
        context.crun.checkpoints.check_host()
        stages = Stages()
        with contextlib.ExitStack() as held:
            for record in sorted(records, key=lambda record: record.id):
                held.enter_context(context.registry.held(record.id))
            work = held.enter_context(self._journal.work(target, [record.id for record in records]))
            directories = {record.id: f"{record.id}-{_name(record)}" for record in records}
            places = {key: os.path.join(work.archive, name) for key, name in directories.items()}
            for path in places.values():
                os.mkdir(path, mode=0o700)

            def finish() -> None:
                self._write_pod(
                    sandbox,
                    {_name(record): directories[record.id] for record in records},
                    work.archive,
                )
                if not leave_running:
                    # While all are paused, so that nothing goes on that is not in the archive.
                    size = write_archive(target, work.temporary, work.archive)
                    self._kill(records)
                    told["bytes"] = size

            told: dict[str, t.Any] = {}
            self._capture(sandbox, places, 0, stages, finish)
            if leave_running:
                told["bytes"] = write_archive(target, work.temporary, work.archive)
        stages.done("archive")
        context.log.info(
            "pod checkpointed",
            extra={"sandbox": sandbox.id, "location": target, "containers": len(records), **told},
        )
        context.log.debug("pod captured", extra={"sandbox": sandbox.id, **stages.times})

    def _containers(self, sandbox: SandboxRecord, wanted: t.Sequence[str]) -> list[ContainerRecord]:
        registry = self._context.registry
        of_pod = registry.containers_of(sandbox.id)
        if not wanted:
            records = [record for record in of_pod if record.phase is Phase.RUNNING]
        else:
            records = []
            for index, container_id in enumerate(wanted):
                record = registry.container(container_id)
                if record.sandbox_id != sandbox.id:
                    raise InvalidSpec(f"container_ids[{index}]", f"{record.id} is one of another pod")
                if record not in records:
                    records.append(record)
        if not records:
            raise WrongState(f"no container of sandbox {sandbox.id} is running")
        names = [_name(record) for record in records]
        if len(set(names)) < len(names):
            raise WrongState(f"two running containers of sandbox {sandbox.id} have the same name")
        return records

    def _write_pod(self, sandbox: SandboxRecord, directories: t.Mapping[str, str], archive: str) -> None:
        pod = cri_pb2.PodSandboxConfig.FromString(sandbox.config)
        told = told_of(sandbox, pod, __version__)
        with open(os.path.join(archive, layout.POD_OPTIONS), "xb") as stream:
            stream.write(layout.pod_options(directories, told))
        with open(os.path.join(archive, layout.POD_DUMP), "xb") as stream:
            stream.write(layout.document(plain(pod)))
        shm = Places(self._context.paths, sandbox.id).shm
        if sandbox.ipcns and os.path.isdir(shm):
            path = os.path.join(archive, layout.DEV_SHM)
            with open(path, "xb") as stream:
                count = write_tree(shm, stream)
            if not count:
                os.unlink(path)

    def _kill(self, records: t.Sequence[ContainerRecord]) -> None:
        for record in records:
            # The kernel ends them when they are resumed, before they do anything else.
            self._context.crun.kill(record.id, signal.SIGKILL)

    @staticmethod
    def _refuse_guests(records: t.Iterable[ContainerRecord]) -> None:
        """Raise Unsupported for containers that are guests of Proxmox VE."""
        for record in records:
            if is_guest(record):
                raise Unsupported(
                    f"container {record.id} ({_name(record)}) runs under Proxmox LXC, which has no "
                    "checkpoints",
                    hint="Use snapshots or backups of Proxmox VE; of a pod, name the other containers",
                )

    # ---- both ---------------------------------------------------------------------------------------------

    def _capture(
        self,
        sandbox: SandboxRecord,
        places: t.Mapping[str, str],
        timeout_s: float,
        stages: Stages,
        finish: t.Callable[[], None] = lambda: None,
    ) -> None:
        """Pause containers, write each into its directory, then ``finish``, and let them go on."""
        context = self._context
        limit_s = timeout_s or context.config.checkpoints.timeout_s
        deadline = time.monotonic() + limit_s
        capture = Capture(context, sandbox)
        records = [context.registry.container(container_id) for container_id in places]
        bundles = {record.id: capture.check(record) for record in records}
        try:
            for record in records:
                context.crun.pause(record.id)
            stages.done("pause")
            for record in records:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise CommandTimeout(
                        f"the checkpoint was not done within {limit_s:g} s", hint="Raise the time-out"
                    )
                capture.write(record, bundles[record.id], places[record.id], timeout_s=left_s)
                self._refuse_ended(record)
            stages.done("dump")
            finish()
        finally:
            for record in records:
                resume(context.crun, record.id, context.log)

    def _refuse_ended(self, record: ContainerRecord) -> None:
        """Raise WrongState for a container that was stopped meanwhile: its file system went on without it."""
        state = self._context.crun.state(record.id)
        if state is None or state.status is not Status.PAUSED:
            raise WrongState(f"container {record.id} was stopped while it was being checkpointed")


def _name(record: ContainerRecord) -> str:
    return cri_pb2.ContainerConfig.FromString(record.config).metadata.name


def is_on(options: t.Mapping[str, str], name: str) -> bool:
    """Return what the only option that there is says, true without it; raises InvalidSpec for others."""
    for key, value in options.items():
        if key != name:
            raise InvalidSpec(f"options[{key}]", "is unknown", hint=f"Known is {name}: true or false")
        if value not in {"true", "false"}:
            raise InvalidSpec(f"options[{key}]", f"'{value[:64]}' is neither true nor false")
    return options.get(name) != "false"
