# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reboot of the machine leaves of a pod that ran before it.

usage before the reboot:  python3 -m ansible_collections.pvecri.runtime.tests.vm.survivor
"""

from __future__ import annotations

import dataclasses
import json
import pathlib

from ansible_collections.pvecri.runtime.tests.vm.node import Node

#: Where its logs are, and what the checks after the reboot have to know of it.
DIRECTORY = pathlib.Path("/var/lib/verify-survivor")
NOTE = DIRECTORY / "note.json"


@dataclasses.dataclass(frozen=True, slots=True)
class Survivor:
    """A pod that ran when the machine went down."""

    container_id: str
    pod_id: str
    log_file: str
    boot_id: str


def boot_id() -> str:
    """Return what the kernel calls this boot."""
    return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def leave() -> None:
    """Start a pod and note what it is."""
    DIRECTORY.mkdir()
    container = Node(DIRECTORY).start(
        "trap 'exit 0' TERM; echo before; while :; do sleep 1; done", name="survivor"
    )
    container.says("before")
    survivor = Survivor(container.id, container.pod_id, str(container.log_file), boot_id())
    NOTE.write_text(json.dumps(dataclasses.asdict(survivor)))


def find() -> Survivor:
    """Read what was noted."""
    return Survivor(**json.loads(NOTE.read_text()))


if __name__ == "__main__":
    leave()
