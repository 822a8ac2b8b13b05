# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real network namespaces."""

from __future__ import annotations

import concurrent.futures
import os
import socket
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.network import netns

pytestmark = pytest.mark.host

Pin = t.Callable[[str], str]


def listed(path: str) -> str:
    return subprocess.run(
        ["nsenter", f"--net={path}", "ip", "-o", "addr"], capture_output=True, text=True, check=True
    ).stdout


def test_pin_makes_a_namespace_with_loopback(tmp_path: t.Any) -> None:
    path = str(tmp_path / "deep" / "ns")
    before = os.stat("/proc/self/ns/net").st_ino
    assert not netns.is_pinned(path)
    assert netns.pin(path) is True
    assert netns.is_pinned(path)
    assert os.stat(path).st_ino != before
    assert os.stat("/proc/self/ns/net").st_ino == before, "the caller stays where it is"
    assert "127.0.0.1" in listed(path)
    inode = os.stat(path).st_ino
    assert netns.pin(path) is False
    assert os.stat(path).st_ino == inode
    assert netns.unpin(path) is True
    assert netns.unpin(path) is False
    assert not os.path.exists(path)


def test_pin_uses_the_file_that_a_kill_left(tmp_path: t.Any) -> None:
    path = tmp_path / "ns"
    path.write_bytes(b"")
    assert netns.pin(str(path)) is True
    assert netns.is_pinned(str(path))
    netns.unpin(str(path))


def test_unpin_of_a_plain_file(tmp_path: t.Any) -> None:
    path = tmp_path / "ns"
    path.write_bytes(b"")
    assert netns.unpin(str(path)) is True
    assert not path.exists()


def test_pin_by_many_threads(tmp_path: t.Any) -> None:
    paths = [str(tmp_path / f"ns{number}") for number in range(32)]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert all(pool.map(netns.pin, paths))
    assert len({os.stat(path).st_ino for path in paths}) == len(paths)
    for path in paths:
        netns.unpin(path)


def test_run_inside_returns_and_raises(pinned: Pin) -> None:
    path = pinned("ns")

    def names() -> list[str]:
        return [name for _number, name in socket.if_nameindex()]

    assert "lo" in netns.run_inside(path, names)
    assert netns.run_inside(path, lambda: os.stat("/proc/thread-self/ns/net").st_ino) == os.stat(path).st_ino
    with pytest.raises(ZeroDivisionError):
        netns.run_inside(path, lambda: 1 // 0)
    with pytest.raises(NotFound):
        netns.run_inside(path + "x", names)


def test_sockets_stay_where_they_were_opened(pinned: Pin) -> None:
    path = pinned("ns")
    with netns.run_inside(path, lambda: socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(OSError, match="refused"),
            socket.create_connection(("127.0.0.1", port), timeout=5),
        ):
            pass
        client = netns.run_inside(path, lambda: socket.create_connection(("127.0.0.1", port), timeout=5))
        client.close()


def test_sysctls_of_the_namespace_only(pinned: Pin) -> None:
    path = pinned("ns")
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as stream:
        before = stream.read()
    values = {"net.ipv4.ip_local_port_range": "40000 40010", "net/ipv4/conf/lo/forwarding": "1"}
    netns.run_inside(path, lambda: netns.write_sysctls(values))

    def read() -> str:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as stream:
            return stream.read()

    assert netns.run_inside(path, read).split() == ["40000", "40010"]
    assert read() == before


def test_sysctl_that_there_is_not(pinned: Pin) -> None:
    with pytest.raises(InvalidSpec) as caught:
        netns.run_inside(pinned("ns"), lambda: netns.write_sysctls({"net.ipv4.nope": "1"}))
    assert caught.value.field == "sysctls"


def test_pin_all_makes_several_in_one_step(tmp_path: t.Any) -> None:
    paths = {kind: str(tmp_path / kind) for kind in netns.KINDS}
    own = {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in paths}
    netns.pin_all(paths, hostname="pod")
    try:
        assert all(netns.is_pinned(path) for path in paths.values())
        assert netns.run_inside_all(paths, socket.gethostname) == "pod"
        inside = netns.run_inside_all(
            paths, lambda: {kind: os.stat(f"/proc/thread-self/ns/{kind}").st_ino for kind in paths}
        )
        assert inside == {kind: os.stat(path).st_ino for kind, path in paths.items()}
        assert not set(inside.values()) & set(own.values())
        assert "127.0.0.1" in listed(paths["net"])
    finally:
        for path in paths.values():
            netns.unpin(path)
    assert {kind: os.stat(f"/proc/self/ns/{kind}").st_ino for kind in paths} == own
    with pytest.raises(NotFound, match="no uts namespace"):
        netns.run_inside_all({"uts": paths["uts"]}, socket.gethostname)


def test_pin_all_that_fails_leaves_nothing(tmp_path: t.Any) -> None:
    paths = {"net": str(tmp_path / "net"), "uts": str(tmp_path / "uts")}
    with pytest.raises(OSError, match=r"too long|Invalid argument"):
        netns.pin_all(paths, hostname="a" * 65)
    assert os.listdir(tmp_path) == []


def test_pin_of_a_process(tmp_path: t.Any) -> None:
    path = str(tmp_path / "uts")
    child = subprocess.Popen(["unshare", "--uts", "--", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdin is not None and child.stdout is not None  # noqa: PT018
        child.stdin.write(b"\n")
        child.stdin.flush()
        assert child.stdout.readline() == b"\n"
        inode = os.stat(f"/proc/{child.pid}/ns/uts").st_ino
        netns.pin_of(child.pid, {"uts": path})
    finally:
        child.kill()
        child.communicate()
    assert os.stat(path).st_ino == inode
    second = str(tmp_path / "second")
    handle = os.open(path, os.O_RDONLY)
    try:
        netns.pin_of_fd(handle, second)
    finally:
        os.close(handle)
    assert os.stat(second).st_ino == inode
    assert netns.unpin(path)
    assert netns.unpin(second)
    with pytest.raises(FileNotFoundError):
        netns.pin_of(child.pid, {"uts": path})
    assert not os.path.exists(path)
