# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know CRIU: whether this host has one that crun can use, how it is told things, and what its log says."""

from __future__ import annotations

import os
import re

from ansible_collections.pvecri.runtime.plugins.module_utils.command import DEFAULT_PATH, last_line
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.host import CrunHost
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CommandError, MissingDependency

#: What CRIU is told beyond what crun tells it; crun has no options for these.
#: The other ends of connections know nothing of a restored container: they are dumped as closed.
#: The mode of the root directory is the image's with us and 0755 with containerd: restores do not compare.
CONFIGURATION = "tcp-close\nskip-file-rwx-check\n"

_HINT = "Debian 13 and Proxmox VE 9 have what checkpoints need in the packages crun, criu and libcriu2"

_RESTORE_LOG = "restore.log"
_LOG_LINES = 8
_LOG_BYTES = 64 * 1024
_ERROR = re.compile(r"^\([\d.]+\)\s*(?:\d+: )?Error \([^)]*\): (.*)$", re.MULTILINE)
#: Said of every dump where CAP_SYS_RESOURCE is missing, and no reason for anything.
_HARMLESS = ("Can't setup RLIMIT_NOFILE",)


def environment(host: CrunHost, directory: str) -> dict[str, str]:
    """Return what crun's environment must have for CRIU; writes CRIU's configuration into ``directory``."""
    path = os.path.join(directory, "criu.conf")
    with open(path, "w", encoding="ascii") as stream:
        stream.write(CONFIGURATION)
    return {"PATH": _path(host), "CRIU_CONFIG_FILE": path}


def _path(host: CrunHost) -> str:
    return f"{os.path.dirname(host.programs.criu)}:{DEFAULT_PATH}"


def check_host(host: CrunHost) -> None:
    """Raise MissingDependency, with the remedy, unless crun and CRIU of this host can checkpoint."""
    crun, criu = host.given.crun, host.programs.criu
    version = host.runner.run([crun, "--version"], timeout_s=host.command_timeout_s).stdout
    if "+CRIU" not in version.split():
        name = " ".join(version.splitlines()[0].split()) if version else crun
        raise MissingDependency(f"{name} ({crun}) is built without CRIU", hint=_HINT)
    if not os.access(criu, os.X_OK):
        raise MissingDependency(f"there is no CRIU at {criu}", hint="Install the Debian package 'criu'")
    done = host.runner.run(
        [criu, "check"], timeout_s=host.command_timeout_s, env={"PATH": _path(host)}, check=False
    )
    if done.rc != 0:
        reason = reasons(done.stdout + done.stderr) or last_line(done.stderr) or f"exit code {done.rc}"
        raise MissingDependency(f"the CRIU of this host does not work with its kernel: {reason}", hint=_HINT)


def failure(message: str, error: str, log: str, argv: list[str]) -> CommandError | MissingDependency:
    """Return the error for a dump or restore that failed, with what CRIU's log file ``log`` says of it."""
    # crun loads CRIU's library when it needs it.
    if "libcriu" in error:
        return MissingDependency(
            "crun cannot load the library libcriu", hint="Install the Debian package 'libcriu2'"
        )
    return CommandError(
        f"{message}: {reasons(_tail(log)) or last_line(error) or 'without a message'}",
        argv=argv,
        rc=1,
        stderr=error,
    )


class Restore:
    """What is different when a container is not begun, but restored from the dump ``images``."""

    def __init__(self, host: CrunHost, layout: Layout, images: str) -> None:
        self._host = host
        self._layout = layout
        self.images = os.path.abspath(images)

    def environment(self) -> dict[str, str]:
        """Return what is to be in conmon's environment; its directory exists then."""
        return environment(self._host, self._layout.monitor_dir)

    def failure(self, message: str, argv: list[str]) -> CommandError | MissingDependency:
        """Return the error for what crun said through conmon, which had it log into its own directory."""
        log = os.path.join(self._layout.monitor_dir, _RESTORE_LOG)
        return failure(f"container '{self._layout.name}' cannot be restored", message, log, argv)


def reasons(log: str) -> str:
    """Return the last errors of a log of CRIU in one line; empty when it has none."""
    found = [line for line in _ERROR.findall(log) if not line.startswith(_HARMLESS) and "rlimit" not in line]
    return "; ".join(found[-_LOG_LINES:])


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            stream.seek(max(0, size - _LOG_BYTES))
            return stream.read(_LOG_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
