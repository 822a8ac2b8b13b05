# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let systemd start a container again: the text of its unit, and the verbs to use it.

conmon is the unit's main process; it lives as long as the container and ends
with the container's exit code, so systemd's own restart rules apply as they are.
"""

from __future__ import annotations

import os
import shlex
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container import places
from ansible_collections.pvecri.runtime.plugins.module_utils.container.places import unit_name
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import RestartPolicy
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    remove_temporaries,
    write_atomic,
)

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed, Runner

#: Exists exactly when systemd is the init of this host (sd_booted(3)).
BOOTED = "/run/systemd/system"

#: First line of every unit of ours: a file without it is somebody else's and is left alone.
MARK = "# Made by pvecri.runtime.crun_container; changes are overwritten."

_RESTART = {"on-failure": "on-failure", "always": "always", "unless-stopped": "always"}
#: Time that our own work around stopping may take beyond the container's stop time-out.
_STOP_MARGIN_S = 30


def unit_text(
    container: str,
    policy: RestartPolicy,
    *,
    command: t.Sequence[str],
    pid_file: str,
    state_dir: str,
    bundle: str,
    stop_timeout_s: float,
    environment: t.Mapping[str, str] | None = None,
) -> str:
    """Return the text of the unit that keeps ``container`` running by ``policy``.

    ``command`` with ``environment``, followed by ``start`` or ``stop`` and the name does just that;
    ``pid_file`` is where conmon writes its own process id.
    """
    limits = ["StartLimitIntervalSec=0"]
    if policy.max_retries is not None:
        # The first start counts, too.
        limits = ["StartLimitIntervalSec=infinity", f"StartLimitBurst={policy.max_retries + 1}"]
    run = _escape(shlex.join(command))
    return "\n".join(
        [
            MARK,
            _owner_line(state_dir),
            "[Unit]",
            f"Description=Container {container}",
            "Wants=network-online.target",
            "After=network-online.target",
            f"RequiresMountsFor={_escape(shlex.quote(bundle))}",
            *limits,
            "",
            "[Service]",
            "Type=forking",
            f"PIDFile={_escape(pid_file)}",
            *(f"Environment={_escape(shlex.quote(f'{k}={v}'))}" for k, v in (environment or {}).items()),
            f"ExecStart={run} start {container}",
            f"ExecStop={run} stop {container}",
            f"Restart={_RESTART[policy.name]}",
            "RestartSec=1",
            f"TimeoutStopSec={stop_timeout_s + _STOP_MARGIN_S:g}",
            # What is left when conmon ends is conmon's own; the container has a cgroup of its own.
            "KillMode=mixed",
            "Delegate=yes",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        ]
    )


def _owner_line(state_dir: str) -> str:
    return f"# It belongs to {state_dir}."


def _escape(text: str) -> str:
    """Protect what systemd would expand."""
    return text.replace("%", "%%").replace("$", "$$")


def require_booted(field: str, policy: RestartPolicy) -> None:
    """Raise Unsupported naming ``field`` unless systemd is the init of this host."""
    if not os.path.isdir(BOOTED):
        raise Unsupported(
            f"{field}: {policy.name} needs systemd, which is not the init of this host",
            hint=f"Use {field}=no here, or supervise the container by other means",
        )


class Units:
    """Write units and tell systemd about them."""

    def __init__(self, runner: Runner, state_dir: str) -> None:
        self._runner = runner
        self._state_dir = state_dir

    def path(self, container: str) -> str:
        """Return the path of a container's unit."""
        return os.path.join(places.UNIT_DIR, unit_name(container))

    def text(self, container: str) -> str | None:
        """Return the text of a container's unit; None when there is none, or it is somebody else's.

        Containers of one name can be kept in several state directories, and units in one place only.
        """
        try:
            with open(self.path(container), encoding="utf-8") as stream:
                text = stream.read()
        except FileNotFoundError:
            return None
        return text if text.startswith(f"{MARK}\n{_owner_line(self._state_dir)}\n") else None

    def is_enabled(self, container: str) -> bool:
        """Tell whether the unit is started at boot, by the link that ``systemctl enable`` makes."""
        link = os.path.join(places.UNIT_DIR, "multi-user.target.wants", unit_name(container))
        return os.path.lexists(link)

    def require_place(self, container: str) -> None:
        """Raise Conflict when somebody else's unit is in the place of this container's."""
        if os.path.lexists(self.path(container)) and self.text(container) is None:
            raise Conflict(
                f"restart_policy: {self.path(container)} is not the unit of this container",
                hint="Remove that unit, or choose another name for the container",
            )

    def write(self, container: str, text: str) -> None:
        """Write a unit and let systemd read it; raise Conflict when somebody else's is in its place."""
        self.require_place(container)
        write_atomic(self.path(container), text.encode(), durable=True)
        self._systemctl("daemon-reload")

    def start(self, container: str) -> None:
        """Start the unit; earlier failures no longer count."""
        unit = unit_name(container)
        shown = self._systemctl("show", "--property=NeedDaemonReload", unit, check=False)
        if shown.stdout.strip() == "NeedDaemonReload=yes":
            # Whoever wrote it last was killed before systemd read it.
            self._systemctl("daemon-reload")
        self._systemctl("reset-failed", unit, check=False)
        self._systemctl("start", unit)

    def stop(self, container: str, timeout_s: float) -> None:
        """Stop the unit, or the restart that systemd has planned."""
        unit = unit_name(container)
        self._systemctl("stop", unit, timeout_s=timeout_s + 2 * _STOP_MARGIN_S)
        # A container that ends by SIGTERM leaves its unit failed, which nobody needs to look at.
        self._systemctl("reset-failed", unit, check=False)

    def cancel(self, container: str) -> None:
        """Give up the start that is going on, from within it."""
        self._systemctl("--no-block", "stop", unit_name(container), check=False)

    def enable(self, container: str, enabled: bool) -> None:
        """Start the unit at boot, or do not."""
        self._systemctl("enable" if enabled else "disable", unit_name(container))

    def remove(self, container: str) -> None:
        """Forget the unit; it has been stopped before."""
        if os.path.isdir(BOOTED):
            self._systemctl("disable", unit_name(container), check=False)
        else:
            link = os.path.join(places.UNIT_DIR, "multi-user.target.wants", unit_name(container))
            if os.path.lexists(link):
                os.unlink(link)
        os.unlink(self.path(container))
        remove_temporaries(self.path(container))
        if os.path.isdir(BOOTED):
            self._systemctl("daemon-reload")
            self._systemctl("reset-failed", unit_name(container), check=False)

    def _systemctl(self, *words: str, timeout_s: float = 120.0, check: bool = True) -> Completed:
        return self._runner.run(["systemctl", *words], timeout_s=timeout_s, check=check)
