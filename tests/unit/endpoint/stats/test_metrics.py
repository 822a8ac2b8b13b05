# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics: described as they are delivered, and every one of them delivered."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.usage import (
    CgroupDetails,
    CgroupUsage,
    DeviceUsage,
    HugePages,
    Pressure,
    PressureStall,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Direction, Interface
from pvecri.api import cri_pb2
from pvecri.disk.layers import Figure
from pvecri.disk.usage import Usage
from pvecri.stats import collect, metrics
from pvecri.stats.facts import label_values
from pvecri.stats.processes import Open

S = 1_000_000_000
STALL = PressureStall(Pressure(3_500_000, 0.0, 0.0, 0.0), Pressure(2_000_000, 0.0, 0.0, 0.0))
USAGE = CgroupUsage(
    cpu_ns=7 * S + 1,
    memory_bytes=100,
    working_set_bytes=70,
    rss_bytes=60,
    page_faults=9,
    major_page_faults=2,
    swap_bytes=5,
    pids=3,
    pressure={"cpu": STALL, "memory": STALL, "io": STALL},
)
DETAILS = CgroupDetails(
    cpu_user_ns=4 * S,
    cpu_system_ns=3 * S,
    periods=11,
    throttled_periods=4,
    throttled_ns=2 * S,
    cache_bytes=21,
    mapped_file_bytes=22,
    kernel_bytes=23,
    max_usage_bytes=200,
    limit_hits=24,
    active_file_bytes=25,
    inactive_file_bytes=26,
    active_anon_bytes=27,
    inactive_anon_bytes=28,
    own_page_faults=8,
    own_major_page_faults=1,
    oom_kills=29,
    pids_limit=30,
    processes=(1, 2),
    devices=(DeviceUsage(0, 99, 31, 32, 33, 34), DeviceUsage(0, 98, 1, 1, 1, 1)),
    huge_pages=(HugePages("2MB", 35, 36),),
)
LABELS = ("app", "c" * 64, "busybox:1", "c" * 64, "default", "pod")
FILE_SYSTEM = os.statvfs("/")


def reading(**fields):
    values = {
        "usage": USAGE,
        "details": DETAILS,
        "resources": cri_pb2.LinuxContainerResources(
            cpu_period=50_000,
            cpu_quota=20_000,
            cpu_shares=512,
            memory_limit_in_bytes=4096,
            memory_swap_limit_in_bytes=8192,
            unified={"memory.min": "17"},
        ),
        "opened": Open(41, 42),
        "open_files_limit": 1024,
        "started_at_ns": 50 * S + 3,
        "now_ns": 60 * S + 4,
        "layer": Figure(Usage(4096, 2), 55 * S),
        "file_system": FILE_SYSTEM,
        "device": "/dev/sda",
    }
    return collect.Reading(**{**values, **fields})


def container(**fields):
    encoded = collect.container_metrics("c" * 64, label_values(*LABELS), reading(**fields))
    return cri_pb2.ContainerMetrics.FromString(encoded)


def pod(containers=()):
    interface = Interface("eth0", Direction(1, 2, 3, 4), Direction(5, 6, 7, 8))
    encoded = collect.pod_metrics(
        "p" * 64, label_values("", "p" * 64, "", "", "default", "pod"), [interface], containers
    )
    return cri_pb2.PodSandboxMetrics.FromString(encoded)


def described(**options):
    answer = metrics.descriptors(**{"has_pressure": True, **options})
    return {
        descriptor.name: descriptor
        for descriptor in cri_pb2.ListMetricDescriptorsResponse.FromString(answer).descriptors
    }


def values(found):
    return {
        (metric.name, *metric.label_values[len(metrics.LABEL_KEYS) :]): metric.value.value for metric in found
    }


def test_every_described_metric_is_delivered_and_every_delivered_one_described():
    delivered = [*container().metrics, *pod().metrics]
    assert {metric.name for metric in delivered} == set(described())


