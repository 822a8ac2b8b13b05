# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up the endpoint and its peers side by side: one network, one image, the same CNI plugins."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import time
import typing as t

import grpc

from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import default_config
from ansible_collections.pvecri.runtime.tests.support import cgroups, images
from ansible_collections.pvecri.runtime.tests.support.containerd import SHARED_DIRECTORIES, Containerd
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri, container, pb, pod, unique
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint
from ansible_collections.pvecri.runtime.tests.support.private_host import PrivateHost

IMAGE = "registry.test/bench:1"
PAUSE = "registry.test/pause:1"
#: Stopped by KILL: how long a program takes to heed TERM, or to be ready for it, is not what is measured.
STOP_SIGNAL = "SIGKILL"

_RECOVERY_S = 60.0


class Daemon(t.Protocol):
    """What `Endpoint` and `Containerd` have in common."""

    socket: str
    host: PrivateHost

    @property
    def pid(self) -> int:
        """Process of the daemon."""

    def kill(self) -> None:
        """End it at once."""

    def spawn(self) -> None:
        """Start it without waiting."""

    def close(self) -> None:
        """End it and remove what it has."""


class Memory(t.NamedTuple):
    """MiB: shares of what is shared count by the number of their users (PSS); RSS counts them whole."""

    daemon: float
    helpers: float
    daemon_rss: float

    @property
    def whole(self) -> float:
        """PSS of daemon and helpers."""
        return self.daemon + self.helpers


@dataclasses.dataclass(frozen=True)
class Contestant:
    """A runtime to be measured."""

    name: str
    daemon: Daemon
    logs: str
    cgroup_parent: str

    @property
    def socket(self) -> str:
        """Its socket."""
        return self.daemon.socket

    def pod(self, *, host_network: bool = False) -> t.Any:
        """Return the config of the next pod."""
        name = unique("bench")
        return pod(
            name,
            host_network=host_network,
            log_directory=f"{self.logs}/{name}",
            cgroup_parent=f"{self.cgroup_parent}/{name}",
        )

    def container(self) -> t.Any:
        """Return the config of a pod's one container."""
        return container("app", IMAGE, log_path="app.log")

    def memory(self) -> Memory:
        """Return what the daemon and its helpers have of the memory."""
        shares = {pid: _rollup(pid) for pid in self.daemon.host.processes()}
        daemon = shares.pop(self.daemon.pid)
        helpers = sum(share["Pss"] for share in shares.values())
        return Memory(daemon["Pss"] / 1024, helpers / 1024, daemon["Rss"] / 1024)

    def cpu_s(self) -> float:
        """Return what the daemon's process used of the processors so far, in seconds."""
        fields = pathlib.Path(f"/proc/{self.daemon.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def recover(self, running: int) -> float:
        """Kill the daemon, start it, and return the seconds until it lists ``running`` running containers."""
        self.daemon.kill()
        started = time.perf_counter()
        self.daemon.spawn()
        while time.perf_counter() - started < _RECOVERY_S:
            with Cri(self.socket, timeout_s=5) as cri, contextlib.suppress(grpc.RpcError):
                alive = [item for item in cri.list_containers() if item.state == pb.CONTAINER_RUNNING]
                if len(alive) == running:
                    return time.perf_counter() - started
            time.sleep(0.005)
        raise RuntimeError(f"{self.name} does not find its {running} containers again")


#: An event of the daemon's log with the milliseconds of its stages: ``DEBUG sandbox made … network_ms=33.7``.
_EVENT = re.compile(r"^\S+ DEBUG +(?P<event>[^=]+?) \w+=")
_STAGE = re.compile(r"\b(\w+)_ms=([0-9.]+)")


def stages(contestant: Contestant, work: t.Callable[[], object]) -> dict[tuple[str, str], list[float]]:
    """Do ``work`` with the daemon logging its stages; return their milliseconds by event and stage."""
    return stages_of(contestant.daemon, work) if isinstance(contestant.daemon, Endpoint) else {}


def stages_of(daemon: Endpoint, work: t.Callable[[], object]) -> dict[tuple[str, str], list[float]]:
    """Do what `stages` does with an endpoint."""
    before, daemon.settings = daemon.settings, {**daemon.settings, "log": {"level": "debug"}}
    daemon.restart()
    start = len(daemon.log_text())
    work()
    found: dict[tuple[str, str], list[float]] = {}
    for line in daemon.log_text()[start:].splitlines():
        event = _EVENT.match(line)
        for stage, value in _STAGE.findall(line) if event else ():
            found.setdefault((event["event"], stage), []).append(float(value))
    daemon.settings = before
    daemon.restart()
    return found


def _rollup(pid: int) -> dict[str, int]:
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    return {name: int(rest.split()[0]) for name, _colon, rest in (line.partition(":") for line in lines)}


@contextlib.contextmanager
def contestants(work_dir: str, peers: t.Mapping[str, str]) -> t.Iterator[list[Contestant]]:
    """Yield ours (first) and a containerd of its own for each of ``peers``: names and runtime programs."""
    config = {"Cmd": ["/bin/sleep", "1000000"], "StopSignal": STOP_SIGNAL}
    layout = images.busybox_image(f"{work_dir}/image", config=config).path
    cgroup_parent = f"/pvecri-bench/{os.getpid()}"
    with contextlib.ExitStack() as stack:
        stack.callback(cgroups.remove, cgroup_parent)
        network = stack.enter_context(PrivateHost())
        made: list[Contestant] = []

        def add(name: str, daemon: Daemon) -> None:
            number = len(made)
            made.append(Contestant(name, daemon, f"{work_dir}/logs-{number}", f"{cgroup_parent}/{number}"))

        def host() -> PrivateHost:
            return stack.enter_context(PrivateHost(empty=SHARED_DIRECTORIES, network_of=network))

        ours = Endpoint(
            host=host(),
            images={IMAGE: f"oci:{layout}:latest"},
            settings={"log": {"level": "info"}},
            subnet="10.98.0.0/16",
            bridge="bench0",
        )
        add("pvecri + crun", stack.enter_context(ours))
        archives = []
        for place, name in ((f"{work_dir}/image.tar", IMAGE), (f"{work_dir}/pause.tar", PAUSE)):
            argv = ["skopeo", "copy", "--insecure-policy", f"oci:{layout}:latest"]
            subprocess.run([*argv, f"docker-archive:{place}:{name}"], check=True, capture_output=True)
            archives.append(place)
        for number, (name, binary) in enumerate(peers.items(), 1):
            top = f"{work_dir}/peer-{number}"
            peer = Containerd(
                host(),
                top,
                pause=PAUSE,
                cni_conf=_write_network(f"{top}-net.d", f"bench{number}", f"10.{98 + number}.0.0/16"),
                handlers={"default": binary},
            )
            add(name, stack.enter_context(peer))
            for archive in archives:
                peer.load(archive)
        yield made


def _write_network(directory: str, bridge: str, subnet: str) -> str:
    """Write what `Endpoint` writes for its own network; return the directory."""
    plain = default_config(name=bridge, bridge=bridge, subnets=[subnet]).plain()
    plain["plugins"][0]["ipam"]["dataDir"] = f"{directory}/ipam"
    os.makedirs(directory)
    pathlib.Path(directory, "10-bench.conflist").write_text(json.dumps(plain), encoding="utf-8")
    return directory
