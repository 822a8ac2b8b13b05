# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out that a container is to be restored from a checkpoint, and prepare its bundle for that."""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import Bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import CreateOptions
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import remove_tree
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.linux import is_systemd_path
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime
from pvecri.api import cri_pb2
from pvecri.checkpoints import layout
from pvecri.checkpoints.applying import apply_changes, make_mount_points, remove_deleted
from pvecri.checkpoints.reading import LayersSource, Source, TarSource, read_container, unpack
from pvecri.containers.request import Request
from pvecri.context import Context
from pvecri.images.names import public_names
from pvecri.images.service import ImageService
from pvecri.sandboxes.places import Places
from pvecri.state.records import RESTORED, ContainerRecord

#: Directory of a bundle with what its container is restored from; gone once that is done.
DIRECTORY: t.Final = "restore"

_MIB: t.Final = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a container is to be restored from."""

    source: Source
    dumped: layout.Dumped
    #: What the client called it.
    called: str
    #: Reference of the image that the container was made of; it is on this host.
    base: str

    def request(self, request: Request) -> Request:
        """Return a request as if it had named the image that the container was made of."""
        config = cri_pb2.ContainerConfig()
        config.CopyFrom(request.config)
        config.image.image = self.base
        return dataclasses.replace(request, config=config)

    def noted(self) -> dict[str, t.Any]:
        """Return what the record says of it."""
        return {
            "from": self.called,
            "container": self.dumped.id,
            "checkpointed_at": self.dumped.checkpointed_at,
        }


class Origin(t.NamedTuple):
    """A checkpoint that somebody has found already, and what he calls it."""

    source: Source
    called: str


class Restorer:
    """Prepares containers that are restored."""

    def __init__(self, context: Context, images: ImageService) -> None:
        self._context = context
        self._images = images

    @property
    def limit(self) -> int:
        """Bytes that a checkpoint may have."""
        return self._context.config.checkpoints.max_size_mib * _MIB

    def find(self, request: Request, origin: Origin | None = None) -> Checkpoint | None:
        """Return what a container is to be restored from; None for one that is to begin anew.

        That is an archive when the image is an absolute path, and an image that says so.
        Raises InvalidSpec for what is none, WrongState for an image that is not trusted,
        MissingDependency on a host that cannot restore, and what a pull raises.
        """
        found = origin or self._origin(request.config.image.image)
        if found is None:
            return None
        if request.sandbox.userns:
            raise Unsupported(
                "a container cannot be restored into a user namespace", hint="Use a pod with hostUsers: true"
            )
        self._context.crun.checkpoints.check_host()
        source, called = found
        dumped = read_container(source)
        if dumped.has_terminal != request.config.tty:
            raise InvalidSpec(
                "config.tty",
                f"the checkpointed container had {'a' if dumped.has_terminal else 'no'} terminal",
                hint="Ask for the same",
            )
        return Checkpoint(source=source, dumped=dumped, called=called, base=self._base(dumped, source))

    def _origin(self, called: str) -> Origin | None:
        if called.startswith("/"):
            return Origin(TarSource(os.path.normpath(called), limit=self.limit), called)
        try:
            image = self._images.resolve(called, field="config.image.image")
        except NotFound:
            # Whoever creates the container says so, in his own words.
            return None
        annotations = self._images.annotations(image)
        if not any(key in annotations for key in layout.IMAGE_ANNOTATIONS):
            return None
        self._refuse_untrusted(image, called)
        return Origin(LayersSource(called, image.layer_dirs, limit=self.limit), called)

    def _refuse_untrusted(self, image: Image, called: str) -> None:
        """Raise WrongState unless the administrator trusts an image: it decides on capabilities and users."""
        patterns = self._context.config.checkpoints.trusted_images
        names = public_names(image)
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names for pattern in patterns):
            raise WrongState(
                f"image {called} holds a checkpoint, and none that this host trusts",
                hint="What is restored has the privileges that the checkpoint says, not those of the pod: "
                "name images that may do that in checkpoints.trusted_images of the endpoint's configuration",
            )

    def _base(self, dumped: layout.Dumped, source: Source) -> str:
        """Return a reference of the image that the container was made of, pulled if it is not here."""
        if not dumped.base_images:
            raise InvalidSpec("", f"{source.what} does not say which image its container was made of")
        for reference in dumped.base_images:
            with contextlib.suppress(NotFound, InvalidSpec):
                self._images.resolve(reference, field="config.image.image")
                return reference
        failure: CoreError | None = None
        for reference in dumped.base_images:
            if reference.startswith("sha256:"):
                continue
            try:
                self._images.pull(cri_pb2.ImageSpec(image=reference))
            except CoreError as exc:
                failure = failure or exc
            else:
                return reference
        raise WrongState(
            f"the image {dumped.base_images[0]}, of which the checkpointed container was made, is not here "
            f"and cannot be pulled: {failure or 'it has no name'}",
            hint="Pull it first",
        ) from failure

    def prepare(self, checkpoint: Checkpoint, bundle: Bundle, record: ContainerRecord) -> None:
        """Put into a new bundle what the container left off with; raises InvalidSpec and OSError."""
        source, what = checkpoint.source, checkpoint.source.what
        layout.compare_mounts(checkpoint.dumped, bundle.config)
        directory = os.path.join(bundle.path, DIRECTORY)
        os.mkdir(directory, mode=0o700)
        unpack(source, directory)
        root = bundle.rootfs_path
        changes = os.path.join(directory, layout.ROOTFS_DIFF)
        if os.path.exists(changes):
            apply_changes(root, changes, limit=self.limit, what=what)
            os.unlink(changes)
        deleted = os.path.join(directory, layout.DELETED_FILES)
        if os.path.exists(deleted):
            with open(deleted, "rb") as stream:
                remove_deleted(root, layout.read_deleted(stream.read(), what), what)
        make_mount_points(root, bundle.config)
        shm = os.path.join(directory, layout.DEV_SHM)
        if os.path.exists(shm):
            self.restore_shm(shm, record.sandbox_id, what)

    def restore_shm(self, path: str, sandbox_id: str, what: str) -> None:
        """Put files into a pod's /dev/shm that are not there yet."""
        target = Places(self._context.paths, sandbox_id).shm
        if os.path.isdir(target):
            apply_changes(target, path, limit=self.limit, what=what, is_new_only=True)


