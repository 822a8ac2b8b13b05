# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what all verbs of the driver for LXC containers need."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.argv import Programs
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.cgroups import CgroupTree
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.commands import LxcPrograms
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.staging import UserNamespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


@dataclasses.dataclass(frozen=True, slots=True)
class LxcHost:
    """Where containers live, and the programs that act upon them."""

    paths: Paths
    runner: Runner
    #: conmon is the one of them that is used.
    programs: Programs
    lxc: LxcPrograms
    cgroups: CgroupTree
    command_timeout_s: float
    #: Hears what is no reason to fail.
    warn: t.Callable[[str], None]
    namespaces: UserNamespaces = dataclasses.field(default_factory=UserNamespaces)
