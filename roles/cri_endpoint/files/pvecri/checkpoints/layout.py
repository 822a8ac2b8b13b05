# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name what a checkpoint archive holds, and write and read its documents; pure.

The archive of a container is a tar file as kubelet, checkpointctl, CRI-O and containerd
know it:

    config.dump          JSON: id, name and image of the container, and when it was dumped
    spec.dump            its config.json (OCI runtime specification)
    status.dump          its CRI ContainerStatus, which containerd wants to see
    bind.mounts          JSON: sources and kinds of its bind mounts
    network.status       JSON: what the network gave the pod (CNI results)
    checkpoint/          CRIU's images of its processes
    rootfs-diff.tar      what it wrote into its root file system
    deleted.files        JSON: paths that it deleted there
    dump.log             CRIU's log
    stats-dump           CRIU's figures

The archive of a pod has the files of each container in a directory of its own, and

    pod.options          JSON: version, container names with their directories, annotations
    pod.dump             JSON of the PodSandboxConfig
    devshm-checkpoint.tar  what lay in the pod's /dev/shm

and in each directory container.config, JSON of the ContainerConfig.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import posixpath
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

CONFIG_DUMP: t.Final = "config.dump"
SPEC_DUMP: t.Final = "spec.dump"
STATUS_DUMP: t.Final = "status.dump"
BIND_MOUNTS: t.Final = "bind.mounts"
NETWORK_STATUS: t.Final = "network.status"
IMAGES: t.Final = "checkpoint"
ROOTFS_DIFF: t.Final = "rootfs-diff.tar"
DELETED_FILES: t.Final = "deleted.files"
DUMP_LOG: t.Final = "dump.log"
STATS_DUMP: t.Final = "stats-dump"
DEV_SHM: t.Final = "devshm-checkpoint.tar"
POD_OPTIONS: t.Final = "pod.options"
POD_DUMP: t.Final = "pod.dump"
#: Ours alone: a pod can be restored from it without the client that made it.
CONTAINER_CONFIG: t.Final = "container.config"

POD_VERSION: t.Final = 1

#: Files of a container's archive besides CRIU's images, in the order they are written.
FILES: t.Final = (
    CONFIG_DUMP,
    SPEC_DUMP,
    STATUS_DUMP,
    BIND_MOUNTS,
    NETWORK_STATUS,
    DELETED_FILES,
    DUMP_LOG,
    STATS_DUMP,
    CONTAINER_CONFIG,
    DEV_SHM,
    ROOTFS_DIFF,
)

#: Annotations of images that hold a checkpoint: of CRI-O, of checkpointctl and containerd, of Podman.
IMAGE_ANNOTATIONS: t.Final = (
    "org.criu.checkpoint.container.name",
    "io.kubernetes.cri-o.annotations.checkpoint.name",
    "checkpointctl.annotation.checkpoint.name",
    "io.podman.annotations.checkpoint.name",
)
ANNOTATION: t.Final = "org.criu.checkpoint."

