# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a bundle beside the place where it will be.

    fetch the images → look into the root file system → resolve user and mounts
    → build and check config.json → make volumes, files, secrets → write the record

Up to the check nothing is made but the staging directory itself, so a request that
is wrong leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import mounting
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.bundle import CONFIG_FILE
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import Rootfs, desired_bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import host_id
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.resolve import (
    Resolved,
    Surroundings,
    resolve_mounts,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.view import read_text, viewed
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    GivenSource,
    ImageSource,
    RootfsSource,
    StoredSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    Image,
    ImageConfig,
    MountKind,
    Paths,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec import validate
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.build import build_config
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host_request import with_request
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.linux import cgroups_path
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser, resolve_user


@dataclasses.dataclass(slots=True, kw_only=True)
class Staging:
    """One bundle in the making."""

    paths: Paths
    host: HostFacts
    spec: ContainerSpec
    source: RootfsSource
    #: The directory in which it is made, and the one that it will be.
    directory: str
    final: str
    network_namespace: str | None = None
    extra: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    instance: str = dataclasses.field(default_factory=lambda: os.urandom(6).hex())
    warnings: list[str] = dataclasses.field(default_factory=list)
    #: config.json as it was written.
    config: dict[str, t.Any] | None = None

    def build(self, rootfs: Rootfs, images: t.Mapping[str, Image]) -> BundleRecord:
        """Fill the staging directory and return the record that stands in it.

        ``images`` are those of the image mounts by reference.  The caller keeps
        every image in the store meanwhile.
        """
        self._make_directory()
        maps = self.uid_maps, self.gid_maps
        with contextlib.ExitStack() as stack:
            if rootfs.direct is not None:
                root = os.open(rootfs.direct, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
                stack.callback(os.close, root)
            else:
                place = os.path.join(self.directory, "rootfs")
                root = stack.enter_context(viewed(rootfs.layers, place, uid_maps=maps[0], gid_maps=maps[1]))
                self._make_upper(rootfs.layers[0])
            user = self._user(root, rootfs.config)
            resolved = resolve_mounts(self._surroundings(root, user, rootfs.config, images))
            self._write_config(rootfs, user, resolved)
            # The record stands before anything lies outside the staging directory.
            record = self._record(rootfs, images, resolved)
            record.write(self.directory)
            for action in resolved.actions:
                action()
        mounting.try_sub_paths(self.directory, record)
        return record

    @property
    def has_user_namespace(self) -> bool:
        """Whether the container's ids differ from the host's."""
        return self.spec.namespaces.user != "host"

    @property
    def uid_maps(self) -> tuple[IdMap, ...]:
        """Maps of the root file system's user ids; empty without a user namespace."""
        return self.spec.uid_maps if self.has_user_namespace else ()

    @property
    def gid_maps(self) -> tuple[IdMap, ...]:
        """Maps of the root file system's group ids; empty without a user namespace."""
        return self.spec.gid_maps if self.has_user_namespace else ()

    def _make_directory(self) -> None:
        os.makedirs(os.path.dirname(self.directory), mode=0o711, exist_ok=True)
        os.mkdir(self.directory, 0o700)
        if self.has_user_namespace and self.spec.gid_maps:
            # The container's root must get through, nobody else: old images hold setuid programs.
            os.chown(self.directory, 0, host_id(0, self.spec.gid_maps, "gid_maps"))
            os.chmod(self.directory, 0o710)  # noqa: S103 - group: search only
        os.mkdir(os.path.join(self.directory, "rootfs"), 0o755)

    def _make_upper(self, top_layer: str) -> None:
        """Make the writable part; its top shows through as the container's ``/``."""
        status = os.stat(top_layer)
        upper = os.path.join(self.directory, "upper")
        os.mkdir(upper, 0o755)
        uid = host_id(status.st_uid, self.uid_maps, "uid_maps")
        os.chown(upper, uid, host_id(status.st_gid, self.gid_maps, "gid_maps"))
        os.chmod(upper, stat.S_IMODE(status.st_mode))
        os.mkdir(os.path.join(self.directory, "work"), 0o700)

    def _user(self, root: int, image: ImageConfig) -> ResolvedUser:
        asked = self.spec.user if self.spec.user is not None else image.user
        return resolve_user(
            read_text(root, "etc/passwd"),
            read_text(root, "etc/group"),
            asked,
            self.spec.supplementary_groups,
            self.spec.merge_image_groups,
            pod_groups=self.spec.pod_groups,
        )

    def _surroundings(
        self, root: int, user: ResolvedUser, image: ImageConfig, images: t.Mapping[str, Image]
    ) -> Surroundings:
        return Surroundings(
            paths=self.paths,
            spec=self.spec,
            uid_maps=self.uid_maps,
            gid_maps=self.gid_maps,
            user=user,
            staging=self.directory,
            final=self.final,
            instance=self.instance,
            root=root,
            images=images,
            image_volumes=image.volumes,
        )

    def _write_config(self, rootfs: Rootfs, user: ResolvedUser, resolved: Resolved) -> None:
        spec = dataclasses.replace(self.spec, cgroups_path=self._cgroups_path())
        if self.network_namespace is not None:
            joined = dataclasses.replace(spec.namespaces, network=self.network_namespace)
            spec = dataclasses.replace(spec, namespaces=joined)
        config = build_config(
            spec,
            rootfs.config,
            user,
            with_request(self.host, spec),
            rootfs.direct or "rootfs",
            resolved.mounts,
            warnings=self.warnings,
        )
        validate.check(config)
        self.config = config
        handle = os.open(
            os.path.join(self.directory, CONFIG_FILE),
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC,
            0o600,
        )
        with os.fdopen(handle, "wb") as stream:
            stream.write(json.dumps(config, separators=(",", ":")).encode())

    def _cgroups_path(self) -> str:
        """Return the container's cgroup: what ends one container ends everything in its cgroup."""
        return cgroups_path(
            dataclasses.replace(self.spec, name=self.paths.host_wide(self.spec.name)), self.host
        )

    def _record(self, rootfs: Rootfs, images: t.Mapping[str, Image], resolved: Resolved) -> BundleRecord:
        desired = desired_bundle(self.spec, self.source, rootfs.identity, self.network_namespace)
        used = [*([rootfs.image] if rootfs.image else []), *images.values()]
        return BundleRecord(
            name=self.spec.name,
            instance=self.instance,
            created=time.time(),
            spec_hash=t.cast("str", desired.spec_hash),
            request=desired.request,
            source=desired.source,
            identity=rootfs.identity,
            rootfs=rootfs.direct or "rootfs",
            layers=rootfs.layers,
            mounts=tuple(resolved.host_mounts),
            volatile=tuple(resolved.volatile),
            volumes=tuple(resolved.volumes),
            images=tuple(dict.fromkeys(image.id for image in used)),
            network_namespace=self.network_namespace,
            extra=self.extra,
        )


def fetch_mount_images(spec: ContainerSpec, source: RootfsSource, store: ImageStore) -> dict[str, Image]:
    """Fetch the images of image mounts, with the connection options of the main image; by reference.

    Beside a `StoredSource` they must be in the store already: else NotFound.
    """
    found = {}
    for number, mount in enumerate(spec.mounts):
        if mount.kind is not MountKind.IMAGE:
            continue
        if not mount.source:
            raise InvalidSpec(f"mounts[{number}].source", "an image mount needs the name of an image")
        if isinstance(source, StoredSource | GivenSource):
            stored = store.find(mount.source)
            if stored is None:
                raise NotFound(f"mounts[{number}].source: {mount.source} is not in the image store")
            found[mount.source] = stored
            continue
        if isinstance(source, ImageSource):
            wanted = dataclasses.replace(source, reference=mount.source)
        else:
            wanted = ImageSource(reference=mount.source)
        found[mount.source] = store.ensure(wanted)[0]
    return found


def refuse_removed(
    store: ImageStore, source: RootfsSource, rootfs: Rootfs, images: t.Mapping[str, Image]
) -> None:
    """Raise NotFound when somebody removed an image between its fetch and its use."""
    is_stored = rootfs.image is not None and not isinstance(source, GivenSource)
    for image in [*images.values(), *([rootfs.image] if rootfs.image and is_stored else [])]:
        if store.find(image.id) is None:
            raise NotFound(f"image {image.id} was removed while it was about to be used", hint="Try again")
