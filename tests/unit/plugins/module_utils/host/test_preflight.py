# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what keeps a host from being a node, each time with a remedy."""

from __future__ import annotations

import re

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.host import preflight

MARKER = "# ours"

GOOD = {
    "distribution": "debian",
    "distribution_name": "Debian GNU/Linux 13 (trixie)",
    "distribution_version": "13",
    "machine": "x86_64",
    "kernel": "6.12.48+deb13-amd64",
    "python": "3.13.5",
    "init": "systemd",
    "systemd": True,
    "is_root": True,
    "cgroups": {"mode": "v2", "controllers": ["cpuset", "cpu", "io", "memory", "pids"]},
    "overlay": "",
    "user_namespaces": "63000",
    "state_filesystem": "ext4",
    "state_free_mib": 10_000,
    "usr_free_mib": 1000,
    "host_name": "node-1.example.com",
    "addresses": ["192.0.2.1"],
    "ntp": True,
    "time": 1000.0,
    "units": {},
    "kubelet": [],
    "cni": ["10-pvecri.conflist", "20-other.conflist"],
    "links": [
        {"interface": "vmbr0", "network": "192.0.2.0/24"},
        {"interface": "pvecri0", "network": "10.124.0.0/16"},
        {"interface": "vmbr0", "network": "2001:db8::/64"},
    ],
    "listeners": {},
    "heads": {"/etc/crictl.yaml": "# ours\nx"},
}
WANTED = {
    "state_dir": "/var/lib/pvecri",
    "socket": "/run/pvecri/pvecri.sock",
    "unit": "pvecri.service",
    "other_runtimes": ["containerd.service", "crio.service"],
    "kubelet_managed": False,
    "cni_dir": "/etc/cni/net.d",
    "cni_file": "10-pvecri.conflist",
    "pod_cidrs": ["10.124.0.0/16", "fd00::/64"],
    "bridge": "pvecri0",
    "state_free_mib": 2048,
    "usr_free_mib": 300,
    "max_clock_skew_s": 60.0,
    "time": 1000.0,
    "ports": [{"port": 10010, "what": "streaming"}],
    "marker": MARKER,
}
UNIT = {"active": True, "enabled": True, "pid": 7, "needs_reload": False, "file": ""}
STOPPED = {**UNIT, "active": False, "enabled": False}


def found(facts=None, wanted=None):
    return preflight.problems({**GOOD, **(facts or {})}, {**WANTED, **(wanted or {})})


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({}, {}),
        ({"distribution_version": "12", "kernel": "6.1.0-40-amd64", "python": "3.11.2"}, {}),
        ({"kernel": "5.19.0"}, {}),
        ({"machine": "aarch64"}, {}),
        ({"cgroups": {"mode": "v1", "controllers": ["cpu", "memory", "pids", "blkio", "freezer"]}}, {}),
        ({"units": {"containerd.service": STOPPED}}, {}),
        ({"units": {"docker.service": UNIT}}, {}),
        ({"kubelet": ["unix:///run/pvecri/pvecri.sock", "/run/pvecri/pvecri.sock"]}, {}),
        ({"kubelet": ["unix:///run/containerd/containerd.sock"]}, {"kubelet_managed": True}),
        ({"cni": ["05-cilium.conflist"]}, {"cni_file": ""}),
        ({"links": [{"interface": "vmbr0", "network": "10.125.0.0/16"}]}, {}),
        ({"ntp": False, "time": 1050.0}, {}),
        ({"ntp": None, "time": 950.0}, {}),
        ({"ntp": True, "time": 9999.0}, {}),
        ({"ntp": False, "time": 9999.0}, {"time": None}),
        ({"listeners": {"10010": {"pid": 7, "name": "pvecri"}}, "units": {"pvecri.service": UNIT}}, {}),
        ({"host_name": "n"}, {}),
    ],
)
def test_host_can_be_a_node(facts, wanted):
    assert found(facts, wanted) == []


