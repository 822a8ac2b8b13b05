# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A pod's namespace is prepared for who has no power over it."""

from __future__ import annotations

import logging
import os
import socket

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns
from pvecri.pve import podnet

PORTS, PING = podnet.SYSCTLS

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


@pytest.mark.parametrize(
    ("asked", "left"),
    [
        ((), {PORTS, PING}),
        (("net.ipv4.ip_unprivileged_port_start",), {PING}),
        (("net/ipv4/ip_unprivileged_port_start", "net.ipv4.ping_group_range"), set()),
        (("kernel.shm_rmid_forced",), {PORTS, PING}),
    ],
)
def test_what_the_pod_sets_is_left_to_it(asked: tuple, left: set) -> None:
    assert set(podnet.missing_sysctls(asked)) == left


@pytest.fixture
def namespace(tmp_path):
    path = str(tmp_path / "ns" / "net")
    netns.pin(path)
    yield path
    netns.unpin(path)


@as_root
def test_sysfs_shows_the_interfaces_of_the_namespace_alone(namespace, tmp_path) -> None:
    target = str(tmp_path / "sys")
    podnet.mount_sysfs(namespace, target)
    podnet.mount_sysfs(namespace, target)
    try:
        assert os.listdir(f"{target}/class/net") == ["lo"]
        with pytest.raises(OSError, match="Read-only file system"):
            os.mkdir(f"{target}/x")
    finally:
        podnet.unmount_sysfs(target)
    assert os.listdir(target) == []
    podnet.unmount_sysfs(target)


@as_root
def test_sysctls_that_cannot_be_set_are_told_and_hinder_nothing(namespace, monkeypatch, caplog) -> None:
    monkeypatch.setattr(podnet, "SYSCTLS", {"net/ipv4/no_such_thing": "1"})
    with caplog.at_level(logging.WARNING):
        podnet.open_to_all(namespace, (), logging.getLogger("test"))
    assert "are not for an unprivileged LXC container here" in caplog.text


@as_root
def test_low_ports_are_for_everybody_then(namespace) -> None:
    podnet.open_to_all(namespace, (), logging.getLogger("test"))

    def read() -> str:
        with open(f"/proc/sys/{PORTS}", encoding="ascii") as stream:
            return stream.read().strip()

    assert netns.run_inside(namespace, read) == "0"
    assert netns.run_inside(namespace, socket.if_nameindex)
