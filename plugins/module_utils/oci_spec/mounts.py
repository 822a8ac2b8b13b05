# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``mounts``: what every container has, then what is asked for, in an order that works."""

from __future__ import annotations

import dataclasses
import posixpath
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Json,
    Mount,
    MountKind,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.default_mounts import default_mounts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mount_options import (
    PROPAGATIONS,
    check_options,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.namespaces import check_id_maps
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute

#: Linux with mount_setattr(2), which changes whole trees of mounts and maps ids.
_MOUNT_SETATTR: t.Final = (5, 12)

#: Kinds that bring their own content: what is below their destination is theirs, too.
_WHOLE_TREES: t.Final = (MountKind.BIND, MountKind.VOLUME, MountKind.IMAGE)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResolvedMount:
    """A mount that was asked for and the absolute host path that it shows; None for a tmpfs."""

    mount: Mount
    source: str | None = None


def build_mounts(spec: ContainerSpec, host: HostFacts, mounts: t.Sequence[ResolvedMount]) -> list[Json]:
    """Return ``mounts``, parents before what lies below them.

    ``mounts`` stands for ``spec.mounts``, in the same order; what follows beyond
    them (an image's volumes, files for a name service) is mounted as well, unless the
    request has its own mount there.  A mount that is asked for takes the place of the
    usual one at the same destination, and of those below if it brings its own content.
    """
    asked: dict[str, Json] = {}
    trees: list[str] = []
    for i, item in enumerate(mounts):
        is_own = i < len(spec.mounts)
        field = f"mounts[{i}]" if is_own else f"mounts ({item.mount.destination})"
        destination = check_destination(item.mount.destination, f"{field}.destination")
        if destination not in asked:
            asked[destination] = _build_mount(item, destination, field, host)
            trees += [destination] if item.mount.kind in _WHOLE_TREES else []
        elif is_own:
            raise InvalidSpec(f"{field}.destination", f"'{destination}' has a mount already")
    usual = [
        mount
        for mount in default_mounts(spec, host)
        if mount["destination"] not in asked and not _is_below_any(mount["destination"], trees)
    ]
    return sorted([*usual, *asked.values()], key=lambda mount: _depth(mount["destination"]))


def rootfs_propagation(mounts: t.Sequence[ResolvedMount]) -> str | None:
    """Return ``linux.rootfsPropagation``: a mount can only propagate where the rootfs does."""
    modes = {item.mount.propagation.removeprefix("r") for item in mounts}
    if "shared" in modes:
        return "shared"
    return "slave" if "slave" in modes else None


def check_destination(destination: str, field: str) -> str:
    """Return a clean destination; raises InvalidSpec for the rootfs itself."""
    clean = check_absolute(destination, field)
    if clean == "/":
        raise InvalidSpec(field, "the rootfs itself cannot be mounted over")
    return clean


def _depth(destination: str) -> int:
    return destination.count("/")


def _is_below_any(destination: str, trees: t.Sequence[str]) -> bool:
    return any(posixpath.commonpath((destination, tree)) == tree for tree in trees)


def _build_mount(item: ResolvedMount, destination: str, field: str, host: HostFacts) -> Json:
    mount = item.mount
    if mount.kind == MountKind.TMPFS:
        return _build_tmpfs(mount, destination, field)
    if not item.source:
        raise InvalidSpec(f"{field}.source", f"a {mount.kind} mount needs a source")
    if mount.size_bytes is not None:
        raise InvalidSpec(f"{field}.size", "only a tmpfs has a size")
    access = ["rw"]
    if mount.recursive_read_only:
        if mount.propagation not in ("private", "rprivate"):
            raise InvalidSpec(
                f"{field}.recursive_read_only", f"does not go with propagation '{mount.propagation}'"
            )
        # "ro" stays for readers that do not know the newer word.
        _need_mount_setattr(host, f"{field}.recursive_read_only")
        access = ["ro", "rro"]
    elif mount.read_only:
        access = ["ro"]
    propagation = _propagation(mount, field)
    extra = check_options(mount.options, f"{field}.options", {"rbind", *access})
    if "bind" in extra:
        # Without what is mounted below the source; any other word with an "r" would mean "rbind" again.
        extra.remove("bind")
        options = ["bind", propagation.removeprefix("r"), *access, *extra]
    else:
        options = ["rbind", propagation, *access, *extra]
    result: Json = {
        "destination": destination,
        "type": "bind",
        "source": check_absolute(item.source, f"{field}.source"),
        "options": options,
    }
    if mount.uid_maps or mount.gid_maps:
        _need_mount_setattr(host, f"{field}.uid_maps")
        result["uidMappings"] = check_id_maps(mount.uid_maps, f"{field}.uid_maps", need_root=False)
        result["gidMappings"] = check_id_maps(mount.gid_maps, f"{field}.gid_maps", need_root=False)
        options.append("idmap")
    return result


def _need_mount_setattr(host: HostFacts, field: str) -> None:
    if host.kernel < _MOUNT_SETATTR:
        raise Unsupported(
            f"{field}: needs Linux 5.12, and this host has {'.'.join(map(str, host.kernel))}",
            hint="Leave the option out",
        )


def _propagation(mount: Mount, field: str) -> str:
    if mount.propagation not in PROPAGATIONS:
        raise InvalidSpec(
            f"{field}.propagation", f"'{mount.propagation}' is none of {', '.join(PROPAGATIONS)}"
        )
    return mount.propagation


def _build_tmpfs(mount: Mount, destination: str, field: str) -> Json:
    for key, value in (
        ("source", mount.source),
        ("sub_path", mount.sub_path),
        ("uid_maps", mount.uid_maps),
        ("gid_maps", mount.gid_maps),
        ("recursive_read_only", mount.recursive_read_only),
    ):
        if value:
            raise InvalidSpec(f"{field}.{key}", "a tmpfs has none")
    options = ["ro" if mount.read_only else "rw"]
    extra = check_options(mount.options, f"{field}.options", set(options))
    options += [flag for flag in ("nosuid", "nodev") if flag.removeprefix("no") not in extra]
    options += [flag for flag in extra if flag not in options]
    if mount.propagation != "rprivate":
        options.append(_propagation(mount, field))
    if mount.size_bytes is not None:
        if mount.size_bytes < 1:
            raise InvalidSpec(f"{field}.size", "must be at least 1 byte")
        options.append(f"size={mount.size_bytes}")
    # The kernel's own default, said aloud: newer versions of crun take that of the directory below.
    mode = 0o1777 if mount.mode is None else mount.mode
    if not 0 <= mode <= 0o7777:
        raise InvalidSpec(f"{field}.mode", "must be 0 to 07777")
    options.append(f"mode={mode:o}")
    for key in ("uid", "gid"):
        if getattr(mount, key) is not None:
            options.append(f"{key}={getattr(mount, key)}")
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}
