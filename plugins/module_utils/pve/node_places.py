# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at what LXC pods need of a node beside its API: configuration files, templates, exit codes.

`gather` looks, `examine` judges what was seen (pure).
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import monitord
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.storage_config import parse_storages

#: Since then the kernel tells the exit code of a process to who is not its parent (PIDFD_INFO_EXIT).
EXIT_CODE_KERNEL = (6, 15)


class Findings(t.Protocol):
    """Where problems are recorded."""

    def refuse(self, check: str, problem: str, remedy: str) -> None:
        """Record what keeps the node from running LXC pods, and what to do."""


@dataclasses.dataclass(frozen=True, slots=True)
class Places:
    """What there is on the node."""

    #: Where the containers' configurations are, to which a line is added; and whether that is there.
    config_dir: str
    has_configs: bool
    #: Storages that have a directory on the node.
    directories: frozenset[str]
    kernel: tuple[int, ...]
    has_monitord: bool


def gather(config_dir: str, lxc_path: str) -> Places:
    """Look at the node that this runs on; what cannot be seen is not there."""
    directory = os.path.join(config_dir, "lxc")
    return Places(
        directory,
        os.path.isdir(directory),
        frozenset(_directories(os.path.join(config_dir, "storage.cfg"))),
        tuple(int(part) for part in re.findall(r"\d+", os.uname().release)[:2]),
        _has_monitord(lxc_path),
    )


def _directories(path: str) -> t.Iterator[str]:
    try:
        with open(path, encoding="utf-8") as stream:
            listed = parse_storages(stream.read())
    except OSError:
        listed = parse_storages("")
    return (name for name, storage in listed.items() if storage.options.get("path"))


def _has_monitord(lxc_path: str) -> bool:
    try:
        monitord.connect(lxc_path).close()
    except OSError:
        return False
    return True


def examine(found: Findings, places: Places, template_storage: str) -> None:
    """Record what is wrong; an empty storage is one that something is said of already.  Pure."""
    if not places.has_configs:
        found.refuse(
            "pve_configs",
            f"there is no {places.config_dir}, where the endpoint tells LXC of a pod's network and volumes",
            "Look at 'systemctl status pve-cluster', which mounts the cluster's configuration there",
        )
    if template_storage and template_storage not in places.directories:
        found.refuse(
            "pve_template_storage",
            f"storage '{template_storage}' has no directory on this node that images can be written to",
            "Name one in cri_endpoint_pve_template_storage that has a path (dir, nfs, cifs, cephfs, btrfs)",
        )
    if places.kernel < EXIT_CODE_KERNEL and not places.has_monitord:
        kernel = ".".join(map(str, places.kernel))
        wanted = ".".join(map(str, EXIT_CODE_KERNEL))
        found.refuse(
            "pve_exit_codes",
            f"nobody would tell exit codes of LXC pods: lxc-monitord does not answer, and Linux {kernel} is "
            f"older than {wanted}",
            "Start it (systemctl enable --now lxc-monitord.service), or boot a newer kernel",
        )
