# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Statistics as the CRI writes them, and what is said of what the host does not count."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupUsage,
    Pressure,
    PressureStall,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Direction, Interface
from pvecri.api import cri_pb2
from pvecri.disk.layers import Figure
from pvecri.disk.usage import Usage
from pvecri.stats import messages

S = 1_000_000_000


def container(nano_cores=None, **fields):
    message = cri_pb2.ContainerStats()
    messages.fill_container(message, CgroupUsage(**fields), 5 * S, nano_cores)
    return message


def test_nought_is_said_and_unknown_is_not():
    message = container(cpu_ns=0, memory_bytes=10)
    assert message.cpu.HasField("usage_core_nano_seconds")
    assert message.cpu.usage_core_nano_seconds.value == 0
    assert not message.cpu.HasField("usage_nano_cores")
    assert message.memory.usage_bytes.value == 10
    assert not message.memory.HasField("working_set_bytes")
    assert not message.swap.HasField("swap_usage_bytes")
    assert not message.cpu.HasField("psi")
    assert message.cpu.timestamp == message.memory.timestamp == message.swap.timestamp == 5 * S


def test_rate_is_said_even_of_nothing():
    assert container(nano_cores=7).cpu.usage_nano_cores.value == 7
    assert container(nano_cores=0).cpu.HasField("usage_nano_cores")


def test_available_is_what_the_limit_leaves():
    message = container(
        memory_limit_bytes=100, working_set_bytes=30, swap_limit_bytes=10, swap_bytes=4, memory_bytes=60
    )
    assert message.memory.available_bytes.value == 70
    assert message.swap.swap_available_bytes.value == 6
    message = container(working_set_bytes=30, swap_bytes=4)
    assert not message.memory.HasField("available_bytes")
    assert not message.swap.HasField("swap_available_bytes")
    assert container(memory_limit_bytes=10, working_set_bytes=30).memory.available_bytes.value == 0


def test_pressure_is_said_by_resource():
    line = Pressure(7, 1.5, 2.5, 3.5)
    nothing = Pressure(0, 0.0, 0.0, 0.0)
    message = container(pressure={"cpu": PressureStall(line, None), "io": PressureStall(nothing, line)})
    assert (message.cpu.psi.Some.Total, message.cpu.psi.Some.Avg60) == (7, 2.5)
    assert not message.cpu.psi.HasField("Full")
    assert message.io.psi.Full.Avg300 == 3.5
    assert message.io.psi.HasField("Some")
    assert message.io.timestamp == 5 * S
    assert not message.memory.HasField("psi")


def test_processes_of_a_pod_are_counted_if_the_host_does():
    message = cri_pb2.LinuxPodSandboxStats()
    messages.fill_pod(message, CgroupUsage(pids=4, cpu_ns=9), 5 * S, 2)
    assert (message.process.process_count.value, message.process.timestamp) == (4, 5 * S)
    assert (message.cpu.usage_core_nano_seconds.value, message.cpu.usage_nano_cores.value) == (9, 2)
    message = cri_pb2.LinuxPodSandboxStats()
    messages.fill_pod(message, CgroupUsage(), 5 * S, None)
    assert not message.HasField("process")


def test_layer_is_said_with_its_own_time():
    message = cri_pb2.FilesystemUsage()
    messages.fill_layer(message, Figure(Usage(4096, 0), 3 * S), "/somewhere")
    assert (message.timestamp, message.fs_id.mountpoint, message.used_bytes.value) == (
        3 * S,
        "/somewhere",
        4096,
    )
    assert message.HasField("inodes_used")


def test_default_interface_stands_apart_from_others():
    message = cri_pb2.NetworkUsage()
    interfaces = [
        Interface(name, Direction(1, 2, 3, 4), Direction(0, 6, 7, 8)) for name in ("net1", "eth0", "net2")
    ]
    messages.fill_network(message, interfaces, 5 * S)
    default = message.default_interface
    assert default.name == "eth0"
    assert (default.rx_bytes.value, default.rx_errors.value, default.tx_errors.value) == (1, 3, 7)
    assert default.HasField("tx_bytes")
    assert [interface.name for interface in message.interfaces] == ["net1", "net2"]
    assert message.timestamp == 5 * S


def test_pod_without_interfaces_has_no_default_one():
    message = cri_pb2.NetworkUsage()
    messages.fill_network(message, [], 5 * S)
    assert not message.HasField("default_interface")
