# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went through interfaces, in the kernel's words and from real namespaces."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.network import counters, netns
from ansible_collections.pvecri.runtime.plugins.module_utils.network.counters import Direction, Interface

TEXT = b"""Inter-| Receive                          | Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls
    lo: 2504760267 1640570 0 0 0 0 0 0 2504760267 1640570 0 0 0 0 0 0
  eth0: 4597803071  146934 1 2 3 4 5 6   11174029   97819 7 8 9 10 11 12
 tun.1:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
broken: 1 2 3
"""


def test_interfaces_are_those_but_loopback():
    assert counters.parse(TEXT) == (
        Interface("eth0", Direction(4597803071, 146934, 1, 2), Direction(11174029, 97819, 7, 8)),
        Interface("tun.1", Direction(1, 2, 3, 4), Direction(9, 10, 11, 12)),
    )


def test_names_that_are_no_text_can_be_told():
    lines = b"".join(name + b": 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n" for name in (b"\xff\xfe", b"\xff"))
    assert [found.name for found in counters.parse(lines)] == [r"\xff\xfe", r"\xff"]


def test_a_namespace_with_very_many_interfaces_tells_of_the_first():
    lines = [b"br%d: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n" % number for number in range(5000)]
    found = counters.parse(b"".join(lines))
    assert [interface.name for interface in found] == [f"br{number}" for number in range(counters.MOST)]


def test_nothing_is_read_of_no_namespaces():
    before = threading.active_count()
    assert counters.read_all([]) == {}
    assert threading.active_count() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestNamespaces:
    def test_namespace_is_read_and_one_that_is_gone_is_left_out(self, tmp_path):
        path, file = str(tmp_path / "ns"), tmp_path / "file"
        file.touch()
        netns.pin(path)
        try:
            here = os.stat("/proc/thread-self/ns/net")
            found = counters.read_all([str(tmp_path / "none"), str(file), path])
            # A new namespace has but loopback.
            assert found == {path: ()}
            assert os.stat("/proc/thread-self/ns/net") == here
        finally:
            netns.unpin(path)

    def test_interface_of_a_namespace_is_counted(self, tmp_path):
        path = str(tmp_path / "ns")
        netns.pin(path)
        try:
            argv = ["ip", "link", "add", "some0", "type", "bridge"]
            netns.run_inside(path, lambda: subprocess.run(argv, check=True))
            (interface,) = counters.read_all([path])[path]
            assert (interface.name, interface.received) == ("some0", Direction(0, 0, 0, 0))
        finally:
            netns.unpin(path)
