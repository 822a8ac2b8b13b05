# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give an LXC container a first process that becomes whatever it is told to.

LXC can start a program, but it has one terminal for both output streams, takes arguments and
variables from a text file that the cluster's users can read, and forgets the exit code.  So the
container starts this program of about one KiB of machine code instead, and so does whoever runs a
command in it:

1. It connects to the unix socket (SOCK_SEQPACKET) that its argument names.
2. It receives one byte and four descriptors: standard input, output and error, and a file with the
   *block* (see `block`), which says what to run.
3. It maps the block, becomes the user, and executes the program.

The socket closes with that (close-on-exec), which tells the other side that the program runs.  When
a step fails it sends two 32-bit numbers instead, the `Stage` and the error of the system call, and
ends with 127.  It ends so without a word when nobody listens: a container that
is started or restarted by somebody else is stopped again.

Steps, in this order: streams; block; a session of its own and the controlling terminal; the working
directory, made if it is missing and the block says how; the root made read-only; bounding set of
capabilities; groups, group, user; the other sets of capabilities, as far as the process has them;
the working directory once more if root could not enter it; no_new_privs; umask; the program.
Before all that the signal of broken pipes, which systemd ignores for its services, is given its meaning back.
It is the same for a container's first process and for a command run in it.
"""

from __future__ import annotations

import enum
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.elf import static_program
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import launcher_aarch64, launcher_x86_64

_CODE: t.Final = {"x86_64": launcher_x86_64.CODE, "aarch64": launcher_aarch64.CODE}

#: Longest path of a socket that it connects to; what is longer is cut off.
SOCKET_PATH_MAX: t.Final = 107


class Stage(enum.IntEnum):
    """The steps that can fail."""

    STREAMS = 0
    BLOCK = 1
    TERMINAL = 2
    DIRECTORY = 3
    READ_ONLY_ROOT = 4
    CAPABILITIES = 5
    GROUPS = 6
    GROUP = 7
    USER = 8
    NO_NEW_PRIVILEGES = 9
    PROGRAM = 10


def program(machine: str | None = None) -> bytes | None:
    """Return the launcher of a machine, of this one by default, as an ELF file; None for an unknown one."""
    name = machine or os.uname().machine
    return static_program(name, _CODE[name]) if name in _CODE else None
