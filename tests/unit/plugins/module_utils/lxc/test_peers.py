# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who has connected: the first process of a container, and nobody else."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import peers
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually


@pytest.fixture
def path() -> t.Iterator[str]:
    """The path of a socket."""
    with tempfile.TemporaryDirectory(prefix="pvecri-") as directory:
        yield f"{directory}/s"


def _children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@contextlib.contextmanager
def _namespaces(depth: int) -> t.Iterator[list[int]]:
    """Yield the first processes of PID namespaces, each within the one before, and the child of the last."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    argv = ["unshare", "--pid", "--fork", "--kill-child"] * depth
    with subprocess.Popen([*argv, "sh", "-c", "sleep 100 & wait"]) as top:
        try:
            found, pid = [], top.pid
            for _level in range(depth + 1):
                (pid,) = eventually(lambda parent=pid: _children(parent))
                found.append(pid)
            yield found
        finally:
            top.kill()


def test_first_process_is_that_of_a_namespace_just_below_ours() -> None:
    with _namespaces(2) as (outer, inner, child):
        assert peers.is_first_process(outer)
        assert not peers.is_first_process(inner)
        assert not peers.is_first_process(child)
    assert not peers.is_first_process(os.getpid())
    # Higher than any.
    assert not peers.is_first_process((1 << 22) + 1)


def test_cgroup_is_found_wherever_it_is_mounted(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {1: "3:memory:/lxc/100/ns\n1:name=systemd:/\n", 2: "0::/host/lxc/100\n", 3: "0::/lxc/1001/ns\n"}
    for pid, text in files.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(text)
    real_open = open

    def redirected(path: str, *args: t.Any) -> t.Any:
        return real_open(path.replace("/proc", str(tmp_path)), *args)

    monkeypatch.setattr(peers, "open", redirected, raising=False)
    assert [peers.is_in_cgroup(pid, "/lxc/100") for pid in (1, 2, 3, 4)] == [True, True, False, False]


def test_accept_knows_the_peer_before_linux_6_5(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_SO_PEERPIDFD", 9999)
    with (
        peers.listen(path, os.geteuid(), os.getegid()) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as own,
    ):
        own.connect(path)
        peer = peers.accept(listener, os.geteuid(), lambda pid: pid == os.getpid(), timeout_s=20)
        assert peer is not None
        assert peer.pid == os.getpid()
        assert not peers.is_over(peer.pidfd)
        os.close(peer.pidfd)
        peer.connection.close()


@pytest.mark.parametrize("option", [77, 9999], ids=["told-by-the-socket", "looked-up"])
def test_accept_turns_away_a_peer_that_is_gone(
    path: str, monkeypatch: pytest.MonkeyPatch, option: int
) -> None:
    monkeypatch.setattr(peers, "_SO_PEERPIDFD", option)
    script = f"import socket; socket.socket(1, socket.SOCK_SEQPACKET).connect({path!r})"
    with peers.listen(path, os.geteuid(), os.getegid()) as listener:
        subprocess.run(["/usr/bin/python3", "-I", "-S", "-c", script], check=True)
        before = os.listdir("/proc/self/fd")
        assert peers.accept(listener, os.geteuid(), lambda _pid: True, timeout_s=0.2) is None
        assert os.listdir("/proc/self/fd") == before


def test_accept_stops_in_time_however_many_are_turned_away(path: str) -> None:
    with peers.listen(path, os.geteuid(), os.getegid()) as listener:
        strangers = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _number in range(10)]
        for stranger in strangers:
            stranger.connect(path)
        assert peers.accept(listener, os.geteuid(), lambda _pid: False, timeout_s=0.2) is None
        assert peers.accept(listener, os.geteuid(), lambda _pid: False, timeout_s=0) is None
        for stranger in strangers:
            stranger.close()


def test_accept_leaves_nothing_open_when_it_cannot_look(path: str) -> None:
    def expect(_pid: int) -> bool:
        raise OSError("no")

    with (
        peers.listen(path, os.geteuid(), os.getegid()) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer,
    ):
        peer.connect(path)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="no"):
            peers.accept(listener, os.geteuid(), expect)
        assert os.listdir("/proc/self/fd") == before


def test_listen_leaves_no_socket_open_when_it_cannot(path: str) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match=r"too long|No such file"):
        peers.listen(f"{path}/no/such", 0, 0)
    with pytest.raises(FileNotFoundError):
        peers.listen(f"{path}x/s", 0, 0)
    assert os.listdir("/proc/self/fd") == before


def test_pass_on_tells_who_is_gone(path: str) -> None:
    with peers.listen(path, os.geteuid(), os.getegid()) as listener:
        own = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        own.connect(path)
        peer = peers.accept(listener, os.geteuid(), lambda _pid: True, timeout_s=20)
        assert peer is not None
        own.close()
        with pytest.raises(BrokenPipeError):
            peers.pass_on(peer, [0, 0, 0], 0, timeout_s=20)
        peer.connection.close()
        os.close(peer.pidfd)
