# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What crictl says of use, beside what the kernel says."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.tests.vm.node import MIB, Container, Node, counters, eventually

#: 32 MiB of memory that stay, and work without end that does not fill the machine.
SCRIPT = "dd if=/dev/zero of=/dev/shm/file bs=1M count=32; echo ready; while :; do :; done"
LIMITS = {"cpu_period": 100_000, "cpu_quota": 20_000, "memory_limit_in_bytes": 256 * MIB}


def number(wrapper: t.Mapping[str, t.Any]) -> int:
    return int(wrapper["value"])


def working_set(container: Container) -> int:
    inactive = counters(container.limit("memory.stat"))["inactive_file"]
    return int(container.limit("memory.current")) - inactive


def test_stats_of_a_container_are_the_kernels(node: Node) -> None:
    container = node.start(SCRIPT, linux={"resources": LIMITS})
    container.says("ready")

    def stats() -> dict[str, t.Any]:
        (found,) = node.crictl.json("stats", "--id", container.id)["stats"]
        return t.cast("dict[str, t.Any]", found)

    first = stats()
    assert abs(number(first["memory"]["workingSetBytes"]) - working_set(container)) < 4 * MIB
    assert number(first["memory"]["workingSetBytes"]) > 32 * MIB
    rest = number(first["memory"]["availableBytes"]) + number(first["memory"]["workingSetBytes"])
    assert rest == 256 * MIB
    assert 0 < number(first["memory"]["rssBytes"]) < 8 * MIB
    assert number(first["swap"]["swapUsageBytes"]) == 0
    before = number(first["cpu"]["usageCoreNanoSeconds"])
    assert before <= counters(container.limit("cpu.stat"))["usage_usec"] * 1000
    # A rate takes two measurements some time apart.
    second = eventually(
        lambda: found if number((found := stats())["cpu"].get("usageNanoCores", {"value": 0})) > 0 else {}
    )
    assert number(second["cpu"]["usageCoreNanoSeconds"]) > before
    # It waits for its quota most of the time, which is what pressure means.
    stall = eventually(lambda: found if int((found := stats()["cpu"]["psi"]["Some"])["Total"]) > 0 else {})
    kernel = int(container.limit("cpu.pressure").splitlines()[0].split("total=")[1])
    assert int(stall["Total"]) <= kernel
    assert {"Full", "Some"} <= set(stats()["memory"]["psi"])
    # Disks are looked through now and then only.
    layer = eventually(lambda: stats().get("writableLayer", {}))
    assert number(layer["usedBytes"]) < MIB


def test_stats_of_a_pod_are_the_kernels(node: Node) -> None:
    container = node.start(SCRIPT, linux={"resources": LIMITS})
    container.says("ready")
    (found,) = node.crictl.json("statsp", "--id", container.pod_id)["stats"]
    linux = found["linux"]
    assert number(linux["memory"]["workingSetBytes"]) > 32 * MIB
    assert number(linux["cpu"]["usageCoreNanoSeconds"]) > 0
    assert number(linux["process"]["processCount"]) >= 1
    assert linux["network"]["defaultInterface"]["name"] == "eth0"
    assert [one["attributes"]["id"] for one in linux["containers"]] == [container.id]