def refuse_guest(selection: Selection) -> None:
    """Raise Unsupported when a container that is to be restored was selected to be a guest of Proxmox VE."""
    if selection.runtime is Runtime.PVE_LXC:
        raise Unsupported(
            "containers under Proxmox LXC cannot be restored from checkpoints; it was selected because "
            f"{selection.reason}",
            hint="Choose a runtime handler or a policy by which crun runs it",
        )


def restore(context: Context, record: ContainerRecord) -> None:
    """Let a container that was prepared go on; raises WrongState, CommandTimeout and CommandError."""
    bundle = context.bundles.load(record.id)
    if bundle is None or bundle.problems:
        raise WrongState(f"the bundle of container {record.id} is damaged", hint="Make the container anew")
    config = cri_pb2.ContainerConfig.FromString(record.config)
    context.crun.checkpoints.restore(
        bundle.path,
        record.id,
        os.path.join(bundle.path, DIRECTORY, layout.IMAGES),
        CreateOptions(
            log_path=record.log_path,
            terminal=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
            systemd_cgroup=is_systemd_path(bundle.config.get("linux", {}).get("cgroupsPath") or ""),
        ),
        timeout_s=context.config.checkpoints.timeout_s,
    )


def discard(context: Context, container_id: str) -> None:
    """Remove what a container was restored from; what resists goes with the container."""
    with contextlib.suppress(OSError):
        remove_tree(os.path.join(context.bundles.path_of(container_id), DIRECTORY))


def is_restored_from(record: ContainerRecord, called: str) -> bool:
    """Say whether a container was restored from a checkpoint of this name."""
    noted = record.extra.get(RESTORED)
    return isinstance(noted, dict) and noted.get("from") == called
