# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Seeing the ends of containers, and the sockets and terminals that lead to them."""

from __future__ import annotations

import os
import pathlib
import pty
import socket
import subprocess
import tempfile
import threading
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import attach, console, exits
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout, prepare
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


def test_exit_watcher_of_a_directory_that_is_not_there(tmp_path: pathlib.Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        exits.ExitWatcher(str(tmp_path / "none"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_exit_watcher_that_lost_count(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with exits.ExitWatcher(str(tmp_path)) as watcher:
        (tmp_path / "a").write_text("")
        (tmp_path / "a").rename(tmp_path / "b")
        monkeypatch.setattr(exits, "_IN_Q_OVERFLOW", 0x80)
        assert watcher.read() is None


def test_exit_watcher_without_inotify(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exits, "_IN_CLOEXEC", 0x1)
    with pytest.raises(OSError, match="Invalid argument"):
        exits.ExitWatcher(str(tmp_path))


@pytest.fixture
def layout() -> t.Iterator[Layout]:
    """The files of a container, in a directory short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="p-") as top:
        layout = Layout(Paths(top + "/s", top + "/r"), "box")
        prepare(layout.paths)
        yield layout


@pytest.fixture
def server(layout: Layout) -> t.Iterator[socket.socket]:
    """conmon's side of the attach socket."""
    os.makedirs(os.path.dirname(layout.attach_socket))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(layout.attach_socket)
        listener.listen()
        listener.settimeout(20)
        yield listener


def test_attach_to_nobody(layout: Layout) -> None:
    with pytest.raises(WrongState, match="no conmon"):
        attach.connect(layout)
    os.makedirs(os.path.dirname(layout.attach_socket))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(layout.attach_socket)
    with pytest.raises(WrongState, match="no conmon"):
        attach.connect(layout)


def test_attach_to_a_conmon_that_accepts_nobody(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attach, "_CONNECT_S", 1)
    os.makedirs(os.path.dirname(layout.attach_socket))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(layout.attach_socket)
        listener.listen(0)
        with attach.connect(layout), pytest.raises(CommandTimeout, match="let nobody attach"):
            attach.connect(layout)


def test_attach_to_what_is_no_socket_of_conmon(layout: Layout) -> None:
    os.makedirs(os.path.dirname(layout.attach_socket))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(layout.attach_socket)
        listener.listen()
        with pytest.raises(OSError, match="wrong type"):
            attach.connect(layout)


def test_feed_writes_in_packets_and_stays_until_the_end(layout: Layout, server: socket.socket) -> None:
    data = os.urandom(100_000)
    received: list[bytes] = []

    def conmon() -> None:
        peer, _from = server.accept()
        with peer:
            while packet := peer.recv(65536):
                received.append(packet)
                peer.send(b"\x02" + packet)

    thread = threading.Thread(target=conmon)
    thread.start()
    with attach.connect(layout) as connection:
        attach.feed(connection, data, timeout_s=20)
    thread.join()
    assert b"".join(received) == data
    assert max(len(packet) for packet in received) <= attach.PACKET_MAX


def test_feed_of_a_container_that_ends_early(layout: Layout, server: socket.socket) -> None:
    with attach.connect(layout) as connection:
        server.accept()[0].close()
        attach.feed(connection, b"x" * 1_000_000, timeout_s=20)


def test_feed_has_a_time_limit(layout: Layout, server: socket.socket) -> None:
    with attach.connect(layout) as connection:
        peer, _from = server.accept()
        with peer, pytest.raises(CommandTimeout):
            attach.feed(connection, b"x" * 1_000_000, timeout_s=0.05)


def test_feed_of_a_connection_that_is_reset(layout: Layout, server: socket.socket) -> None:
    with attach.connect(layout) as connection:
        peer, _from = server.accept()
        connection.send(b"not read by the other side")
        peer.close()
        attach.feed(connection, b"", timeout_s=20)


def send_terminal(path: str, *, empty: bool = False) -> None:
    main, other = pty.openpty()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(path)
        if empty:
            client.send(b"x")
        else:
            socket.send_fds(client, [b"x"], [main])
    os.close(main)
    os.close(other)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "1000"])


def test_receiver_takes_the_terminal(layout: Layout) -> None:
    with sleeper() as child:
        try:
            with console.receiver(layout) as receiver:
                thread = threading.Thread(target=send_terminal, args=(receiver.path,))
                thread.start()
                terminal = receiver.accept(child, 20)
                thread.join()
            assert terminal is not None
            assert os.isatty(terminal)
            assert not os.get_inheritable(terminal)
            console.resize(terminal, 80, 24)
            assert os.get_terminal_size(terminal) == (80, 24)
            os.close(terminal)
            assert not os.path.exists(receiver.path)
        finally:
            child.kill()


def test_receiver_of_a_message_without_a_terminal(layout: Layout) -> None:
    with sleeper() as child:
        try:
            with console.receiver(layout) as receiver:
                thread = threading.Thread(target=send_terminal, args=(receiver.path,), kwargs={"empty": True})
                thread.start()
                with pytest.raises(CommandError, match="no terminal"):
                    receiver.accept(child, 20)
                thread.join()
        finally:
            child.kill()


def test_receiver_of_a_child_that_says_nothing(layout: Layout) -> None:
    with sleeper() as child, console.receiver(layout) as receiver:
        with pytest.raises(CommandTimeout):
            receiver.accept(child, 0.01)
        child.kill()
        assert receiver.accept(child, 20) is None
