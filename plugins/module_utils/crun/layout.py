# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name every file that belongs to one container, and refuse names that cannot be files.

Volatile files (below ``run_dir``) tell about this boot; persistent ones (below
``state_dir``) outlive it, so that a container is remembered after a reboot.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths, check_container_name

#: Size of ``sun_path`` in unix(7), with its closing NUL.
_SUN_PATH = 108

#: Ends of the names beside the links to attach sockets: where crun tells the process id of a command that
#: is run in a container, and the sockets by which it hands over terminals.
PID_SUFFIX = ".pid"
TERMINAL_SUFFIX = ".tty"


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """The files of the container ``name`` of one owner."""

    paths: Paths
    name: str

    def __post_init__(self) -> None:
        check_container_name(self.name)

    @property
    def runtime_dir(self) -> str:
        """Directory in which crun keeps this container's state."""
        return os.path.join(self.paths.runtime_root, self.name)

    @property
    def monitor_dir(self) -> str:
        """Directory of conmon's pid file, control fifos, attach socket and OOM mark."""
        return os.path.join(monitors(self.paths), self.name)

    @property
    def record(self) -> str:
        """File that remembers what was created, over a reboot too."""
        return os.path.join(records(self.paths), self.name + ".json")

    @property
    def exit_file(self) -> str:
        """File into which conmon writes the exit code as a decimal number."""
        return os.path.join(self.paths.exits, self.name)

    @property
    def default_log(self) -> str:
        """Log file of a container that was given no path for it."""
        return os.path.join(self.paths.logs, self.name + ".log")

    @property
    def bundle(self) -> str:
        """Bundle directory of a container that was given none."""
        return os.path.join(self.paths.bundles, self.name)

    @property
    def socket_id(self) -> str:
        """Short stand-in for the name, of fixed length since socket paths are short."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:24]

    @property
    def attach_socket(self) -> str:
        """Path of the attach socket, short enough to connect to."""
        return os.path.join(sockets(self.paths), self.socket_id, "attach")

    @property
    def conmon_pid_file(self) -> str:
        """File with conmon's process id."""
        return os.path.join(self.monitor_dir, "conmon.pid")

    @property
    def init_pid_file(self) -> str:
        """File with the process id of the container's first process."""
        return os.path.join(self.monitor_dir, "pid")

    @property
    def oom_file(self) -> str:
        """File that conmon makes when the kernel killed for want of memory."""
        return os.path.join(self.monitor_dir, "oom")

    @property
    def control_fifo(self) -> str:
        """Fifo that takes conmon's commands: reopen the log, resize the terminal."""
        return os.path.join(self.monitor_dir, "ctl")


def monitors(paths: Paths) -> str:
    """Return the directory that holds one monitor directory per container."""
    return os.path.join(paths.run_dir, "monitors", paths.owner.value)


def records(paths: Paths) -> str:
    """Return the directory that holds one record per container."""
    return os.path.join(paths.state_dir, "records", paths.owner.value)


def sockets(paths: Paths) -> str:
    """Return the directory of the links by which attach sockets are reached."""
    return os.path.join(paths.run_dir, "s", paths.owner.value)


def prepare(paths: Paths) -> None:
    """Make the directories that all containers of an owner share.

    Raises InvalidSpec when ``run_dir`` is too long for the socket paths below it.
    """
    longest = len(Layout(paths, "x").attach_socket.encode())
    if longest >= _SUN_PATH:
        raise InvalidSpec(
            "run_dir",
            f"'{paths.run_dir}' is {longest - _SUN_PATH + 1} bytes too long for the sockets below it",
            hint="Choose a shorter directory",
        )
    for directory in (
        paths.runtime_root,
        monitors(paths),
        sockets(paths),
        records(paths),
        paths.exits,
        paths.logs,
    ):
        os.makedirs(directory, mode=0o700, exist_ok=True)
