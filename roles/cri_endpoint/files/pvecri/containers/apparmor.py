# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Load the AppArmor profile of containers that name none, and look whether others are loaded."""

from __future__ import annotations

import dataclasses
import logging
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import (
    HostFacts,
    loaded_apparmor_profiles,
)

#: The number changes with the text: a profile of that name that is loaded is this one.
DEFAULT_PROFILE: t.Final = "pvecri-default-1"

_PARSER: t.Final = "/sbin/apparmor_parser"

#: A container may do what any program may, within what its mounts, capabilities and its
#: seccomp filter leave it, but nothing to the kernel's own files or to mounts (apparmor.d(5)).
#: The ABI says which classes of rules count: newer parsers would deny what is not named here.
#: Signals come from the host, whose runtimes have profiles of their own on newer systems.
PROFILE: t.Final = f"""\
abi <abi/3.0>,
#include <tunables/global>

profile {DEFAULT_PROFILE} flags=(attach_disconnected,mediate_deleted) {{
  #include <abstractions/base>

  capability,
  file,
  network,
  umount,
  unix,

  signal (receive) peer=unconfined,
  signal (receive) peer=crun,
  signal (receive) peer=conmon,
  signal (send,receive) peer={DEFAULT_PROFILE},
  ptrace (trace,read,tracedby,readby) peer={DEFAULT_PROFILE},

  deny mount,

  deny @{{PROC}}/kcore rwklx,
  deny @{{PROC}}/kmem rwklx,
  deny @{{PROC}}/mem rwklx,
  deny @{{PROC}}/sysrq-trigger rwklx,
  deny @{{PROC}}/{{acpi,asound,bus,driver,fs,irq,scsi,tty}}/** wkl,
  deny @{{PROC}}/{{mtrr,timer_stats,sched_debug,latency_stats}} wkl,
  deny @{{PROC}}/sys/{{abi,crypto,debug,dev,sunrpc,user,vm}}/** wkl,
  deny @{{PROC}}/sys/fs/[^m]** wkl,
  deny @{{PROC}}/sys/kernel/{{core_pattern,modprobe,hotplug,poweroff_cmd,usermodehelper/**}} wkl,
  deny @{{PROC}}/sys/kernel/{{panic*,printk*,perf*,random/**,sysrq,yama/**,keys/**,kptr_restrict}} wkl,

  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/kernel/debug/** rwklx,
  deny /sys/devices/virtual/powercap/** rwklx,
}}
"""


def with_default_profile(runner: Runner, host: HostFacts, log: logging.Logger) -> HostFacts:
    """Return the facts with the default profile, which is loaded unless it is; without AppArmor as they are.

    A host that cannot load it goes without, and says so.
    """
    if not host.has_apparmor:
        return host
    if DEFAULT_PROFILE not in (host.apparmor_profiles or ()):
        try:
            runner.run([_PARSER, "--replace"], stdin=PROFILE.encode())
        except CoreError as exc:
            log.warning(
                "the default AppArmor profile cannot be loaded; containers that name none have none",
                extra={"error": str(exc)},
            )
            return host
    return dataclasses.replace(host, apparmor_default=DEFAULT_PROFILE)


def check_loaded(name: str, root: str = "/") -> None:
    """Raise InvalidSpec unless the profile is loaded now: people load profiles while the daemon runs."""
    loaded = loaded_apparmor_profiles(root)
    if loaded is not None and name not in loaded:
        raise InvalidSpec(
            "security.apparmor",
            f"no profile '{name[:128]}' is loaded on this host",
            hint="Load it with apparmor_parser first",
        )
