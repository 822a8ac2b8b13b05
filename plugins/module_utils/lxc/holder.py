# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the place of an LXC container's first process under conmon, which knows children only.

conmon runs this file as if it were a runtime: ``python3 -I -S holder.py create --bundle DIR --pid-file FILE
[--console-socket SOCKET] ID``, with ``DIR/holder.json`` for settings.  It leaves a process behind that

1. waits for the container's first process, the launcher, on a socket that only that container sees;
2. gives it conmon's pipes, or a terminal, and the block that says what to run, and nobody a second time: a
   container that is restarted behind our back finds no one and ends;
3. says in the file ``answer`` what became of that;
4. waits for the end of that process, whose child it is not, and ends with its exit code, so that
   conmon writes log and exit file as for any container.

An exit code has two sources: the kernel (from Linux 6.15 on it tells whoever has a pidfd) and lxc-monitord,
which LXC's own monitor reports to.  Where neither tells it, the answer says ``"exit_source": "unknown"``: the
process ends with 255 then, which is nobody's exit code.

The answer is one JSON object that grows, each time written whole: ``pid`` and ``start_time`` before anything
runs; ``started_at``, or ``stage`` and ``errno`` of the launcher, or ``refused`` with a reason; at the end
``exit_code`` (null when unknown), ``exit_source`` (pidfd, monitord, unknown) and ``ended_at``.

This program is started from its file, without site packages, and imports only what needs none of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import time
import typing as t

#: This file, for conmon.
PATH: t.Final = os.path.abspath(__file__)

if __name__ == "__main__":
    sys.path.insert(0, PATH.rpartition("/ansible_collections/")[0])

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import (  # noqa: E402
    endings,
    monitord,
    peers,
)

#: Where a process names itself for ps(1).
_NAME: t.Final = "/proc/self/comm"

#: Exit codes of the holder where there is none of the container's.
NEVER_STARTED: t.Final = 127
UNKNOWN: t.Final = 255

#: How long lxc-monitord may take to tell of an end that the kernel has told of already.
_REPORT_S: t.Final = 10.0
_REAP_POLL_S: t.Final = 0.01
#: How often to look whether lxc-monitord is back, which may be restarted while containers run.
_RECONNECT_S: t.Final = 10.0

#: Size of the answer, so that it can be written over where there is no room for another.
_ANSWER_SIZE: t.Final = 512


class _Holder:
    """The process that stays; ``streams`` and ``block`` are what it has to give away."""

    def __init__(self, settings: dict[str, t.Any], streams: list[int], block: int, conmon: int) -> None:
        self._settings = settings
        self._streams = streams
        self._block = block
        self._conmon = conmon
        self._reports = monitord.Reports(str(settings["lxc_path"]))
        self._reported: int | None = None
        self._is_stopped = False
        self._answer: dict[str, t.Any] = {}

    def run(self, listener: socket.socket) -> int:
        """Wait for the first process, give it what it needs, and return its exit code when it has ended."""
        uid = int(self._settings["owner_uid"])
        peer = peers.accept(listener, uid, self._is_awaited, watched=[self._conmon])
        # From here on nobody else is served.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._settings["socket"])
        listener.close()
        if peer is None:
            return NEVER_STARTED
        # Its cgroup may be gone before it is looked at when the program runs.
        memory = endings.MemoryEvents(self._settings["oom"])
        if not self._hand_over(peer):
            return NEVER_STARTED
        return self._await_end(peer.pidfd, memory)

    def _is_awaited(self, pid: int) -> bool:
        """Say whether a process is the first one of the container, and not that of a clone of it."""
        return peers.is_first_process(pid) and peers.is_in_cgroup(pid, str(self._settings["cgroup"]))

    def _hand_over(self, peer: peers.Peer) -> bool:
        start_time = _start_time(peer.pid)
        try:
            if not start_time:
                # It is gone; without that its id would stand for whoever has it next.
                return False
            # Before it can run: whoever finds no more than this kills it.
            self._tell(pid=peer.pid, start_time=start_time)
        except OSError:
            return False
        # Not sooner: lxc-monitord waits for everyone who is connected and does not listen, and what it
        # tells of an earlier start is not of this one.
        self._reports.connect()
        self._write_limits()
        try:
            failure = peers.pass_on(peer, self._streams, self._block, watched=[self._conmon])
        except OSError as exc:
            self._tell(
                refused=f"the first process could not be told what to run ({exc.strerror or 'no answer'})"
            )
            return False
        finally:
            peer.connection.close()
            self._release()
        if failure is not None:
            self._tell(stage=failure[0], errno=failure[1])
            return False
        self._tell(started_at=time.time())
        return True

    def _write_limits(self) -> None:
        """Write what the container's own cgroup shall say: programs ask for their limits once, at the start.

        The limits that hold are above it, whatever becomes of these.
        """
        with contextlib.suppress(OSError, ValueError, KeyError):
            with open(self._settings["writes"], "rb") as stream:
                wanted = json.load(stream)
            for path, text in wanted:
                with contextlib.suppress(OSError), open(path, "w", encoding="ascii") as file:
                    file.write(text)

    def _release(self) -> None:
        """Let go of streams and block: a stream ends when the container's processes have closed it."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for handle in {0, 1, 2, *self._streams}:
            if handle <= 2:
                os.dup2(null, handle)
            else:
                os.close(handle)
        os.close(self._block)
        os.close(null)

    def _await_end(self, pidfd: int, memory: endings.MemoryEvents) -> int:
        self._sleep(pidfd, memory)
        # Whatever cannot be written: the exit code is the container's.
        with contextlib.suppress(OSError):
            if memory.look():
                with open(self._settings["oom_file"], "wb"):
                    pass
            else:
                # conmon marks what happens in our own cgroup, where the container is not.
                os.unlink(self._settings["oom_file"])
        status, source = self._status(pidfd)
        code = None if status is None else endings.exit_code(status)
        self._tell(exit_code=code, exit_source=source, ended_at=time.time())
        return UNKNOWN if code is None else code

    def _sleep(self, pidfd: int, memory: endings.MemoryEvents) -> None:
        while True:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            report = self._reports.fileno()
            if report is not None:
                poller.register(report, select.POLLIN)
            for handle, events in memory.waits.items():
                poller.register(handle, events)
            ready = {
                handle for handle, _event in poller.poll(_RECONNECT_S * 1000 if report is None else None)
            }
            memory.look(ready)
            if report is None:
                self._reports.connect()
            elif report in ready:
                self._read_reports()
            if pidfd in ready:
                return

    def _status(self, pidfd: int) -> tuple[int | None, str]:
        """Return the wait status of a process that has ended, and who told it."""
        deadline = time.monotonic() + _REPORT_S
        while True:
            status = endings.exit_status(pidfd)
            if status is not None:
                return status, "pidfd"
            self._read_reports()
            if self._reported is not None:
                return self._reported, "monitord"
            if self._is_stopped or time.monotonic() >= deadline:
                return None, "unknown"
            report = self._reports.fileno()
            # The kernel tells it when LXC's monitor has reaped the process, a moment after its end.
            select.select([] if report is None else [report], [], [], _REAP_POLL_S)

    def _read_reports(self) -> None:
        for message in self._reports.read():
            if message.name != str(self._settings["name"]):
                continue
            if message.kind == monitord.EXIT_CODE:
                self._reported = message.value
            elif message.kind == monitord.STATE and message.value == monitord.STOPPED:
                self._is_stopped = True

    def _tell(self, **facts: t.Any) -> None:
        """Say what is known by now; raises OSError where not even the first word can be written."""
        self._answer.update(facts)
        path, text = str(self._settings["answer"]), json.dumps(self._answer).ljust(_ANSWER_SIZE)
        try:
            _replace(path, text)
        except OSError:
            if not os.path.exists(path):
                raise
            # A full disk has room for what stands there.
            with contextlib.suppress(OSError), open(path, "r+", encoding="utf-8") as stream:
                stream.write(text)


def _start_time(pid: int) -> int:
    """Return when a process began, in clock ticks after boot (proc_pid_stat(5), field 22)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as stream:
        return int(stream.read().rpartition(b")")[2].split()[19])
    return 0


