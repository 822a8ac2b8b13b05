# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restore pods: a sandbox, its containers as they were, all of them or none."""

from __future__ import annotations

import os
import tempfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, CoreError, InvalidSpec
from pvecri.api import cri_pb2
from pvecri.checkpoints import layout, messages
from pvecri.checkpoints.reading import DOCUMENT_MAX, Part, TarSource, chunks, read_document
from pvecri.checkpoints.restoring import Origin, Restorer, is_restored_from
from pvecri.checkpoints.service import POD_ARCHIVE, is_on
from pvecri.checks import clean_path
from pvecri.containers.service import ContainerService
from pvecri.context import Context
from pvecri.sandboxes.service import SandboxService
from pvecri.state.records import Phase

_START: t.Final = "start"


class Contents(t.NamedTuple):
    """What a pod's archive says."""

    pod: cri_pb2.PodSandboxConfig
    #: Directories in the archive by the names of their containers.
    directories: dict[str, str]
    configs: dict[str, cri_pb2.ContainerConfig]


class PodRestorer:
    """Restores pods; one for the daemon."""

    def __init__(
        self, context: Context, sandboxes: SandboxService, containers: ContainerService, restorer: Restorer
    ) -> None:
        self._context = context
        self._sandboxes = sandboxes
        self._containers = containers
        self._restorer = restorer

    def restore(self, request: cri_pb2.RestorePodRequest) -> cri_pb2.RestorePodResponse:
        """Make a pod of an archive, with the request's descriptions where it has some.

        Repeated with the same request it goes on, or answers the same.  Raises InvalidSpec,
        Conflict, and what the parts raise; then nothing of the new pod is left.
        """
        is_to_start = is_on(request.options, _START)
        path = clean_path(request.checkpoint_path, "checkpoint_path")
        self._context.crun.checkpoints.check_host()
        path = os.path.join(path, POD_ARCHIVE) if os.path.isdir(path) else path
        source = TarSource(path, limit=self._restorer.limit)
        contents = self._read(source)
        configs = _chosen(contents, request.container_configs, source.what)
        pod = request.config if request.HasField("config") else contents.pod
        before = {record.id for record in self._context.registry.sandboxes()}
        sandbox_id = self._sandboxes.run(pod, request.runtime_handler)
        is_new = sandbox_id not in before
        if not is_new:
            self._refuse_others(sandbox_id, path)
        # What a client was given by an earlier call stays, however this one ends.
        given = {record.id for record in self._context.registry.containers_of(sandbox_id)}
        made: list[str] = []
        try:
            self._restore_shm(source, sandbox_id)
            for name, config in configs.items():
                part = Part(source, contents.directories[name])
                made.append(self._containers.create(sandbox_id, config, Origin(part, path)))
            for container_id in made if is_to_start else ():
                if self._context.registry.container(container_id).phase is Phase.CREATED:
                    with self._context.registry.held(container_id):
                        self._containers.start(container_id)
        except BaseException:
            self._undo(sandbox_id, [each for each in made if each not in given], is_new=is_new)
            raise
        self._context.log.info(
            "pod restored", extra={"sandbox": sandbox_id, "location": path, "containers": len(made)}
        )
        return cri_pb2.RestorePodResponse(
            pod_sandbox_id=sandbox_id,
            restored_containers=[
                cri_pb2.RestoredContainer(name=name, container_id=container_id)
                for name, container_id in zip(configs, made, strict=True)
            ],
        )

    def _read(self, source: TarSource) -> Contents:
        """Return what an archive says in one pass through it."""
        found: dict[str, bytes] = {}
        total = 0
        for entry in source.entries():
            folder, _slash, name = entry.path.rpartition("/")
            if (not folder and name in {layout.POD_OPTIONS, layout.POD_DUMP}) or (
                name == layout.CONTAINER_CONFIG and "/" not in folder
            ):
                total += entry.size
                if total > DOCUMENT_MAX:
                    raise InvalidSpec(
                        "", f"{source.what}: its descriptions have more than {DOCUMENT_MAX} bytes"
                    )
                found[entry.path] = read_document(entry, source.what)
        for name in (layout.POD_OPTIONS, layout.POD_DUMP):
            if name not in found:
                raise InvalidSpec("", f"{source.what} is no checkpoint of a pod: it has no {name}")
        directories = layout.read_pod_options(found[layout.POD_OPTIONS], source.what)
        pod = messages.read(cri_pb2.PodSandboxConfig, found[layout.POD_DUMP], layout.POD_DUMP, source.what)
        configs = {}
        for name, directory in directories.items():
            text = found.get(f"{directory}/{layout.CONTAINER_CONFIG}")
            if text is not None:
                configs[name] = messages.read(
                    cri_pb2.ContainerConfig, text, layout.CONTAINER_CONFIG, source.what
                )
        return Contents(pod, directories, configs)

    def _refuse_others(self, sandbox_id: str, path: str) -> None:
        """Raise Conflict for a pod that is there already and was not restored from this archive."""
        for record in self._context.registry.containers_of(sandbox_id):
            if not is_restored_from(record, path):
                raise Conflict(
                    f"the pod is there already, as sandbox {sandbox_id}, with containers of its own",
                    hint="Give a config with another uid or attempt, or remove that pod first",
                )

    def _restore_shm(self, source: TarSource, sandbox_id: str) -> None:
        for entry in source.entries():
            if entry.path != layout.DEV_SHM:
                continue
            # Without a name: nothing of it stays if we are killed.
            with tempfile.TemporaryFile(dir=self._context.paths.state_dir) as copy:
                for chunk in chunks(entry.stream, source.what):
                    copy.write(chunk)
                copy.flush()
                self._restorer.restore_shm(f"/proc/self/fd/{copy.fileno()}", sandbox_id, source.what)
            return

    def _undo(self, sandbox_id: str, made: t.Sequence[str], *, is_new: bool) -> None:
        """Take away what was made; what resists stays, as after any removal that failed."""
        try:
            for container_id in made:
                with self._context.registry.held(container_id):
                    self._containers.remove(container_id)
            if is_new:
                self._sandboxes.stop(sandbox_id)
                self._sandboxes.remove(sandbox_id)
        except (CoreError, OSError):
            self._context.log.exception(
                "a pod that could not be restored could not be taken away, either",
                extra={"sandbox": sandbox_id},
            )


def _chosen(
    contents: Contents, given: t.Iterable[cri_pb2.ContainerConfig], what: str
) -> dict[str, cri_pb2.ContainerConfig]:
    """Return the description of each container: the client's, else the archive's own; raises InvalidSpec."""
    configs = dict(contents.configs)
    for index, config in enumerate(given):
        name = config.metadata.name
        if name not in contents.directories:
            raise InvalidSpec(
                f"container_configs[{index}].metadata.name",
                f"there is no container '{name[:64]}' in {what}",
                hint=f"It has {', '.join(sorted(contents.directories))}",
            )
        configs[name] = config
    missing = [name for name in contents.directories if name not in configs]
    if missing:
        raise InvalidSpec(
            "container_configs",
            f"{what} does not say what the containers {', '.join(missing)} were asked to be",
            hint="Give a config for each",
        )
    return {name: configs[name] for name in contents.directories}