def test_labels_are_those_of_the_description():
    known = described()
    for metric in [*container().metrics, *pod().metrics]:
        assert len(metric.label_values) == len(known[metric.name].label_keys), metric.name
    for metric in container().metrics:
        assert tuple(metric.label_values[: len(LABELS)]) == LABELS


def test_no_two_values_have_the_same_labels():
    """Who scrapes takes none of them otherwise."""
    found = [*container().metrics, *pod().metrics]
    assert len(values(found)) == len(found)


@pytest.mark.parametrize("metric", metrics.ALL, ids=lambda metric: metric.name)
def test_totals_count_and_others_are_levels(metric):
    is_counter = metric.name.endswith("_total") or metric.name == "container_memory_failcnt"
    # The number of inodes of a file system is no count of events.
    is_counter = is_counter and metric.name != "container_fs_inodes_total"
    assert metric.kind == (cri_pb2.COUNTER if is_counter else cri_pb2.GAUGE)
    assert metric.help.endswith((".", "none."))


def test_description_says_what_a_label_means():
    found = described()["container_blkio_device_usage_total"]
    assert list(found.label_keys) == [*metrics.LABEL_KEYS, "device", "major", "minor", "operation"]
    assert found.help
    assert list(metrics.LABEL_KEYS) == ["container", "id", "image", "name", "namespace", "pod"]


def test_host_that_counts_no_pressure_does_not_describe_it():
    without = described(has_pressure=False)
    assert {name for name in described() if name not in without} == {
        f"container_pressure_{what}_{how}_seconds_total"
        for what in ("cpu", "memory", "io")
        for how in ("waiting", "stalled")
    }


def test_values_of_a_container():
    found = container()
    assert found.container_id == "c" * 64
    assert values(found.metrics) == {
        ("container_cpu_usage_seconds_total", "total"): 7,
        ("container_cpu_user_seconds_total",): 4,
        ("container_cpu_system_seconds_total",): 3,
        ("container_cpu_cfs_periods_total",): 11,
        ("container_cpu_cfs_throttled_periods_total",): 4,
        ("container_cpu_cfs_throttled_seconds_total",): 2,
        ("container_memory_cache",): 21,
        ("container_memory_rss",): 60,
        ("container_memory_kernel_usage",): 23,
        ("container_memory_mapped_file",): 22,
        ("container_memory_swap",): 5,
        ("container_memory_failcnt",): 24,
        ("container_memory_usage_bytes",): 100,
        ("container_memory_max_usage_bytes",): 200,
        ("container_memory_working_set_bytes",): 70,
        ("container_memory_total_active_file_bytes",): 25,
        ("container_memory_total_inactive_file_bytes",): 26,
        ("container_memory_active_anon_bytes",): 27,
        ("container_memory_inactive_anon_bytes",): 28,
        ("container_memory_failures_total", "pgfault", "container"): 8,
        ("container_memory_failures_total", "pgfault", "hierarchy"): 9,
        ("container_memory_failures_total", "pgmajfault", "container"): 1,
        ("container_memory_failures_total", "pgmajfault", "hierarchy"): 2,
        ("container_oom_events_total",): 29,
        ("container_hugetlb_usage_bytes", "2MB"): 35,
        ("container_hugetlb_max_usage_bytes", "2MB"): 36,
        ("container_fs_reads_bytes_total", "0:99"): 31,
        ("container_fs_reads_total", "0:99"): 33,
        ("container_fs_writes_bytes_total", "0:99"): 32,
        ("container_fs_writes_total", "0:99"): 34,
        ("container_blkio_device_usage_total", "0:99", "0", "99", "Read"): 31,
        ("container_blkio_device_usage_total", "0:99", "0", "99", "Write"): 32,
        ("container_fs_reads_bytes_total", "0:98"): 1,
        ("container_fs_reads_total", "0:98"): 1,
        ("container_fs_writes_bytes_total", "0:98"): 1,
        ("container_fs_writes_total", "0:98"): 1,
        ("container_blkio_device_usage_total", "0:98", "0", "98", "Read"): 1,
        ("container_blkio_device_usage_total", "0:98", "0", "98", "Write"): 1,
        ("container_fs_inodes_free", "/dev/sda"): FILE_SYSTEM.f_ffree,
        ("container_fs_inodes_total", "/dev/sda"): FILE_SYSTEM.f_files,
        ("container_fs_limit_bytes", "/dev/sda"): FILE_SYSTEM.f_blocks * FILE_SYSTEM.f_frsize,
        ("container_fs_usage_bytes", "/dev/sda"): 4096,
        ("container_processes",): 2,
        ("container_threads",): 3,
        ("container_threads_max",): 30,
        ("container_file_descriptors",): 41,
        ("container_sockets",): 42,
        ("container_ulimits_soft", "max_open_files"): 1024,
        ("container_spec_cpu_period",): 50_000,
        ("container_spec_cpu_quota",): 20_000,
        ("container_spec_cpu_shares",): 512,
        ("container_spec_memory_limit_bytes",): 4096,
        ("container_spec_memory_swap_limit_bytes",): 8192,
        ("container_spec_memory_reservation_limit_bytes",): 17,
        ("container_pressure_cpu_waiting_seconds_total",): 3,
        ("container_pressure_cpu_stalled_seconds_total",): 2,
        ("container_pressure_memory_waiting_seconds_total",): 3,
        ("container_pressure_memory_stalled_seconds_total",): 2,
        ("container_pressure_io_waiting_seconds_total",): 3,
        ("container_pressure_io_stalled_seconds_total",): 2,
        ("container_last_seen",): 60,
        ("container_start_time_seconds",): 50,
    }


