# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and write listings of machine code: bytes, and the assembler's source as a comment on them.

A listing is a Python file, so that the program's bytes are in the tree and need no assembler on a host, and
so that everyone can read what they do.  To change one, change the comments and run this file on it.
"""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
import tempfile

_LINE = re.compile(r'^    (?:"[0-9a-f]*"  )?# (.*)$')
_DISASSEMBLED = re.compile(r"^ *([0-9a-f]+):", re.MULTILINE)
#: What begins a comment within a comment, for both assemblers.
_REMARK = "; "


def source_of(listing: str) -> list[str]:
    """Return the lines of the assembler's source, labels and remarks included."""
    _head, _open, rest = listing.partition("bytes.fromhex(\n")
    body, _close, _tail = rest.partition("\n)\n")
    return [found[1] for line in body.splitlines() if (found := _LINE.match(line))]


def assembled(machine: str, source: list[str]) -> tuple[bytes, list[int]]:
    """Return the code, and where in it each instruction begins (LLVM's assembler)."""
    text = "\n".join(line.partition(_REMARK)[0] for line in source) + "\n"
    with tempfile.TemporaryDirectory() as directory:
        target, plain = f"{directory}/o", f"{directory}/bin"
        subprocess.run(
            ["llvm-mc", f"-triple={machine}", "-x86-asm-syntax=intel", "-filetype=obj", "-o", target],
            input=text.encode(),
            check=True,
        )
        subprocess.run(["llvm-objcopy", "-O", "binary", "-j", ".text", target, plain], check=True)
        shown = subprocess.run(
            ["llvm-objdump", "-d", "--no-show-raw-insn", target], check=True, capture_output=True, text=True
        )
        starts = [int(number, 16) for number in _DISASSEMBLED.findall(shown.stdout)]
        return pathlib.Path(plain).read_bytes(), starts


def relisted(machine: str, listing: str) -> str:
    """Return the listing with its bytes made anew from its comments."""
    source = source_of(listing)
    code, starts = assembled(machine, source)
    bounds = iter(zip(starts, [*starts[1:], len(code)], strict=True))
    lines = []
    for line in source:
        if line.partition(_REMARK)[0].rstrip().endswith(":"):
            lines.append(f"    # {line}")
        else:
            first, last = next(bounds)
            lines.append(f'    "{code[first:last].hex()}"  # {line}')
    head, opening, rest = listing.partition("bytes.fromhex(\n")
    return head + opening + "\n".join(lines) + "\n)\n" + rest.partition("\n)\n")[2]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        place = pathlib.Path(name)
        place.write_text(relisted(place.stem.partition("_")[2], place.read_text()))
