# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name every file that belongs to one LXC container of Proxmox VE that runs a pod's container.

What conmon makes of it lies where crun's containers have it (`crun.layout.Layout`), so that
log, streams and exit code of both kinds are found the same way.  What Proxmox VE or LXC reads must
outlive a reboot: without the included file nobody could even stop the container.

<state_dir>/lxc/records/<name>.json   what was made and how far that came
<state_dir>/lxc/guests/<vmid>/        config: the included file; io: what is shown to the container
                                      as /dev/.pvecri; sys: the pod's /sys; mounts: volumes until the start

LXC mounts as the container's root, a user without rights of this host's: all directories on the way
to what it mounts let that one through.
"""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import layout as crun_layout
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

#: Where the container sees its directory ``io``.
INNER_DIR = "/dev/.pvecri"

#: In ``io``: the program that is the container's first process, and the socket that tells it what to run.
LAUNCHER = "run"
INIT_SOCKET = "init"

#: Mode of directories through which a container's root has to get.
PASSABLE = 0o711
ENTERED_BY_GROUP = 0o710


@dataclasses.dataclass(frozen=True, slots=True)
class LxcLayout:
    """The files of the container ``name`` of one owner."""

    paths: Paths
    name: str

    def __post_init__(self) -> None:
        # Refuses names that cannot be files.
        _checked = self.crun

    @property
    def crun(self) -> Layout:
        """The files that conmon makes, and where its log, exit code and sockets are."""
        return Layout(self.paths, self.name)

    @property
    def record(self) -> str:
        """File that remembers what was made, over a reboot too."""
        return os.path.join(records(self.paths), self.name + ".json")

    @property
    def settings(self) -> str:
        """File from which the holder learns what to do."""
        return os.path.join(self.crun.monitor_dir, "holder.json")

    @property
    def block(self) -> str:
        """File with what the first process shall run, ready to be mapped into its memory."""
        return os.path.join(self.crun.monitor_dir, "block")

    @property
    def answer(self) -> str:
        """File in which the holder says that the first process runs, or why it does not."""
        return os.path.join(self.crun.monitor_dir, "answer")

    @property
    def console(self) -> str:
        """File in which the holder says the number of the terminal that it made."""
        return os.path.join(self.crun.monitor_dir, "console")

    @property
    def writes(self) -> str:
        """File with paths and texts that the holder writes when the container is there, before it runs."""
        return os.path.join(self.crun.monitor_dir, "writes.json")

    @property
    def config(self) -> str:
        """Configuration by which the container was made; it may hold secrets."""
        return os.path.join(self.crun.monitor_dir, "config.json")


@dataclasses.dataclass(frozen=True, slots=True)
class Guest:
    """The files of what Proxmox VE calls ``vmid``."""

    directory: str

    @property
    def config(self) -> str:
        """File that the container's configuration includes; it is there as long as the container is."""
        return os.path.join(self.directory, "config")

    @property
    def io(self) -> str:
        """Directory that is shown to the container, read-only."""
        return os.path.join(self.directory, "io")

    @property
    def launcher(self) -> str:
        """Program that is the container's first process until it becomes what is asked for."""
        return os.path.join(self.io, LAUNCHER)

    @property
    def init_socket(self) -> str:
        """Socket on which the holder waits for the first process."""
        return os.path.join(self.io, INIT_SOCKET)

    @property
    def sysfs(self) -> str:
        """Mount point of a /sys that shows the network interfaces of the pod."""
        return os.path.join(self.directory, "sys")

    @property
    def mounts(self) -> str:
        """Directory in which volumes are shown as the container is to see them, until it has them."""
        return os.path.join(self.directory, "mounts")

    def make(self, group: int) -> None:
        """Make the directories, which let the container's root through: it is in this group of the host.

        Nobody else gets in: volumes are shown there that lie where no other user gets, either.
        """
        os.makedirs(self.directory, exist_ok=True)
        os.chown(self.directory, 0, group)
        os.chmod(self.directory, ENTERED_BY_GROUP)
        for directory in (self.io, self.mounts):
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, PASSABLE)
        # A read-only file system may be mounted there.
        os.makedirs(self.sysfs, exist_ok=True)


def records(paths: Paths) -> str:
    """Return the directory that holds one record per container."""
    return os.path.join(paths.state_dir, "lxc", "records")


def guests(paths: Paths) -> str:
    """Return the directory that holds one directory per vmid."""
    return os.path.join(paths.state_dir, "lxc", "guests")


def guest(paths: Paths, vmid: int) -> Guest:
    """Return the files of a vmid."""
    return Guest(guest_dir(paths, vmid))


def guest_dir(paths: Paths, vmid: int) -> str:
    """Return the directory of a vmid."""
    return os.path.join(guests(paths), str(int(vmid)))


def prepare(paths: Paths) -> None:
    """Make the directories that all containers share.

    Raises InvalidSpec when ``run_dir`` is too long for the socket paths below it.
    """
    crun_layout.prepare(paths)
    for directory in (os.path.dirname(records(paths)), guests(paths)):
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, PASSABLE)
    os.makedirs(records(paths), mode=0o700, exist_ok=True)