def test_time_is_said_of_what_was_not_found_out_just_now():
    times = {metric.name: metric.timestamp for metric in container().metrics if metric.timestamp}
    assert times == {"container_fs_usage_bytes": 55 * S}


def test_values_of_a_pod_stand_above_those_of_its_containers():
    found = pod([collect.container_metrics("c" * 64, b"", reading())])
    assert found.pod_sandbox_id == "p" * 64
    assert [member.container_id for member in found.container_metrics] == ["c" * 64]
    assert list(values(found.metrics).values()) == [1, 2, 4, 3, 5, 6, 8, 7]
    assert list(found.metrics[0].label_values) == ["", "p" * 64, "", "", "default", "pod", "eth0"]


@pytest.mark.parametrize("text", ["max", "", "²", "9" * 30, "-5"])
def test_reservation_that_is_no_number_is_none(text):
    resources = cri_pb2.LinuxContainerResources(unified={"memory.min": text})
    found = values(container(resources=resources).metrics)
    assert found[("container_spec_memory_reservation_limit_bytes",)] == 0


def test_unknown_is_not_delivered_and_faults_without_a_sum_of_their_own_are_the_sum():
    found = values(
        container(
            usage=CgroupUsage(page_faults=9, pressure={"cpu": PressureStall(None, None)}),
            details=CgroupDetails(),
            file_system=None,
            layer=None,
            open_files_limit=None,
            resources=cri_pb2.LinuxContainerResources(
                memory_limit_in_bytes=-1, unified={"memory.min": "max"}
            ),
        ).metrics
    )
    assert found.pop(("container_memory_failures_total", "pgfault", "container")) == 9
    assert found == {
        ("container_memory_failures_total", "pgfault", "hierarchy"): 9,
        ("container_processes",): 0,
        ("container_file_descriptors",): 41,
        ("container_sockets",): 42,
        ("container_spec_cpu_period",): 100_000,
        ("container_spec_cpu_shares",): 1024,
        ("container_spec_memory_limit_bytes",): 0,
        ("container_spec_memory_swap_limit_bytes",): 0,
        ("container_spec_memory_reservation_limit_bytes",): 0,
        ("container_last_seen",): 60,
        ("container_start_time_seconds",): 50,
    }
