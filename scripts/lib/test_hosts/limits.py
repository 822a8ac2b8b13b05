# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let hosts raise the limit of locked memory where this machine may not.

Debian 12's crun raises it before it loads the program that guards devices, and gives up when it may not,
although kernels since 5.11 do not count such programs.  A machine without CAP_SYS_RESOURCE refuses; there
a host's requests are answered with success and change nothing.
"""

from __future__ import annotations

import ctypes
import platform
import struct
from pathlib import Path

CAP_SYS_RESOURCE = 24
RLIMIT_MEMLOCK = 8
PRLIMIT64 = {"x86_64": 302, "aarch64": 261}
PR_SET_SECCOMP = 22
MODE_FILTER = 2
ALLOW, SUCCEED = 0x7FFF0000, 0x00050000
# linux/bpf_common.h: load a word at an offset of struct seccomp_data, jump if equal, return.
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
NUMBER, RESOURCE, NEW_LIMIT = 0, 24, 32


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def may_raise() -> bool:
    """Say whether this machine lets its root raise hard limits."""
    lines = Path("/proc/self/status").read_text().splitlines()
    effective = next(line.split()[1] for line in lines if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> CAP_SYS_RESOURCE & 1)


def pretend() -> None:
    """Answer prlimit64(RLIMIT_MEMLOCK, new limit) with success in this process and all that come from it."""
    number = PRLIMIT64.get(platform.machine())
    if number is None:
        return
    code = b"".join(
        struct.pack("=HBBI", *step)
        for step in (
            (LOAD, 0, 0, NUMBER),
            (EQUAL, 0, 5, number),
            (LOAD, 0, 0, RESOURCE),
            (EQUAL, 0, 3, RLIMIT_MEMLOCK),
            (LOAD, 0, 0, NEW_LIMIT),
            (EQUAL, 1, 0, 0),  # a question for the limit
            (RETURN, 0, 0, SUCCEED),
            (RETURN, 0, 0, ALLOW),
        )
    )
    held = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.cast(held, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter for limits was refused")