#: What is mounted there is the new pod's, whatever the checkpoint had; without it nothing is missing.
_OF_THE_POD: t.Final = frozenset(
    {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/dev/shm"}  # noqa: S108 (places in a container)
)

_IMAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Dumped:
    """What an archive says of the container in it."""

    id: str
    name: str
    #: What the client asked for, a name with tag, and repository@digest or an id; any may be empty.
    image_asked: str = ""
    image_name: str = ""
    image_ref: str = ""
    #: RFC 3339; empty: not said.
    checkpointed_at: str = ""
    #: Of its config.json: whether it had a terminal, and the places of its bind mounts.
    has_terminal: bool = False
    bind_mounts: frozenset[str] = frozenset()

    @property
    def base_images(self) -> tuple[str, ...]:
        """References of the image that the container was made of, the most certain one first."""
        found = (self.image_ref, self.image_name, self.image_asked)
        return tuple(dict.fromkeys(reference for reference in found if reference))


def is_image_name(name: str) -> bool:
    """Say whether a name can be that of a file among CRIU's images."""
    return _IMAGE_NAME.fullmatch(name) is not None


def rfc3339(time_ns: int) -> str:
    """Return a time as archives have it, in UTC."""
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def document(value: object) -> bytes:
    """Return the JSON of a document."""
    return json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n"


def config_dump(
    dumped: Dumped, *, runtime: str, created_ns: int, checkpointed_ns: int, is_restored: bool
) -> bytes:
    """Return ``config.dump``."""
    return document(
        {
            "id": dumped.id,
            "name": dumped.name,
            "rootfsImage": dumped.image_asked,
            "rootfsImageRef": dumped.image_ref,
            "rootfsImageName": dumped.image_name,
            "runtime": runtime,
            "createdTime": rfc3339(created_ns),
            "checkpointedTime": rfc3339(checkpointed_ns),
            "restored": is_restored,
        }
    )


def spec_dump(
    config: t.Mapping[str, t.Any], annotations: t.Mapping[str, str], labels: t.Mapping[str, str], name: str
) -> bytes:
    """Return ``spec.dump``: a config.json with what CRI-O looks for among its annotations."""
    told = {
        **config.get("annotations", {}),
        "io.container.manager": "pvecri",
        "io.kubernetes.cri-o.Annotations": json.dumps(dict(annotations)),
        "io.kubernetes.cri-o.Labels": json.dumps(dict(labels)),
        "io.kubernetes.cri-o.Metadata": json.dumps({"name": name}),
    }
    return document({**config, "annotations": told})


def pod_options(containers: t.Mapping[str, str], annotations: t.Mapping[str, str]) -> bytes:
    """Return ``pod.options``; ``containers`` are directories of the archive by names."""
    return document(
        {"version": POD_VERSION, "containers": dict(containers), "annotations": dict(annotations)}
    )


def bind_destinations(config: t.Mapping[str, t.Any]) -> frozenset[str]:
    """Return the places of a config.json's bind mounts that are not the pod's own business."""
    found = set()
    for mount in _list(config.get("mounts")):
        if not isinstance(mount, dict):
            continue
        options = {option for option in _list(mount.get("options")) if isinstance(option, str)}
        if mount.get("type") == "bind" or options & {"bind", "rbind"}:
            place = mount.get("destination")
            if isinstance(place, str):
                found.add(posixpath.normpath(place))
    return frozenset(found - _OF_THE_POD)


def compare_mounts(dumped: Dumped, config: t.Mapping[str, t.Any]) -> None:
    """Refuse a container whose bind mounts are at other places than those of the checkpoint.

    CRIU puts processes back among exactly the mounts that they had.
    """
    wanted, given = dumped.bind_mounts, bind_destinations(config)
    if missing := sorted(wanted - given):
        raise InvalidSpec(
            "config.mounts",
            f"the checkpointed container had mounts at {', '.join(missing)}",
            hint="Give a mount for each",
        )
    if extra := sorted(given - wanted):
        raise InvalidSpec(
            "config.mounts",
            f"the checkpointed container had no mounts at {', '.join(extra)}",
            hint="A restored container cannot have mounts that it did not have: leave them out",
        )


def read_dumped(config_text: bytes, spec_text: bytes, what: str) -> Dumped:
    """Return what ``config.dump`` and ``spec.dump`` say; raises InvalidSpec naming ``what`` they are of."""
    config, spec = _object(config_text, CONFIG_DUMP, what), _object(spec_text, SPEC_DUMP, what)
    process = spec.get("process")
    return Dumped(
        id=_text(config, "id"),
        name=_text(config, "name"),
        image_asked=_text(config, "rootfsImage"),
        image_name=_text(config, "rootfsImageName"),
        image_ref=_text(config, "rootfsImageRef"),
        checkpointed_at=_text(config, "checkpointedTime"),
        has_terminal=isinstance(process, dict) and process.get("terminal") is True,
        bind_mounts=bind_destinations(spec),
    )


def read_deleted(text: bytes, what: str) -> list[str]:
    """Return the paths of ``deleted.files``; raises InvalidSpec."""
    found = parsed(text, DELETED_FILES, what)
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        raise InvalidSpec("", f"{what}: {DELETED_FILES} is no list of paths")
    return found


def read_pod_options(text: bytes, what: str) -> dict[str, str]:
    """Return the directories of a pod's containers by their names; raises InvalidSpec."""
    options = _object(text, POD_OPTIONS, what)
    if options.get("version") != POD_VERSION:
        raise InvalidSpec(
            "", f"{what}: {POD_OPTIONS} has version {options.get('version')!r}, of which only 1 is known"
        )
    found = options.get("containers")
    if not isinstance(found, dict) or not found:
        raise InvalidSpec("", f"{what}: {POD_OPTIONS} names no containers")
    for name, directory in found.items():
        if not isinstance(directory, str) or "/" in directory or directory in {"", ".", ".."}:
            raise InvalidSpec("", f"{what}: the directory of container '{name[:64]}' is none of the archive")
    return found


def parsed(text: bytes, name: str, what: str) -> t.Any:
    """Return a document's value; raises InvalidSpec."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidSpec("", f"{what}: {name} is no JSON: {exc}") from exc


def _object(text: bytes, name: str, what: str) -> dict[str, t.Any]:
    value = parsed(text, name, what)
    if not isinstance(value, dict):
        raise InvalidSpec("", f"{what}: {name} is no JSON object")
    return value


def _text(values: t.Mapping[str, t.Any], key: str) -> str:
    value = values.get(key)
    return value if isinstance(value, str) else ""


def _list(value: object) -> list[t.Any]:
    return value if isinstance(value, list) else []
