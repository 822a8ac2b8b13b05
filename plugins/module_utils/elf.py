# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a program of machine code: one segment, no libraries, no sections (elf(5))."""

from __future__ import annotations

import struct
import typing as t

#: Numbers of the machines (elf.h), by their names in uname(2).
MACHINES: t.Final = {"x86_64": 62, "aarch64": 183}

_LOAD_ADDRESS = 0x400000
_EHDR, _PHDR = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ")

#: Where the code begins when it runs.
CODE_ADDRESS: t.Final = _LOAD_ADDRESS + _EHDR.size + _PHDR.size


def static_program(machine: str, body: bytes) -> bytes:
    """Return the file of a program whose code begins at the begin of ``body``, which may be read, too."""
    start = _EHDR.size + _PHDR.size
    size = start + len(body)
    # 64 bits, little endian, version 1; ET_EXEC; one segment that is read and executed.
    identification = b"\x7fELF\x02\x01\x01"
    header = _EHDR.pack(
        identification,
        2,
        MACHINES[machine],
        1,
        _LOAD_ADDRESS + start,
        _EHDR.size,
        0,
        0,
        _EHDR.size,
        _PHDR.size,
        1,
        0,
        0,
        0,
    )
    return header + _PHDR.pack(1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000) + body