@pytest.mark.parametrize(
    ("check", "facts", "problem"),
    [
        ("distribution", {"distribution": "ubuntu", "distribution_name": "Ubuntu 24.04"}, "Ubuntu 24.04"),
        ("distribution", {"distribution_version": "11", "distribution_name": "Debian 11"}, "Debian 11"),
        ("architecture", {"machine": "riscv64"}, "riscv64"),
        ("kernel", {"kernel": "5.10.0-30-amd64"}, r"5\.10\.0-30-amd64, 5\.19 is needed"),
        ("kernel", {"kernel": "4.19"}, r"4\.19"),
        ("init", {"systemd": False, "init": "runit"}, "the first process is runit, not systemd"),
        ("python", {"python": "3.9.2"}, r"3\.9\.2, 3\.11 is needed"),
        ("privileges", {"is_root": False}, "root"),
        ("cgroups", {"cgroups": {"mode": "hybrid", "controllers": ["cpu"]}}, "both versions"),
        ("cgroups", {"cgroups": {"mode": "none", "controllers": []}}, "no control groups"),
        (
            "controllers",
            {"cgroups": {"mode": "v2", "controllers": ["cpu", "io"]}},
            r"\(v2\) lack the controllers memory, pids:",
        ),
        (
            "controllers",
            {"cgroups": {"mode": "v1", "controllers": ["cpu", "memory", "pids"]}},
            r"\(v1\) lack the controllers blkio:",
        ),
        ("overlayfs", {"overlay": "mount: Invalid argument"}, "ext4 below /var/lib/pvecri: mount: Invalid"),
        ("overlayfs", {"state_filesystem": "nfs4"}, "would lie on nfs4"),
        ("user_namespaces", {"user_namespaces": "0"}, "user namespaces"),
        ("user_namespaces", {"user_namespaces": ""}, "user namespaces"),
        ("runtimes", {"units": {"containerd.service": UNIT}}, "containerd.service is active and enabled"),
        ("runtimes", {"units": {"crio.service": {**STOPPED, "enabled": True}}}, "crio.service is enabled:"),
        ("kubelet", {"kubelet": ["unix:///run/crio/crio.sock"]}, "unix:///run/crio/crio.sock"),
        ("cni", {"cni": ["05-a.conf", "09-b.conflist", "10-pvecri.conflist"]}, "05-a.conf, 09-b.conflist in"),
        (
            "pod_networks",
            {"links": [{"interface": "vmbr0", "network": "10.124.8.0/24"}]},
            r"10\.124\.0\.0/16 and 10\.124\.8\.0/24, which the host is in with vmbr0, overlap",
        ),
        ("pod_networks", {"links": [{"interface": "eth1", "network": "fd00::/8"}]}, "fd00::/64 and fd00::/8"),
        ("space", {"state_free_mib": 2047}, "/var/lib/pvecri has 2047 MiB free, 2048 MiB are needed"),
        ("space", {"usr_free_mib": 1}, "/usr has 1 MiB free"),
        ("host_name", {"host_name": "Node_1"}, "'Node_1' cannot be that of a node"),
        ("host_name", {"host_name": "localhost"}, "'localhost'"),
        ("host_name", {"host_name": "a" * 64}, "cannot be that of a node"),
        ("host_name", {"addresses": []}, "has no address"),
        ("clock", {"ntp": False, "time": 1061.0}, "61 s ahead of the controller's"),
        ("clock", {"ntp": None, "time": 900.0}, "100 s behind the controller's"),
        (
            "ports",
            {
                "listeners": {"10010": {"pid": 9, "name": "nginx (process 9)"}},
                "units": {"pvecri.service": UNIT},
            },
            r"10010, chosen for streaming, is taken by nginx \(process 9\)",
        ),
        ("files", {"heads": {"/etc/crictl.yaml": "runtime-endpoint: x"}}, "/etc/crictl.yaml is there"),
    ],
)
def test_host_is_refused(check, facts, problem):
    (only,) = found(facts)
    assert only["check"] == check
    assert re.search(problem, only["problem"])
    # What to do about it, as a sentence whose full stop the role adds.
    assert only["remedy"][0].isupper()
    assert not only["remedy"].endswith(".")
    assert not only["problem"].endswith(".")


def test_what_is_no_network_is_none_for_pods():
    (only,) = found(wanted={"pod_cidrs": ["10.124/16"]})
    assert only["check"] == "pod_networks"
    assert "'10.124/16' is no network" in only["problem"]


def test_all_problems_are_told_at_once():
    checks = [each["check"] for each in found({"machine": "i686", "kernel": "3.2", "host_name": "X"})]
    assert checks == ["architecture", "kernel", "host_name"]
