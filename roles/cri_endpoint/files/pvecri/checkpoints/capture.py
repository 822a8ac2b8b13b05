# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write what a container is at one moment into a directory: the content of its checkpoint."""

from __future__ import annotations

import contextlib
import os
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, Unsupported, WrongState
from pvecri.api import cri_pb2
from pvecri.checkpoints import layout
from pvecri.checkpoints.changes import Layers, write_changes
from pvecri.checkpoints.messages import plain
from pvecri.context import Context
from pvecri.state.records import RESTORED, ContainerRecord, Phase, SandboxRecord


class Capture:
    """Captures the containers of one pod."""

    def __init__(self, context: Context, sandbox: SandboxRecord) -> None:
        self._context = context
        self._sandbox = sandbox

    def check(self, record: ContainerRecord) -> Bundle:
        """Return the bundle of a container that can be checkpointed; raises WrongState and Unsupported."""
        if record.phase is not Phase.RUNNING:
            raise WrongState(f"container {record.id} is {record.phase}, not running")
        if self._sandbox.userns:
            raise Unsupported(
                f"container {record.id} has a user namespace: CRIU cannot restore it into another pod's",
                hint="Checkpoint pods with hostUsers: true",
            )
        bundle = self._context.bundles.load(record.id)
        if bundle is None or bundle.record is None or not bundle.record.layers:
            raise WrongState(
                f"the bundle of container {record.id} is damaged", hint="Make the container anew"
            )
        return bundle

    def write(self, record: ContainerRecord, bundle: Bundle, directory: str, *, timeout_s: float) -> None:
        """Dump a paused container into an empty directory, with what it wrote into its file system.

        Raises CommandTimeout, CommandError with what CRIU said, and OSError; the container stays paused.
        """
        images = os.path.join(directory, layout.IMAGES)
        os.mkdir(images, mode=0o700)
        self._context.crun.checkpoints.dump(record.id, images, directory, timeout_s=timeout_s)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(directory, "criu.conf"))
        self._write_file_system(bundle, directory)
        for name, content in self._documents(record, bundle).items():
            self._write(directory, name, content)

    def _write_file_system(self, bundle: Bundle, directory: str) -> None:
        assert bundle.record is not None
        layers = Layers(
            upper=os.path.join(bundle.path, "upper"), lower=bundle.record.layers, merged=bundle.rootfs_path
        )
        skipped = {os.path.normpath(mount["destination"]) for mount in bundle.config.get("mounts", ())}
        with open(os.path.join(directory, layout.ROOTFS_DIFF), "xb") as output:
            deleted = write_changes(layers, skipped, output)
        if deleted:
            self._write(directory, layout.DELETED_FILES, layout.document(deleted))

    def _documents(self, record: ContainerRecord, bundle: Bundle) -> dict[str, bytes]:
        config = cri_pb2.ContainerConfig.FromString(record.config)
        dumped = layout.Dumped(
            id=record.id,
            name=record.name,
            image_asked=config.image.user_specified_image or config.image.image,
            image_name=str(record.extra.get("image_name", "")),
            image_ref=record.image_ref,
        )
        status = cri_pb2.ContainerStatusResponse.FromString(
            self._context.registry.container_status_bytes(record.id)
        )
        found = {
            layout.CONFIG_DUMP: layout.config_dump(
                dumped,
                runtime="crun",
                created_ns=record.created_at_ns,
                checkpointed_ns=time.time_ns(),
                is_restored=RESTORED in record.extra,
            ),
            layout.SPEC_DUMP: layout.spec_dump(
                bundle.config, config.annotations, config.labels, config.metadata.name
            ),
            layout.STATUS_DUMP: layout.document(plain(status.status)),
            layout.CONTAINER_CONFIG: layout.document(plain(config)),
            layout.BIND_MOUNTS: layout.document(list(_bind_mounts(bundle.config))),
        }
        network = self._network()
        if network is not None:
            found[layout.NETWORK_STATUS] = layout.document([network])
        return found

    def _network(self) -> dict[str, t.Any] | None:
        with contextlib.suppress(CoreError):
            result = self._context.cni.result(self._sandbox.id)
            return None if result is None else result.raw
        return None

    @staticmethod
    def _write(directory: str, name: str, content: bytes) -> None:
        with open(os.path.join(directory, name), "xb") as stream:
            stream.write(content)


def _bind_mounts(config: t.Mapping[str, t.Any]) -> t.Iterator[dict[str, t.Any]]:
    for mount in config.get("mounts", ()):
        if mount.get("type") != "bind":
            continue
        with contextlib.suppress(OSError):
            mode = os.stat(mount["source"]).st_mode
            yield {
                "source": mount["source"],
                "destination": mount["destination"],
                "file_type": "directory" if os.path.isdir(mount["source"]) else "file",
                "permissions": mode & 0o777,
            }


def told_of(sandbox: SandboxRecord, pod: cri_pb2.PodSandboxConfig, version: str) -> dict[str, str]:
    """Return what checkpoints of pods say of themselves, by the names that are in use for it."""
    found = {
        "engine.name": "pvecri",
        "engine.version": version,
        "pod.name": pod.metadata.name,
        "pod.id": sandbox.id,
        "pod.uid": pod.metadata.uid,
        "pod.namespace": pod.metadata.namespace,
        "runtime.name": "crun",
        "host.arch": os.uname().machine,
        "host.kernel": os.uname().release,
    }
    return {f"{layout.ANNOTATION}{key}": value for key, value in found.items()}
