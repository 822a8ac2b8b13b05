# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a network and a mount namespace, in which runtimes under test do what they do to a host.

    with PrivateHost() as host:
        process = subprocess.Popen(host.argv(["containerd", "--config", path]))
        host.run(["ip", "-br", "address"])

Bridges, packet filter rules and mounts never meet the machine's own, nor those of a test beside.
Nothing in it outlives `close`: what still runs there is killed and named.  Containers have mount
namespaces of their own and are for whoever made them.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import time
import typing as t

_SET_UP = """
set -e
mount --make-rshared /
for directory in "$@"; do mount -t tmpfs -o mode=0755 private "$directory"; done
[ -n "$JOINED" ] || {
    ip link set lo up
    echo 1 >/proc/sys/net/ipv4/ip_forward
    echo 1 >/proc/sys/net/ipv4/conf/all/route_localnet
}
echo ready
exec cat >/dev/null
"""
_END_S = 10.0


class PrivateHost:
    """Namespaces that live as long as this object; a context manager.

    ``empty`` names directories of the machine that shall be empty there.  With ``network_of``
    the network is that of another private host.
    """

    def __init__(self, *, empty: t.Sequence[str] = (), network_of: PrivateHost | None = None) -> None:
        self._empty = list(empty)
        self._network_of = network_of
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> t.Self:
        self.open()
        return self

    def __exit__(self, *_unused: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Process that holds the namespaces."""
        assert self._holder is not None, "this private host is not open"
        return self._holder.pid

    def open(self) -> None:
        """Make the namespaces; the holder ends with this process at the latest."""
        for directory in self._empty:
            os.makedirs(directory, exist_ok=True)
        joined = self._network_of
        self._holder = subprocess.Popen(
            [
                *(["nsenter", f"--net=/proc/{joined.pid}/ns/net"] if joined else []),
                *("unshare", "--mount", *([] if joined else ["--net"])),
                *("sh", "-c", _SET_UP, "sh", *self._empty),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "JOINED": "1" if joined else ""},
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "ready\n":
            self._holder.wait()
            self._holder = None
            raise RuntimeError("no private network and mount namespace can be made here")

    def close(self) -> list[str]:
        """End what still runs in the mount namespace, and the namespaces; return what ran."""
        if self._holder is None:
            return []
        left = []
        deadline = time.monotonic() + _END_S
        in_vain = 0
        # Somebody may be about to fork while we look: only two looks in a row that find nobody count.
        while in_vain < 2 and time.monotonic() < deadline:
            alive = self.processes()
            in_vain = 0 if alive else in_vain + 1
            for pid in alive:
                left.append(_command(pid))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.wait()
        self._holder.stdout.close()
        self._holder = None
        return sorted(set(left))

    def argv(self, argv: t.Sequence[str]) -> list[str]:
        """Return the argument list that runs ``argv`` there; the process keeps its id."""
        return ["nsenter", "-t", str(self.pid), "--net", "--mount", "--wdns=/", "--", *argv]

    def run(
        self, argv: t.Sequence[str], *, check: bool = True, timeout: float = 60, **options: t.Any
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` there to its end."""
        given = {"capture_output": True, "text": True, **options}
        return subprocess.run(self.argv(argv), check=check, timeout=timeout, **given)

    def path(self, path: str) -> str:
        """Return how ``path`` as it is there can be opened from outside."""
        return f"/proc/{self.pid}/root{path}"

    def mounts(self, below: str = "/") -> list[str]:
        """Return the mount points there, those below a directory."""
        text = pathlib.Path(f"/proc/{self.pid}/mountinfo").read_text(encoding="utf-8")
        found = [line.split(" ")[4].encode().decode("unicode_escape") for line in text.splitlines()]
        return [path for path in found if path.startswith(below.rstrip("/") + "/")]

    def processes(self) -> list[int]:
        """Return the processes in this mount namespace, the holder aside: daemons and their helpers."""
        own = os.readlink(f"/proc/{self.pid}/ns/mnt")
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit() and int(name) != self.pid:
                with contextlib.suppress(OSError):
                    if os.readlink(f"/proc/{name}/ns/mnt") == own:
                        found.append(int(name))
        return found


def _command(pid: int) -> str:
    with contextlib.suppress(OSError):
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        return raw.replace(b"\0", b" ").decode(errors="replace").strip() or f"pid {pid}"
    return f"pid {pid}"
