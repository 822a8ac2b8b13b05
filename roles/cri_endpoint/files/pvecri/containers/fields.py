# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the field of a request in errors that the core raises about its own description; pure."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.api import cri_pb2
from pvecri.containers import validate_resources

_CONTEXT: t.Final = "config.linux.security_context"

_FIELDS: t.Final = {
    "command": "config.command",
    "cwd": "config.working_dir",
    "env": "config.envs",
    "image": "config.image.image",
    "annotations": "config.annotations",
    "oom_score_adj": "config.linux.resources.oom_score_adj",
    "supplementary_groups": f"{_CONTEXT}.supplemental_groups",
    "security.seccomp": f"{_CONTEXT}.seccomp",
    "security.apparmor": f"{_CONTEXT}.apparmor",
    "security.capabilities_exact": f"{_CONTEXT}.capabilities",
    "security.masked_paths": f"{_CONTEXT}.masked_paths",
    "security.read_only_paths": f"{_CONTEXT}.readonly_paths",
    "log_path": "config.log_path",
}

_OF_A_MOUNT: t.Final = {
    "source": "host_path",
    "destination": "container_path",
    "sub_path": "image_sub_path",
    "options": "mount_options",
    "uid_maps": "uidMappings",
    "gid_maps": "gidMappings",
    "recursive_read_only": "recursive_read_only",
    "propagation": "propagation",
}
_OF_A_DEVICE: t.Final = {
    "source": "host_path",
    "destination": "container_path",
    "permissions": "permissions",
}


def request_field(field: str, config: cri_pb2.ContainerConfig) -> str:
    """Return the path in the request of a field of the core's description; others stay as they are."""
    if field.startswith("resources."):
        return validate_resources.named(field, "config.linux.resources")
    found = re.fullmatch(r"(mounts|devices)\[(\d+)\]\.(\w+)(.*)", field)
    if found and int(found[2]) < len(getattr(config, found[1])):
        names = _OF_A_MOUNT if found[1] == "mounts" else _OF_A_DEVICE
        return f"config.{found[1]}[{found[2]}].{names.get(found[3], found[3])}{found[4]}"
    if field == "user":
        has_name = bool(config.linux.security_context.run_as_username)
        if has_name or config.linux.security_context.HasField("run_as_user"):
            return f"{_CONTEXT}.{'run_as_username' if has_name else 'run_as_user'}"
        return "config.image.image"
    base, bracket, rest = field.partition("[")
    known = _FIELDS.get(base)
    if known is None and field.startswith(("env.", "annotations.")):
        base, _dot, rest = field.partition(".")
        return f"{_FIELDS[base]}[{rest}]"
    return field if known is None else f"{known}{bracket}{rest}"


@contextlib.contextmanager
def named(config: cri_pb2.ContainerConfig) -> t.Iterator[None]:
    """Let an InvalidSpec of the core name the request's field instead of its own."""
    try:
        yield
    except InvalidSpec as exc:
        field = request_field(exc.field, config)
        if field == exc.field:
            raise
        raise InvalidSpec(field, exc.problem, hint=exc.hint) from exc
