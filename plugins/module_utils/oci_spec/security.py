# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decide labels, profiles and hidden paths of a container."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Security
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_absolute

#: Files that tell of the host, or that let its kernel be asked for too much.
DEFAULT_MASKED_PATHS: t.Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
)

#: Files that change the host when they are written to.
DEFAULT_READ_ONLY_PATHS: t.Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def apparmor_profile(security: Security, host: HostFacts) -> str | None:
    """Return ``process.apparmorProfile``, or None to leave it out.

    Raises Unsupported on a host without AppArmor and NotFound for a profile that is not loaded.
    """
    name = security.apparmor
    if name is None:
        return None if security.privileged or not host.has_apparmor else host.apparmor_default
    if name == "unconfined":
        return name if host.has_apparmor else None
    if not host.has_apparmor:
        raise Unsupported(
            f"security.apparmor: '{name}' was asked for, but AppArmor is not enabled on this host",
            hint="Enable it in the kernel, or leave the option out",
        )
    if host.apparmor_profiles is not None and name not in host.apparmor_profiles:
        raise NotFound(
            f"security.apparmor: no profile '{name}' is loaded on this host",
            hint="Load it with apparmor_parser first",
        )
    return name


def selinux_labels(security: Security, host: HostFacts) -> tuple[str | None, str | None]:
    """Return ``process.selinuxLabel`` and ``linux.mountLabel``."""
    labels = (security.selinux_process_label, security.selinux_mount_label)
    for label, field in zip(labels, ("selinux_process_label", "selinux_mount_label"), strict=True):
        if label is None:
            continue
        if not host.has_selinux:
            raise Unsupported(
                f"security.{field}: SELinux is not enabled on this host", hint="Leave the option out"
            )
        if len(label.split(":", 3)) != 4:
            raise InvalidSpec(f"security.{field}", f"'{label}' is not a label user:role:type:level")
    return labels


def masked_paths(security: Security) -> list[str]:
    """Return ``linux.maskedPaths``."""
    return _paths(security.masked_paths, DEFAULT_MASKED_PATHS, security, "security.masked_paths")


def read_only_paths(security: Security) -> list[str]:
    """Return ``linux.readonlyPaths``."""
    return _paths(security.read_only_paths, DEFAULT_READ_ONLY_PATHS, security, "security.read_only_paths")


def _paths(
    asked: tuple[str, ...] | None, usual: tuple[str, ...], security: Security, field: str
) -> list[str]:
    if asked is None:
        return [] if security.privileged else list(usual)
    return [check_absolute(path, f"{field}[{i}]") for i, path in enumerate(asked)]
