# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node with the endpoint installed, as who works on it sees it: crictl, systemd and the kernel's files.

This runs on the node itself, with its own Python and pytest.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import pathlib
import subprocess
import time
import typing as t

from ansible_collections.pvecri.runtime.tests.support.crictl import Crictl

SOCKET = "/run/pvecri/pvecri.sock"
#: What prepare.yml loads into the endpoint's store.
IMAGE = "localhost/verify:1"
CGROUPS = pathlib.Path("/sys/fs/cgroup")
MIB = 1 << 20
#: The machine is emulated: what takes a moment elsewhere takes seconds here.
PATIENCE_S = 300

Config = t.Mapping[str, t.Any]
T = t.TypeVar("T")


def run(*argv: str) -> str:
    """Run a command, which must succeed, and return what it printed."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def unit_properties(unit: str, *names: str) -> dict[str, str]:
    """Return what systemd says of a unit."""
    lines = run("systemctl", "show", unit, "-p", ",".join(names)).splitlines()
    return dict(line.split("=", 1) for line in lines)


def eventually(probe: t.Callable[[], T], timeout_s: float = PATIENCE_S) -> T:
    """Return the first true answer."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not true within {timeout_s} s: {probe}"
        time.sleep(0.3)


def counters(text: str) -> dict[str, int]:
    """Return the numbers of a flat keyed file of the kernel (cpu.stat, memory.events)."""
    return {name: int(value) for name, value in (line.split() for line in text.splitlines())}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container that was started."""

    crictl: Crictl
    id: str
    pod_id: str
    log_file: pathlib.Path
    pid: int

    @property
    def proc(self) -> pathlib.Path:
        """The kernel's directory of its first process."""
        return pathlib.Path(f"/proc/{self.pid}")

    @property
    def group(self) -> str:
        """The control group of its processes, as the kernel names it."""
        return self.proc.joinpath("cgroup").read_text().strip().removeprefix("0::")

    @property
    def scope(self) -> str:
        """The control group of its systemd unit; crun puts processes into one below."""
        return self.group.removesuffix("/container")

    def limit(self, name: str) -> str:
        """Return the content of a file of its own control group."""
        return (CGROUPS / self.group.strip("/") / name).read_text().strip()

    def log(self) -> str:
        """Return what it has written, without the log's own words."""
        if not self.log_file.exists():
            return ""
        lines = self.log_file.read_text().splitlines()
        return "\n".join(line.split(" ", 3)[3] for line in lines)

    def says(self, text: str) -> str:
        """Wait until its log has a text, and return the log."""
        return eventually(lambda: log if text in (log := self.log()) else "")

    def status(self) -> dict[str, t.Any]:
        """Return its status as crictl shows it."""
        found: dict[str, t.Any] = self.crictl.json("inspect", self.id)["status"]
        return found

    def exited(self) -> dict[str, t.Any]:
        """Wait until it has ended and return its status."""
        return eventually(lambda: found if (found := self.status())["state"] == "CONTAINER_EXITED" else {})

    def exec(self, *argv: str) -> str:
        """Run a command in it and return what that printed."""
        return self.crictl("exec", "-s", self.id, *argv)


class Node:
    """The node; ``directory`` is for the files of one test."""

    _numbers = itertools.count(1)

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self.crictl = Crictl(SOCKET, directory, PATIENCE_S)
        self.pods: list[str] = []

    def pod_file(self, name: str, linux: Config | None = None) -> str:
        """Write the configuration of a pod that shares no PID namespace, and return its path."""
        linux = dict(linux or {})
        context = dict(linux.get("security_context", {}))
        options = {"pid": 1, **context.get("namespace_options", {})}
        linux["security_context"] = {**context, "namespace_options": options}
        uid = f"{name}-{os.getpid()}-{next(self._numbers)}"
        return self.crictl.file(
            f"pod-{uid}.json",
            {
                "metadata": {"name": name, "namespace": "verify", "uid": uid, "attempt": 0},
                "log_directory": str(self.directory / uid),
                "linux": linux,
            },
        )

    def container_file(
        self, name: str, script: str, linux: Config | None = None, mounts: t.Sequence[Config] = ()
    ) -> str:
        """Write the configuration of a container that runs a shell script, and return its path."""
        return self.crictl.file(
            f"container-{name}-{next(self._numbers)}.json",
            {
                "metadata": {"name": name},
                "image": {"image": IMAGE},
                "command": ["/bin/sh", "-c", script],
                "log_path": f"{name}.log",
                "linux": dict(linux or {}),
                "mounts": list(mounts),
            },
        )

    def start(
        self,
        script: str,
        linux: Config | None = None,
        *,
        pod: Config | None = None,
        mounts: t.Sequence[Config] = (),
        name: str = "check",
    ) -> Container:
        """Start a container in a pod of its own; both are removed with the test."""
        pod_file = self.pod_file(name, pod)
        pod_id = self.crictl("runp", pod_file).splitlines()[-1]
        self.pods.append(pod_id)
        container_id = self.crictl(
            "create", "--no-pull", pod_id, self.container_file(name, script, linux, mounts), pod_file
        ).splitlines()[-1]
        self.crictl("start", container_id)
        shown = self.crictl.json("inspect", container_id)
        return Container(
            crictl=self.crictl,
            id=container_id,
            pod_id=pod_id,
            log_file=pathlib.Path(shown["status"]["logPath"]),
            pid=shown["info"]["pid"],
        )

    def remove_pods(self) -> None:
        """Remove the pods of this test."""
        if self.pods:
            self.crictl("rmp", "--force", *self.pods)
            self.pods.clear()
