# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a test network and mount namespaces of its own: a machine whose usual paths are the test's.

with made_machine(["mount -t tmpfs none /srv"], places=["/var/lib/pvecri"]) as machine:
    machine.output("ls", "/srv")
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import typing as t

import pytest


class Machine:
    """Namespaces that last as long as the test; ``top`` is a short directory seen inside and outside."""

    def __init__(self, top: pathlib.Path, pid: int) -> None:
        self.top = top
        self.pid = pid
        #: To be put before a command.
        self.inside = ["nsenter", f"--target={pid}", "--net", "--mount"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(top),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def start(self, *argv: str, **options: t.Any) -> subprocess.Popen[str]:
        """Start a command inside, with a pipe from its output."""
        pipes = {"stdout": subprocess.PIPE, "text": True, **options}
        return subprocess.Popen([*self.inside, *argv], env=self.environment, **pipes)

    def output(self, *argv: str) -> list[str]:
        """Return the lines that a command prints inside; it must succeed."""
        with self.start(*argv) as child:
            out, _unused = child.communicate(timeout=120)
        assert child.returncode == 0, argv
        return out.splitlines()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file as it is seen inside."""
        script = f"mkdir -p {os.path.dirname(path)} && cat >{path} && chmod {mode:o} {path}"
        with self.start("sh", "-ec", script, stdin=subprocess.PIPE) as child:
            child.communicate(text, timeout=120)
        assert child.returncode == 0, path

    def processes(self) -> list[str]:
        """Return the command lines of all processes in the machine's network namespace."""
        own = os.readlink(f"/proc/{self.pid}/ns/net")
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/net") == own:
                    line = (path / "cmdline").read_bytes().replace(b"\0", b" ")
                    found.append(line.decode(errors="replace").strip())
        return [line for line in found if line]

    @contextlib.contextmanager
    def serving(self, code: str, *arguments: str) -> t.Iterator[str]:
        """Run Python code that prints one line when it is ready and goes on until its input ends."""
        with self.start(sys.executable, "-c", code, *arguments, stdin=subprocess.PIPE) as server:
            try:
                yield t.cast("t.IO[str]", server.stdout).readline().strip()
            finally:
                t.cast("t.IO[str]", server.stdin).close()


@contextlib.contextmanager
def made_machine(
    setup: t.Sequence[str], *, places: t.Sequence[str] = (), programs: t.Sequence[str] = ()
) -> t.Iterator[Machine]:
    """Provide a machine after the shell commands ``setup``, run in its empty top directory.

    Each of ``places`` is a path of the machine that becomes a directory of the test, and /run is empty.
    Skips the test without root or one of ``programs``.
    """
    lacking = [
        program for program in ("unshare", "nsenter", "ip", *programs) if shutil.which(program) is None
    ]
    if os.geteuid() != 0 or lacking:
        pytest.skip(f"needs root{' and ' if lacking else ''}{', '.join(lacking)}")
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    new = [place for place in places if not os.path.isdir(place)]
    lines = ["ip link set lo up", "mount -t tmpfs none /run"]
    for number, place in enumerate(places):
        os.makedirs(place, exist_ok=True)
        (top / f"place{number}").mkdir()
        lines.append(f"mount --bind {top}/place{number} {place}")
    script = "\n".join([*lines, *setup, "echo ready", "exec sleep 1800"])
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-ec", script], cwd=top, stdout=subprocess.PIPE, text=True
    )
    try:
        assert t.cast("t.IO[str]", holder.stdout).readline() == "ready\n"
        yield Machine(top, holder.pid)
    finally:
        holder.kill()
        holder.communicate()
        shutil.rmtree(top, ignore_errors=True)
        for place in new:
            os.rmdir(place)
