# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Count what directories take on disk with du(1), at the lowest priority."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner

_TIMEOUT_S = 1800.0
_DU = ("nice", "-n", "19", "du", "--summarize", "--one-file-system", "--files0-from=-")


class Usage(t.NamedTuple):
    """What a directory takes on disk."""

    size_bytes: int = 0
    inodes: int = 0

    def plus(self, other: Usage) -> Usage:
        """Return the sum."""
        return Usage(self.size_bytes + other.size_bytes, self.inodes + other.inodes)


def count(runner: Runner, paths: t.Sequence[str]) -> dict[str, Usage]:
    """Return what each path takes; one that vanishes meanwhile is left out."""
    if not paths:
        return {}
    stdin = "\0".join(paths).encode()
    sizes = _once(runner, [*_DU, "--block-size=1"], stdin)
    inodes = _once(runner, [*_DU, "--inodes"], stdin)
    return {path: Usage(size, inodes.get(path, 0)) for path, size in sizes.items()}


def _once(runner: Runner, argv: t.Sequence[str], stdin: bytes) -> dict[str, int]:
    # It fails for files that went while it counted, and says the rest.
    done = runner.run(argv, timeout_s=_TIMEOUT_S, stdin=stdin, check=False)
    found = {}
    for line in done.stdout.splitlines():
        number, tab, path = line.partition("\t")
        if tab and number.isdigit():
            found[path] = int(number)
    return found
