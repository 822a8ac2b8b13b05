# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask for answers as fast as they come, by a caller that is faster than any of those who are asked."""

from __future__ import annotations

import dataclasses
import os
import re
import statistics
import struct
import subprocess
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.endpoint_hosts import Contestant
from ansible_collections.pvecri.runtime.tests.support.cri_client import Cri, pb

#: Written in C; Debian's package nghttp2-client has it.
CALLER = "h2load"
CALLERS = 8
_SERVICE = "runtime.v1.RuntimeService"
_WINDOW_MS = 700


@dataclasses.dataclass
class Rate:
    """How often a call was answered, in windows of time."""

    per_second: list[float] = dataclasses.field(default_factory=list)
    #: Milliseconds of the processors that the daemon took for one call.
    cpu_ms: list[float] = dataclasses.field(default_factory=list)

    @property
    def median(self) -> float:
        """Calls per second."""
        return statistics.median(self.per_second)

    @property
    def cpu_median(self) -> float:
        """Milliseconds of the daemon's processor time for one call."""
        return statistics.median(self.cpu_ms)


#: By the name of the call and of the contestant.
Rates = t.Mapping[str, t.Mapping[str, Rate]]


def rates(entered: t.Sequence[Contestant], *, rounds: int, work_dir: str) -> dict[str, dict[str, Rate]]:
    """Return the rates of cheap calls from several callers; one round before is not counted."""
    found: dict[str, dict[str, Rate]] = {}
    asked = {contestant.name: _questions(contestant) for contestant in entered}
    body = os.path.join(work_dir, "body")
    for number in range(-1, rounds):
        for contestant in entered:
            for name, request in asked[contestant.name].items():
                with open(body, "wb") as stream:
                    stream.write(framed(request))
                cpu = contestant.cpu_s()
                argv = caller_argv(contestant.socket, name, body)
                done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60)
                count, per_second = outcome(done.stdout)
                if number >= 0:
                    rate = found.setdefault(name, {}).setdefault(contestant.name, Rate())
                    rate.per_second.append(per_second)
                    rate.cpu_ms.append((contestant.cpu_s() - cpu) / count * 1000)
    return found


def _questions(contestant: Contestant) -> dict[str, bytes]:
    """Return the calls to make, with their requests on the wire, each of which has been answered once."""
    with Cri(contestant.socket) as cri:
        cri.version()
        cri.list_pods()
        listed = cri.list_containers()
        asked = {
            "Version": pb.VersionRequest(),
            "ListContainers": pb.ListContainersRequest(),
            "ListPodSandbox": pb.ListPodSandboxRequest(),
        }
        if listed:
            cri.container_status(listed[0].id)
            asked["ContainerStatus"] = pb.ContainerStatusRequest(container_id=listed[0].id)
    return {name: request.SerializeToString() for name, request in asked.items()}


def framed(request: bytes) -> bytes:
    """Return a message as gRPC sends it: not compressed, with its length."""
    return struct.pack(">BI", 0, len(request)) + request


def caller_argv(socket: str, method: str, body: str) -> list[str]:
    """Return the command that calls a method for a while; each caller waits for its answer."""
    return [
        CALLER,
        f"--clients={CALLERS}",
        "--max-concurrent-streams=1",
        "--threads=1",
        f"--duration={_WINDOW_MS}ms",
        f"--data={body}",
        "--header=content-type: application/grpc",
        "--header=te: trailers",
        f"--base-uri=unix:{socket}",
        f"http://localhost/{_SERVICE}/{method}",
    ]


_PER_SECOND = re.compile(r"^finished in \S+, ([0-9.]+) req/s", re.MULTILINE)
_COUNTS = re.compile(
    r"^requests: .*?(\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", re.MULTILINE
)


def outcome(printed: str) -> tuple[int, float]:
    """Return the number of answers and how many that were in a second; raises RuntimeError if one failed."""
    speed, counts = _PER_SECOND.search(printed), _COUNTS.search(printed)
    if speed is None or counts is None:
        raise RuntimeError(f"{CALLER} says nothing of its calls: {printed[-300:]}")
    succeeded, *bad = map(int, counts.groups())
    if any(bad) or not succeeded:
        raise RuntimeError(f"calls failed: {counts[0]}")
    return succeeded, float(speed[1])
