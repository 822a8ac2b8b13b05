# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the launcher as a plain process of this machine, or another machine's under an emulator."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.files import memory_file
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import block, handover, launcher

DEADLINE_S = 20.0


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What a launched program has written, and how it ended."""

    code: int
    stdout: bytes
    stderr: bytes


class Launched:
    """A launcher in a directory of its own; ``before`` is what starts it, such as an emulator."""

    def __init__(self, directory: pathlib.Path, machine: str, before: t.Sequence[str] = ()) -> None:
        self.program = directory / "run"
        self.socket = str(directory / "init")
        content = launcher.program(machine)
        assert content is not None
        self.program.write_bytes(content)
        self.program.chmod(0o755)
        self._before = list(before)

    def start(self, **options: t.Any) -> subprocess.Popen[bytes]:
        """Start the launcher."""
        argv = [*self._before, str(self.program), self.socket]
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)

    def run(self, process: dict[str, t.Any], *, stdin: bytes = b"", **how: bool) -> Outcome:
        """Run an OCI process to its end; raises what `handover.Listener.give` does."""
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(handover.listen(self.socket, os.geteuid(), os.getegid()))
            pipes = [os.pipe() for _stream in range(3)]
            (into, feed), (out, written), (err, complained) = pipes
            os.write(feed, stdin)
            os.close(feed)
            memory = memory_file("block", block.encode(process, **how))
            child = self.start()
            stack.callback(child.wait)
            stack.callback(child.kill)
            try:
                started = listener.give(
                    [into, written, complained], memory, DEADLINE_S, lambda pid: pid == child.pid
                )
            finally:
                for handle in (into, written, complained, memory):
                    os.close(handle)
            stack.callback(os.close, started.pidfd)
            with open(out, "rb") as output, open(err, "rb") as complaints:
                stdout, stderr = output.read(), complaints.read()
            return Outcome(child.wait(DEADLINE_S), stdout, stderr)
