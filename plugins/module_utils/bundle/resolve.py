# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the host path behind each mount that is asked for.

Nothing is made while paths are found: every mount comes with an action that makes
what it needs, run only when the whole configuration has proved valid.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import posixpath
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import contents, volumes
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.idmap import host_id
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import HostMount
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.view import open_directory
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    Image,
    Mount,
    MountKind,
    Paths,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import ResolvedMount
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser

_Action = t.Callable[[], None]


@dataclasses.dataclass(slots=True)
class Resolved:
    """What the mounts of one bundle need."""

    mounts: list[ResolvedMount] = dataclasses.field(default_factory=list)
    host_mounts: list[HostMount] = dataclasses.field(default_factory=list)
    volatile: list[str] = dataclasses.field(default_factory=list)
    volumes: list[str] = dataclasses.field(default_factory=list)
    #: To be run in this order once the configuration is valid.
    actions: list[_Action] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What is known while a bundle is being made."""

    paths: Paths
    spec: ContainerSpec
    #: Maps of the container's ids to the host's; empty without a user namespace.
    uid_maps: tuple[IdMap, ...]
    gid_maps: tuple[IdMap, ...]
    user: ResolvedUser
    #: Directory in which the bundle is made, and where it will be in the end.
    staging: str
    final: str
    instance: str
    #: Descriptor of the root file system's top, to look into it.
    root: int
    #: Images of the image mounts, by reference.
    images: t.Mapping[str, Image]
    #: VOLUMEs of the image.
    image_volumes: tuple[str, ...]

    def owner(self, uid: int, gid: int, field: str) -> tuple[int, int]:
        """Return the host's numbers of an owner inside the container."""
        return (
            host_id(uid, self.uid_maps, f"{field}.uid"),
            host_id(gid, self.gid_maps, f"{field}.gid"),
        )


def resolve_mounts(around: Surroundings) -> Resolved:
    """Return the mounts of the request in their order, then those of the image's volumes.

    Raises InvalidSpec with the mount's place in the request.
    """
    done = Resolved()
    for number, mount in enumerate(around.spec.mounts):
        field = f"mounts[{number}]"
        source = _RESOLVERS[mount.kind](around, done, mount, number, field)
        if mount.kind is MountKind.IMAGE:
            # It is shared with every other user of the image, and mounted read-only.
            mount = dataclasses.replace(mount, read_only=True)  # noqa: PLW2901
        done.mounts.append(ResolvedMount(mount=mount, source=source))
    taken = {posixpath.normpath(mount.destination) for mount in around.spec.mounts}
    for path in around.image_volumes:
        destination = posixpath.normpath("/" + path.lstrip("/"))
        if destination != "/" and destination not in taken:
            taken.add(destination)
            mount = Mount(kind=MountKind.VOLUME, destination=destination)
            source = _anonymous_volume(around, done, destination)
            done.mounts.append(ResolvedMount(mount=mount, source=source))
    return done


def _bind(around: Surroundings, done: Resolved, mount: Mount, number: int, field: str) -> str:
    source = mount.source or ""
    if not source.startswith("/"):
        raise InvalidSpec(f"{field}.source", f"{source!r} is no absolute path of the host")
    if not os.path.exists(source):
        if not mount.create_source:
            raise InvalidSpec(
                f"{field}.source", f"{source} does not exist", hint="Make it, or set create_source"
            )
        done.actions.append(lambda: _make_source(source, f"{field}.source"))
    return _shown(around, done, mount, number, source)


