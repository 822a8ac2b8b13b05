# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a container's processes may do against what its pod allows; pure."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import normalise_capability
from pvecri.api import cri_pb2
from pvecri.checks import check_enum, check_id, check_localhost, check_profile, check_selinux, clean_path

_TOP: t.Final = "config.linux.security_context"
_OPTIONS: t.Final = f"{_TOP}.namespace_options"

_USER_NAME = re.compile(r"[^\x00-\x20\x7f:,/]{1,256}")
_GROUPS_MAX: t.Final = 65536

#: Prefix of a profile's name in the fields that ``seccomp`` and ``apparmor`` have taken the place of.
LOCALHOST: t.Final = "localhost/"


def validate(
    context: cri_pb2.LinuxContainerSecurityContext, pod: cri_pb2.LinuxSandboxSecurityContext
) -> None:
    """Raise InvalidSpec for what contradicts itself or asks for more than the pod has."""
    if context.privileged and not pod.privileged:
        raise InvalidSpec(
            f"{_TOP}.privileged",
            "the pod is not privileged",
            hint="Only a privileged pod may have such containers",
        )
    _namespaces(context.namespace_options, pod.namespace_options)
    _capabilities(context.capabilities)
    _user(context)
    for name in ("masked_paths", "readonly_paths"):
        for index, path in enumerate(getattr(context, name)):
            clean_path(path, f"{_TOP}.{name}[{index}]")
    check_selinux(context.selinux_options, f"{_TOP}.selinux_options")
    check_profile(context.seccomp, f"{_TOP}.seccomp", is_path=True)
    check_profile(context.apparmor, f"{_TOP}.apparmor", is_path=False)
    _old_profile(context.seccomp_profile_path, f"{_TOP}.seccomp_profile_path", is_path=True)
    _old_profile(context.apparmor_profile, f"{_TOP}.apparmor_profile", is_path=False)


def _namespaces(options: cri_pb2.NamespaceOption, pod: cri_pb2.NamespaceOption) -> None:
    """Refuse namespaces that are not the pod's: POD means «as the pod has it», and is the default."""
    for name in ("network", "ipc", "pid"):
        mode = getattr(options, name)
        check_enum(mode, cri_pb2.NamespaceMode, f"{_OPTIONS}.{name}")
        if mode == cri_pb2.NODE and getattr(pod, name) != cri_pb2.NODE:
            raise InvalidSpec(f"{_OPTIONS}.{name}", "NODE is only for containers of a pod with that mode")
        if name != "pid" and mode in (cri_pb2.CONTAINER, cri_pb2.TARGET):
            raise InvalidSpec(
                f"{_OPTIONS}.{name}", f"{cri_pb2.NamespaceMode.Name(mode)} is not possible: it is the pod's"
            )
    if (options.pid == cri_pb2.TARGET) != bool(options.target_id):
        raise InvalidSpec(f"{_OPTIONS}.target_id", "and the mode TARGET of pid need each other")
    _user_namespace(options, pod)


def _user_namespace(options: cri_pb2.NamespaceOption, pod: cri_pb2.NamespaceOption) -> None:
    field = f"{_OPTIONS}.userns_options"
    asked, has = options.userns_options, pod.userns_options
    check_enum(asked.mode, cri_pb2.NamespaceMode, f"{field}.mode")
    is_own = pod.HasField("userns_options") and has.mode == cri_pb2.POD
    if not options.HasField("userns_options"):
        return
    if asked.mode not in (cri_pb2.POD, cri_pb2.NODE):
        raise InvalidSpec(f"{field}.mode", "can only be POD or NODE")
    if asked.mode == cri_pb2.NODE and is_own:
        raise InvalidSpec(
            f"{field}.mode", "the pod has a user namespace of its own, and its containers share it"
        )
    for name in ("uids", "gids"):
        lines = list(getattr(asked, name))
        if lines and (not is_own or lines != list(getattr(has, name))):
            raise InvalidSpec(f"{field}.{name}", "are not those of the pod")


def _capabilities(capabilities: cri_pb2.Capability) -> None:
    for name in ("add_capabilities", "drop_capabilities", "add_ambient_capabilities"):
        for index, capability in enumerate(getattr(capabilities, name)):
            normalise_capability(capability, f"{_TOP}.capabilities.{name}[{index}]")


def _user(context: cri_pb2.LinuxContainerSecurityContext) -> None:
    if context.HasField("run_as_user"):
        check_id(context.run_as_user.value, f"{_TOP}.run_as_user")
        if context.run_as_username:
            raise InvalidSpec(f"{_TOP}.run_as_username", "does not go with run_as_user")
    elif context.run_as_username and not _USER_NAME.fullmatch(context.run_as_username):
        raise InvalidSpec(f"{_TOP}.run_as_username", f"'{context.run_as_username[:64]}' is no name of a user")
    if context.HasField("run_as_group"):
        check_id(context.run_as_group.value, f"{_TOP}.run_as_group")
        if not context.HasField("run_as_user") and not context.run_as_username:
            raise InvalidSpec(f"{_TOP}.run_as_group", "needs run_as_user or run_as_username as well")
    if len(context.supplemental_groups) > _GROUPS_MAX:
        raise InvalidSpec(f"{_TOP}.supplemental_groups", f"are more than the kernel takes ({_GROUPS_MAX})")
    for index, group in enumerate(context.supplemental_groups):
        check_id(group, f"{_TOP}.supplemental_groups[{index}]")
    check_enum(
        context.supplemental_groups_policy,
        cri_pb2.SupplementalGroupsPolicy,
        f"{_TOP}.supplemental_groups_policy",
    )


def _old_profile(text: str, field: str, *, is_path: bool) -> None:
    if text in ("", "runtime/default", "docker/default", "unconfined"):
        return
    if not text.startswith(LOCALHOST):
        raise InvalidSpec(
            field, f"'{text[:64]}' is no profile", hint="runtime/default, unconfined or localhost/…"
        )
    check_localhost(text.removeprefix(LOCALHOST), field, is_path=is_path)
