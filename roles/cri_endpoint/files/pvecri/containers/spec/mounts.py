# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what is mounted in a container: what the request asks for, then the pod's own files; pure."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Mount, MountKind
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.api import cri_pb2
from pvecri.checks import check_relative, clean_path, id_maps

_PROPAGATION: t.Final = {
    cri_pb2.PROPAGATION_PRIVATE: "rprivate",
    cri_pb2.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    cri_pb2.PROPAGATION_BIDIRECTIONAL: "rshared",
}

#: crun knows the mount option "rro" from here on.
_CRUN_RRO: t.Final = (1, 4)

_SHM: t.Final = "/dev/shm"  # noqa: S108 - the container's, by name


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PodFiles:
    """What a sandbox has for its containers; empty: it has none."""

    hosts: str = ""
    hostname: str = ""
    resolv_conf: str = ""
    shm: str = ""


def mounts(
    asked: t.Sequence[cri_pb2.Mount],
    files: PodFiles,
    images: t.Mapping[int, str],
    host: HostFacts,
    *,
    read_only_rootfs: bool,
) -> tuple[Mount, ...]:
    """Return the mounts of a checked request in its order, then the pod's files where nothing else is.

    ``images`` are the ids of the images of image mounts, by the mount's number.
    """
    found = [_asked(mount, index, images, host) for index, mount in enumerate(asked)]
    taken = {mount.destination for mount in found}
    for destination, source in (
        ("/etc/hosts", files.hosts),
        ("/etc/hostname", files.hostname),
        ("/etc/resolv.conf", files.resolv_conf),
    ):
        if source and destination not in taken:
            found.append(
                Mount(kind=MountKind.BIND, destination=destination, source=source, read_only=read_only_rootfs)
            )
    if files.shm and _SHM not in taken:
        options = ("nosuid", "nodev", "noexec")
        found.append(Mount(kind=MountKind.BIND, destination=_SHM, source=files.shm, options=options))
    return tuple(found)


def _asked(mount: cri_pb2.Mount, index: int, images: t.Mapping[int, str], host: HostFacts) -> Mount:
    field = f"config.mounts[{index}]"
    destination = clean_path(mount.container_path, f"{field}.container_path")
    if mount.recursive_read_only and host.crun_version < _CRUN_RRO:
        version = ".".join(map(str, host.crun_version)) or "of an unknown version"
        raise Unsupported(
            f"{field}.recursive_read_only: crun {version} cannot do that", hint="Install crun 1.4 or newer"
        )
    options = tuple(mount.mount_options)
    if index in images:
        return Mount(
            kind=MountKind.IMAGE,
            destination=destination,
            source=images[index],
            sub_path=_sub_path(mount.image_sub_path, field),
            read_only=True,
            # What an image volume holds is data (KEP-4639).
            options=options if {"exec", "noexec"} & set(options) else (*options, "noexec"),
        )
    return Mount(
        kind=MountKind.BIND,
        destination=destination,
        source=clean_path(mount.host_path, f"{field}.host_path"),
        read_only=mount.readonly,
        recursive_read_only=mount.recursive_read_only,
        propagation=_PROPAGATION[mount.propagation],
        options=options,
        uid_maps=id_maps(mount.uidMappings),
        gid_maps=id_maps(mount.gidMappings),
        create_source=True,
    )


def _sub_path(path: str, field: str) -> str | None:
    clean = check_relative(path, f"{field}.image_sub_path") if path else "."
    return None if clean == "." else clean


def propagating(asked: t.Sequence[cri_pb2.Mount]) -> bool:
    """Say whether a mount is to hand on what is mounted below it, so that its source has to be looked at."""
    return any(mount.propagation != cri_pb2.PROPAGATION_PRIVATE for mount in asked)


def check_propagation(asked: t.Sequence[cri_pb2.Mount], mountinfo: str, real: t.Callable[[str], str]) -> None:
    """Raise InvalidSpec for a propagation that the mount of the source does not allow.

    ``mountinfo`` is the text of /proc/self/mountinfo (proc_pid_mountinfo(5)) and ``real`` resolves the
    links of a path.
    """
    points = [_Point.parse(line) for line in mountinfo.splitlines() if " - " in line]
    for index, mount in enumerate(asked):
        if mount.propagation == cri_pb2.PROPAGATION_PRIVATE:
            continue
        field = f"config.mounts[{index}].propagation"
        point = _mount_of(real(mount.host_path), points)
        if point is not None and (
            point.is_shared or (mount.propagation == cri_pb2.PROPAGATION_HOST_TO_CONTAINER and point.is_slave)
        ):
            continue
        where = point.path if point else "?"
        needed = "shared" if mount.propagation == cri_pb2.PROPAGATION_BIDIRECTIONAL else "shared or a slave"
        raise InvalidSpec(
            field,
            f"'{mount.host_path}' lies in the mount {where}, which is not {needed}",
            hint=f"mount --make-rshared {where}",
        )


@dataclasses.dataclass(frozen=True, slots=True)
class _Point:
    path: str
    is_shared: bool
    is_slave: bool

    @classmethod
    def parse(cls, line: str) -> t.Self:
        before, _dash, _after = line.partition(" - ")
        fields = before.split(" ")
        path = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), fields[4])
        tags = [tag.partition(":")[0] for tag in fields[6:]]
        return cls(path, "shared" in tags, "master" in tags)


def _mount_of(path: str, points: t.Sequence[_Point]) -> _Point | None:
    """Return the mount in which a path lies: the innermost, and the last of those at one place."""
    found: _Point | None = None
    for point in points:
        is_above = point.path in {"/", path} or path.startswith(point.path + "/")
        if is_above and (found is None or len(point.path) >= len(found.path)):
            found = point
    return found