def _make_source(source: str, field: str) -> None:
    try:
        os.makedirs(source, mode=0o755, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as exc:
        raise InvalidSpec(
            field,
            f"{source} does not exist and cannot be made: {exc.filename} is no directory",
            hint="Look for a file, or a link that leads nowhere, on the way",
        ) from exc


def _tmpfs(_around: Surroundings, _done: Resolved, _mount: Mount, _number: int, _field: str) -> None:
    return None


def _volume(around: Surroundings, done: Resolved, mount: Mount, number: int, field: str) -> str:
    if mount.source is None:
        return _shown(around, done, mount, number, _anonymous_volume(around, done, mount.destination))
    name = volumes.check_volume_name(mount.source, f"{field}.source")
    owner = around.owner(0, 0, field)

    def make() -> None:
        content = open_directory(around.root, mount.destination)
        try:
            volumes.named_volume(around.paths, name, content, owner=owner)
        finally:
            if content is not None:
                os.close(content)

    if name not in done.volumes:
        done.volumes.append(name)
        done.actions.append(make)
    return _shown(around, done, mount, number, os.path.join(around.paths.volumes, name))


def _anonymous_volume(around: Surroundings, done: Resolved, destination: str) -> str:
    name = hashlib.sha256(posixpath.normpath(destination).encode()).hexdigest()[:16]
    owner = around.owner(0, 0, "volumes")

    def make() -> None:
        os.makedirs(os.path.join(around.staging, "volumes"), mode=0o711, exist_ok=True)
        content = open_directory(around.root, destination)
        try:
            volumes.fill(os.path.join(around.staging, "volumes", name), content, owner)
        finally:
            if content is not None:
                os.close(content)

    done.actions.append(make)
    return os.path.join(around.final, "volumes", name)


def _image(around: Surroundings, done: Resolved, mount: Mount, number: int, field: str) -> str:
    layers = around.images[mount.source or ""].layer_dirs
    target = f"mounts/{number}"
    done.host_mounts.append(
        HostMount(target=target, layers=layers, sub_path=mount.sub_path or "", field=field)
    )
    return os.path.join(around.final, target)


def _secret(around: Surroundings, done: Resolved, mount: Mount, number: int, field: str) -> str:
    directory = contents.secrets_dir(around.paths, around.spec.name, around.instance)
    path = os.path.join(directory, str(number))
    mode = contents.SECRET_MODE if mount.mode is None else mount.mode
    content, owner = _content(mount, field), _content_owner(around, mount, field)

    def make() -> None:
        contents.write_secret(around.paths, path, content, mode=mode, uid=owner[0], gid=owner[1])

    done.volatile.append(path)
    done.actions.append(make)
    return path


def _file(around: Surroundings, done: Resolved, mount: Mount, number: int, field: str) -> str:
    mode = contents.FILE_MODE if mount.mode is None else mount.mode
    content, owner = _content(mount, field), _content_owner(around, mount, field)

    def make() -> None:
        directory = os.path.join(around.staging, "files")
        os.makedirs(directory, mode=0o711, exist_ok=True)
        path = os.path.join(directory, str(number))
        contents.write_content(path, content, mode=mode, uid=owner[0], gid=owner[1])

    done.actions.append(make)
    return os.path.join(around.final, "files", str(number))


def _content(mount: Mount, field: str) -> bytes:
    if mount.content is None:
        raise InvalidSpec(f"{field}.content", f"a {mount.kind} mount needs its content")
    return mount.content


def _content_owner(around: Surroundings, mount: Mount, field: str) -> tuple[int, int]:
    """Return who owns a file given as content: by default the user that the container runs as."""
    uid = around.user.uid if mount.uid is None else mount.uid
    gid = around.user.gid if mount.gid is None else mount.gid
    return around.owner(uid, gid, field)


def _shown(around: Surroundings, done: Resolved, mount: Mount, number: int, source: str) -> str:
    """Return the path to mount: ``source``, or a pinned mount of what lies below it."""
    if not mount.sub_path:
        return source
    target = f"mounts/{number}"
    done.host_mounts.append(
        HostMount(target=target, source=source, sub_path=mount.sub_path, field=f"mounts[{number}]")
    )
    return os.path.join(around.final, target)


_Resolver = t.Callable[[Surroundings, Resolved, Mount, int, str], "str | None"]

_RESOLVERS: dict[MountKind, _Resolver] = {
    MountKind.BIND: _bind,
    MountKind.TMPFS: _tmpfs,
    MountKind.VOLUME: _volume,
    MountKind.IMAGE: _image,
    MountKind.SECRET: _secret,
    MountKind.FILE: _file,
}
