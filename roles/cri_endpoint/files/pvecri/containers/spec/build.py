# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the core's description of a container from the request, its pod, its image and the host; pure.

container_spec ─ process      command, environment, user
               ├ security     capabilities, filters, profiles, hidden paths
               ├ namespaces   the pod's, a container's, the host's
               ├ mounts       volumes, images, the pod's files
               ├ resources    limits
               └ cdi          what device vendors add
"""

from __future__ import annotations

import dataclasses
import signal
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.signals import signal_number
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    Device,
    ImageConfig,
    Rlimit,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.api import cri_pb2
from pvecri.checks import clean_path
from pvecri.containers.spec import mounts, namespaces, resources, security
from pvecri.containers.spec.annotations import annotations_of
from pvecri.containers.spec.mounts import PodFiles
from pvecri.sandboxes.cgroup import container_cgroup
from pvecri.state.records import SandboxRecord

DEFAULT_STOP_SIGNAL: t.Final = "SIGTERM"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What shapes a container besides its request."""

    #: The container's id.
    id: str
    sandbox: SandboxRecord
    pod: cri_pb2.PodSandboxConfig
    image: ImageConfig
    host: HostFacts
    files: PodFiles
    #: The host name that the container sees.
    hostname: str = ""
    #: Path of the PID namespace of the pod or of the target; empty: none is shared.
    pid_path: str = ""
    #: Ids of the images of image mounts, by the mount's number.
    images: t.Mapping[int, str] = dataclasses.field(default_factory=dict)
    #: For containers that set no limit; 0 is none.
    pids_limit: int = 0
    #: Soft and hard limit of open files; None: what the daemon has.
    open_files: tuple[int, int] | None = None


def container_spec(
    config: cri_pb2.ContainerConfig, around: Surroundings, notes: list[str] | None = None
) -> ContainerSpec:
    """Return the description of the container of a checked request.

    To ``notes`` is added what the host makes less of than was asked.  Raises InvalidSpec,
    Unsupported and WrongState.
    """
    told = [] if notes is None else notes
    host, context = around.host, config.linux.security_context
    pod_options = around.pod.linux.security_context.namespace_options
    uid_maps, gid_maps = namespaces.pod_id_maps(around.pod, around.sandbox)
    limits = resources.in_core_terms(config.linux.resources, pids_limit=around.pids_limit)
    return ContainerSpec(
        name=around.id,
        entrypoint=tuple(config.command) or None,
        command=tuple(config.args) or None,
        env=_env(config, around),
        cwd=clean_path(config.working_dir, "config.working_dir") if config.working_dir else None,
        user=_user(context),
        supplementary_groups=tuple(str(group) for group in context.supplemental_groups),
        merge_image_groups=context.supplemental_groups_policy == cri_pb2.Merge,
        pod_groups=True,
        terminal=config.tty,
        annotations=annotations_of(config, around.pod, around.sandbox, config.image.image),
        namespaces=namespaces.namespaces(
            context.namespace_options,
            pod_options,
            around.sandbox,
            around.pid_path,
            privileged=context.privileged,
        ),
        uid_maps=uid_maps,
        gid_maps=gid_maps,
        mounts=mounts.mounts(
            config.mounts, around.files, around.images, host, read_only_rootfs=context.readonly_rootfs
        ),
        devices=_devices(config.devices),
        resources=resources.for_host(limits, host, told),
        security=security.security(context, host, told),
        # Always said: else the container would have the daemon's own score, which spares it.
        oom_score_adj=config.linux.resources.oom_score_adj,
        # The daemon has raised its own for what it watches; programs take a high one for leave to use it.
        rlimits=_open_files(around.open_files),
        cgroups_path=container_cgroup(around.sandbox.cgroup_parent, around.id)
        if around.sandbox.cgroup_parent
        else None,
        stop_signal=stop_signal(config, around.image),
    )


def stop_signal(config: cri_pb2.ContainerConfig, image: ImageConfig) -> str:
    """Return the name of the signal that a stop sends: the request's, else the image's, else SIGTERM."""
    if config.stop_signal != cri_pb2.SIGNAL_RUNTIME_DEFAULT:
        name = cri_pb2.Signal.Name(config.stop_signal).removeprefix("SIGNAL_")
        return name.replace("PLUS", "+").replace("MINUS", "-")
    asked = (image.stop_signal or "").strip().upper()
    try:
        number = signal_number(asked)
    except InvalidSpec:
        return DEFAULT_STOP_SIGNAL
    if not asked.isdigit():
        return asked if asked.startswith("SIG") else f"SIG{asked}"
    named = [each.name for each in signal.Signals if each.value == number]
    return named[0] if named else f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _env(config: cri_pb2.ContainerConfig, around: Surroundings) -> tuple[tuple[str, str], ...]:
    """Return the request's variables, and the host name for programs that ask their environment for it."""
    asked = {variable.key: variable.value.decode() for variable in config.envs}
    if around.hostname and "HOSTNAME" not in {name for name, _value in around.image.env}:
        asked = {"HOSTNAME": around.hostname, **asked}
    return tuple(asked.items())


def _open_files(limits: tuple[int, int] | None) -> tuple[Rlimit, ...]:
    if limits is None:
        return ()
    soft, hard = limits
    return (Rlimit(kind="RLIMIT_NOFILE", soft=soft, hard=hard),)


def _user(context: cri_pb2.LinuxContainerSecurityContext) -> str | None:
    """Return ``user[:group]``, None for the image's."""
    user = str(context.run_as_user.value) if context.HasField("run_as_user") else context.run_as_username
    if not user:
        return None
    return f"{user}:{context.run_as_group.value}" if context.HasField("run_as_group") else user


def _devices(devices: t.Sequence[cri_pb2.Device]) -> tuple[Device, ...]:
    """Return devices, each once; two that differ at one place are the core's to refuse."""
    found = [
        Device(
            source=clean_path(device.host_path, f"config.devices[{index}].host_path"),
            destination=clean_path(device.container_path, f"config.devices[{index}].container_path"),
            permissions=device.permissions,
        )
        for index, device in enumerate(devices)
    ]
    return tuple(dict.fromkeys(found))
