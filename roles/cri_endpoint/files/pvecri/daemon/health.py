# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say whether the daemon can do its work, and why not."""

from __future__ import annotations

import dataclasses
import typing as t

from pvecri.config.model import Config
from pvecri.status.features import missing_programs
from pvecri.status.network import NetworkStatus


@dataclasses.dataclass(frozen=True, slots=True)
class Readiness:
    """What /readyz answers."""

    is_ready: bool
    #: One line for each thing that was looked at.
    text: str


class Health:
    """Looks at what pods and containers need; in threads."""

    def __init__(self, config: Config, guests: t.Callable[[], str | None] | None = None) -> None:
        """Set up; ``guests`` says what keeps Proxmox LXC from running containers, where there is one."""
        self._runtime = config.runtime
        self._guests = guests
        self._network = NetworkStatus(config.network.conf_dir, config.network.plugin_dirs)

    def readiness(self, closed_because: str | None) -> Readiness:
        """Say whether requests are let in and containers can be run.

        Without a network only pods of the host's network can be run: that is told, as Status
        tells kubelet, and keeps nobody from asking.  Without Proxmox VE crun runs containers still.
        """
        missing = missing_programs(self._runtime.crun, self._runtime.conmon)
        runtime = f"there is no program {' and no '.join(missing)}" if missing else None
        network = self._network.problem()
        lines = [
            _line("requests", closed_because),
            _line("runtime", runtime),
            _line("network", network, "warning"),
        ]
        if self._guests is not None:
            lines.append(_line("proxmox", self._guests(), "warning"))
        is_ready = closed_because is None and runtime is None
        return Readiness(is_ready, "\n".join([*lines, "ready" if is_ready else "not ready"]) + "\n")


def _line(what: str, problem: str | None, severity: str = "failed") -> str:
    return f"{what}: ok" if problem is None else f"{what}: {severity}: {problem}"