def _replace(path: str, text: str) -> None:
    """Write a file whole, or not at all."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as stream:
        stream.write(text)
    os.rename(temporary, path)


def _option(arguments: list[str], name: str) -> str | None:
    """Return the value of an option; the last one counts."""
    found = [i for i, word in enumerate(arguments[:-1]) if word == name]
    return arguments[found[-1] + 1] if found else None


def _memory_copy(path: str) -> int:
    """Return a file in memory with the content of another: a security module knows no path of it."""
    with open(path, "rb") as stream:
        content = stream.read()
    handle = os.memfd_create("block", os.MFD_CLOEXEC)
    with open(handle, "wb", closefd=False) as target:
        target.write(content)
    return handle


def _terminal(settings: dict[str, t.Any], console_socket: str) -> int:
    """Return the container's side of a new terminal, whose other side conmon gets."""
    controller, terminal = os.openpty()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.connect(console_socket)
        socket.send_fds(connection, [os.ttyname(terminal).encode()], [controller])
    os.close(controller)
    _replace(str(settings["console"]), os.path.basename(os.ttyname(terminal)))
    return terminal


def create(bundle: str, pid_file: str, console_socket: str | None) -> t.NoReturn:
    """Leave the holder behind, and its process id in ``pid_file``; ends this process."""
    with open(os.path.join(bundle, "holder.json"), "rb") as stream:
        settings = json.load(stream)
    uid, gid = int(settings["owner_uid"]), int(settings["owner_gid"])
    conmon = os.pidfd_open(os.getppid())
    block = _memory_copy(str(settings["block"]))
    streams = [0, 1, 2] if console_socket is None else [_terminal(settings, console_socket)] * 3
    peers.give_streams(streams, block, uid, gid)
    listener = peers.listen(str(settings["socket"]), uid, gid)
    done, is_done = os.pipe()
    pid = os.fork()
    if pid:
        _replace(pid_file, str(pid))
        os.write(is_done, b"\0")
        # At once: when this fails conmon waits for the end of our error output, which the other one has open.
        os._exit(0)
    os.close(is_done)
    if not os.read(done, 1):
        os._exit(NEVER_STARTED)
    os.close(done)
    os.setsid()
    os.chdir("/")
    with contextlib.suppress(OSError), open(_NAME, "w", encoding="ascii") as stream:
        stream.write("pvecri-holder")
    os._exit(_Holder(settings, streams, block, conmon).run(listener))


def main() -> None:
    """Do what conmon asks of a runtime: create; there is nothing else to be done."""
    arguments = sys.argv[1:]
    if arguments[:1] != ["create"]:
        return
    bundle, pid_file = _option(arguments, "--bundle"), _option(arguments, "--pid-file")
    if bundle is None or pid_file is None:
        raise SystemExit("holder: --bundle and --pid-file are needed")
    try:
        create(bundle, pid_file, _option(arguments, "--console-socket"))
    except (OSError, ValueError, KeyError) as exc:
        raise SystemExit(f"holder: {exc}") from exc


if __name__ == "__main__":
    main()
