# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a whole ContainerConfig against itself and its pod; pure.

Every refusal is an InvalidSpec that names the field by its path in the CRI definition,
as ``config.mounts[2].container_path``.  What depends on the host (a device that is not
there, a controller that is missing) is found later, by `spec`.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2
from pvecri.checks import (
    check_enum,
    check_map,
    check_name,
    check_plain,
    check_relative,
    check_text,
    clean_path,
)
from pvecri.containers import validate_mounts, validate_resources, validate_security

#: vendor.com/class=device (CDI specification, "Qualified names").
_CDI_NAME = re.compile(
    r"[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?"
)

_ACCESS: t.Final = frozenset("rwm")


def validate(config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig) -> None:
    """Raise InvalidSpec unless a container of this pod can be what ``config`` says."""
    if config.HasField("windows"):
        raise InvalidSpec("config.windows", "this is no host of Windows containers")
    check_name(config.metadata.name, "config.metadata.name")
    image(config.image, "config.image")
    _process(config)
    check_map(config.labels, "config.labels")
    check_map(config.annotations, "config.annotations")
    validate_mounts.validate(config.mounts, "config.mounts", image)
    _devices(config)
    if config.log_path:
        log_path(config.log_path)
    check_enum(config.stop_signal, cri_pb2.Signal, "config.stop_signal")
    validate_resources.validate(config.linux.resources, "config.linux.resources")
    validate_security.validate(config.linux.security_context, pod.linux.security_context)


def image(spec: cri_pb2.ImageSpec, field: str) -> None:
    """Raise InvalidSpec unless ``spec`` names an image."""
    if not spec.image:
        raise InvalidSpec(f"{field}.image", "is missing")
    check_plain(spec.image, f"{field}.image")


def log_path(path: str) -> str:
    """Return the path of a log below its pod's log directory; raises InvalidSpec."""
    clean = check_relative(path, "config.log_path")
    if clean == "." or path.endswith("/"):
        raise InvalidSpec("config.log_path", f"'{path}' is the path of a directory")
    if ":" in clean:
        # conmon splits at colons what it is told of logs.
        raise InvalidSpec("config.log_path", "must not have a colon")
    return clean


def _process(config: cri_pb2.ContainerConfig) -> None:
    for name in ("command", "args"):
        for index, word in enumerate(getattr(config, name)):
            check_text(word, f"config.{name}[{index}]")
    if config.command and not config.command[0]:
        raise InvalidSpec("config.command[0]", "is empty, but names the program")
    for index, variable in enumerate(config.envs):
        field = f"config.envs[{index}]"
        if not variable.key or "=" in variable.key or "\0" in variable.key:
            raise InvalidSpec(f"{field}.key", f"{variable.key[:64]!r} is no name of a variable")
        check_text(f"{variable.key}={env_value(variable, field)}", f"{field}.value")
    if config.working_dir:
        clean_path(config.working_dir, "config.working_dir")


def env_value(variable: cri_pb2.KeyValue, field: str) -> str:
    """Return the text of a variable; raises InvalidSpec for one that config.json, as JSON, cannot hold."""
    try:
        return variable.value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidSpec(
            f"{field}.value", "is not UTF-8, and crun takes nothing else", hint="Encode it, as by base64"
        ) from exc


def _devices(config: cri_pb2.ContainerConfig) -> None:
    for index, device in enumerate(config.devices):
        field = f"config.devices[{index}]"
        if clean_path(device.container_path, f"{field}.container_path") == "/":
            raise InvalidSpec(f"{field}.container_path", "is the rootfs itself")
        clean_path(device.host_path, f"{field}.host_path", allow_up=False)
        access = device.permissions
        if not access or set(access) - _ACCESS or len(set(access)) < len(access):
            raise InvalidSpec(f"{field}.permissions", f"'{access[:16]}' is not made of 'r', 'w' and 'm'")
    for index, named in enumerate(config.CDI_devices):
        if not is_cdi_name(named.name):
            raise InvalidSpec(
                f"config.CDI_devices[{index}].name", f"'{named.name[:256]}' is not vendor.com/class=device"
            )


def is_cdi_name(name: str) -> bool:
    """Say whether ``name`` can be the whole name of a CDI device."""
    return _CDI_NAME.fullmatch(name) is not None
