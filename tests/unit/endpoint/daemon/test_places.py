# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let one daemon alone have a directory and a socket."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import stat
import subprocess
import sys
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, InvalidSpec, WrongState
from pvecri.config.model import ServerConfig
from pvecri.daemon.lock import directories_locked, holder
from pvecri.daemon.socket import ListenSocket, listener


def test_lock_makes_directories_and_tells_who_holds_them(tmp_path: pathlib.Path) -> None:
    state, run = str(tmp_path / "a/state"), str(tmp_path / "run")
    assert holder(state) is None
    with directories_locked(state, run):
        assert holder(state) == holder(run) == os.getpid()
        assert stat.S_IMODE(os.stat(state).st_mode) == 0o711
    assert holder(state) is None


@pytest.mark.parametrize(("before", "after"), [(0o700, 0o711), (0o755, 0o755), (0o711, 0o711)])
def test_lock_lets_others_pass(tmp_path: pathlib.Path, before: int, after: int) -> None:
    tmp_path.chmod(before)
    with directories_locked(str(tmp_path)):
        assert stat.S_IMODE(tmp_path.stat().st_mode) == after


def test_lock_is_refused_to_a_second_daemon(tmp_path: pathlib.Path) -> None:
    directory = str(tmp_path / "state")
    with directories_locked(directory):
        with (
            pytest.raises(Conflict, match=f"process {os.getpid()} already serves {directory}"),
            directories_locked(str(tmp_path / "other"), directory),
        ):
            pass
        # What the second one took before it was refused is free again.
        assert holder(str(tmp_path / "other")) is None


def test_lock_ends_with_its_holder_however_that_dies(tmp_path: pathlib.Path) -> None:
    code = (
        "import sys, time; from pvecri.daemon.lock import directories_locked\n"
        f"with directories_locked({str(tmp_path)!r}):\n    print('held', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert child.stdout is not None
    with child, child.stdout:
        assert child.stdout.readline() == b"held\n"
        assert holder(str(tmp_path)) == child.pid
        with pytest.raises(Conflict, match=f"process {child.pid} "), directories_locked(str(tmp_path)):
            pass
        child.kill()
        child.wait()
    with directories_locked(str(tmp_path)):
        assert holder(str(tmp_path)) == os.getpid()


def test_lock_follows_no_link_and_says_what_is_wrong(tmp_path: pathlib.Path) -> None:
    (tmp_path / "daemon.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(WrongState, match="cannot be used"), directories_locked(str(tmp_path)):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_lock_of_a_holder_that_has_not_said_its_name_yet(tmp_path: pathlib.Path) -> None:
    with directories_locked(str(tmp_path)):
        (tmp_path / "daemon.lock").write_text("")
        assert holder(str(tmp_path)) == 0


# ---- the socket


def server(path: pathlib.Path, mode: int = 0o660, group: str = "root") -> ListenSocket:
    return ListenSocket(ServerConfig(socket=str(path), socket_mode=mode, socket_group=group))


@contextlib.contextmanager
def bound(path: str, *, backlog: int = 5) -> object:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(backlog)
        yield sock


@pytest.mark.parametrize(("mode", "group"), [(0o660, "root"), (0o600, "1234")])
def test_socket_has_its_mode_and_group_before_its_name(tmp_path: pathlib.Path, mode: int, group: str) -> None:
    path = tmp_path / "run/p.sock"
    listening = server(path, mode, group)
    listening.prepare()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711
    with bound(listening.temporary):
        assert not path.exists()
        listening.publish()
        found = path.stat()
        assert stat.S_ISSOCK(found.st_mode)
        assert stat.S_IMODE(found.st_mode) == mode
        assert found.st_gid == (int(group) if group.isdigit() else 0)
        assert listener(str(path)) == os.getpid()
        listening.remove()
    assert not path.exists()


def test_socket_that_nobody_listens_on_is_replaced(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    for stale in (str(path), f"{path}.new"):
        with bound(stale):
            pass
    assert listener(str(path)) is None
    listening = server(path)
    listening.prepare()
    with bound(listening.temporary):
        listening.publish()
        assert listener(str(path)) == os.getpid()


def test_socket_of_another_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    with bound(str(path)):
        with pytest.raises(Conflict, match=f"process {os.getpid()} already listens on {path}"):
            server(path).prepare()
        assert listener(str(path)) == os.getpid()


def test_socket_of_one_too_busy_to_answer_is_left_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    with bound(str(path), backlog=0), contextlib.ExitStack() as clients:
        for _unused in range(3):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(str(path))
        with pytest.raises(Conflict, match="already listens"):
            server(path).prepare()


def test_socket_does_not_take_the_place_of_a_file(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    path.write_text("precious")
    with pytest.raises(Conflict, match="is no socket"):
        server(path).prepare()
    assert path.read_text() == "precious"


def test_socket_needs_a_group_that_exists(tmp_path: pathlib.Path) -> None:
    with pytest.raises(InvalidSpec, match="there is no group 'no-such-group'"):
        server(tmp_path / "p.sock", group="no-such-group").prepare()


def test_socket_of_a_successor_is_not_removed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    first = server(path)
    first.prepare()
    with bound(first.temporary):
        first.publish()
    second = server(path)
    second.prepare()
    with bound(second.temporary):
        second.publish()
        first.remove()
        assert path.exists()
        second.remove()
    second.remove()
    assert not path.exists()


def test_socket_is_there_all_the_time_of_a_change(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "p.sock"
    with bound(str(path)):
        pass
    missing = []
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            if not path.exists():
                missing.append(1)

    thread = threading.Thread(target=look)
    thread.start()
    for _unused in range(20):
        listening = server(path)
        listening.prepare()
        with bound(listening.temporary):
            listening.publish()
    over.set()
    thread.join()
    assert missing == []
