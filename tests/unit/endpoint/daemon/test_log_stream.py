# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Log to who does not read, and never wait for him."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import pty
import socket
import sys
import typing as t

import pytest

from pvecri.config.model import LogConfig
from pvecri.daemon import logs
from pvecri.daemon.log_stream import LogStream


def told(count: int) -> str:
    return f"lost {count}\n"


@contextlib.contextmanager
def pipe() -> t.Iterator[tuple[int, int]]:
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield out, into
    finally:
        os.close(out)
        os.close(into)


def taken(out: int) -> str:
    """Read all that is there."""
    os.set_blocking(out, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while more := os.read(out, 65536):
            data += more
    return data.decode()


def test_lines_without_room_are_lost_and_counted_at_the_next_that_has_it() -> None:
    with pipe() as (out, into):
        stream = LogStream(into, told)
        line = "x" * 999 + "\n"
        for _number in range(7):
            stream.write(line)
        assert stream.lost == 3
        assert taken(out) == 4 * line
        stream.write("after\n")
        stream.write("more\n")
        assert taken(out) == "lost 3\nafter\nmore\n"
        assert stream.lost == 0
        # Who shares the pipe waits as ever.
        assert os.get_blocking(into)


def test_line_that_was_begun_comes_whole_before_any_other() -> None:
    with pipe() as (out, into):
        stream = LogStream(into, told)
        long = "".join(f"{number:06d}," for number in range(2000)) + "\n"
        stream.write(long)
        stream.write("between\n")
        text = taken(out)
        assert text == long[:4096]
        while len(text) < len(long):
            stream.write("between\n")
            text += taken(out)
        assert text.startswith(long)
        stream.write("last\n")
        text += taken(out)
        rest = text.removeprefix(long).splitlines()
        assert rest[-1] == "last"
        assert any(part.startswith("lost ") for part in rest)


def test_reader_that_is_gone_loses_lines_and_raises_nothing() -> None:
    with pipe() as (out, into):
        stream = LogStream(into, told)
        os.close(os.dup(out))
        closed = os.dup(out)
        os.dup2(os.open(os.devnull, os.O_RDONLY), out)
        os.close(closed)
        stream.write("nobody\n")
        assert stream.lost == 1


def test_socket_is_written_to_without_waiting() -> None:
    one, two = socket.socketpair()
    with one, two:
        stream = LogStream(one.fileno(), told)
        stream.write("first\n")
        assert two.recv(100) == b"first\n"
        while not stream.lost:
            stream.write("y" * 10_000 + "\n")
        assert one.getblocking()


def test_stopped_terminal_is_not_waited_for() -> None:
    master, slave = pty.openpty()
    try:
        stream = LogStream(slave, told)
        stream.write("hello\n")
        assert os.read(master, 100) == b"hello\r\n"
        for _number in range(100):
            stream.write("z" * 1000 + "\n")
        assert stream.lost > 0
        assert os.get_blocking(slave)
    finally:
        os.close(master)
        os.close(slave)


def test_file_is_written_from_where_it_is(tmp_path: t.Any) -> None:
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.write(b"before\n")
        file.flush()
        LogStream(file.fileno(), told).write("caf\u00e9 \udc80\n")
        file.write(b"after\n")
    assert path.read_text() == "before\ncaf\u00e9 \\udc80\nafter\n"


def test_terminal_that_cannot_be_opened_anew_is_written_to_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> int:
        raise PermissionError

    with pipe() as (out, into):
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", refuse)
            stream = LogStream(into, told)
        stream.write("hello\n")
        stream.flush()
        assert taken(out) == "hello\n"


@pytest.fixture
def _loggers() -> t.Iterator[None]:
    """Put back what `set_up` changes."""
    root, own = logging.getLogger(), logging.getLogger(logs.NAME)
    before = root.handlers[:], root.level, own.level, logging.raiseExceptions
    yield
    root.handlers[:], root.level, own.level, logging.raiseExceptions = before


@pytest.mark.usefixtures("_loggers")
@pytest.mark.parametrize("format_", ["text", "json"])
def test_log_says_how_many_lines_are_lost(monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    with pipe() as ends, os.fdopen(os.dup(ends[1]), "w") as stderr:
        out, _into = ends
        monkeypatch.setattr(sys, "stderr", stderr)
        log = logs.set_up(LogConfig(format=format_))
        for _number in range(9):
            log.info("x" * 900)
        lost = 9 - taken(out).count("INFO" if format_ == "text" else '"info"')
        assert lost > 0
        log.info("after")
        one, two = taken(out).splitlines()
        assert "log lines were lost" in one
        assert str(lost) in one
        assert "after" in two


def test_stream_that_is_replaced_leaves_no_file_open() -> None:
    with pipe() as (_out, into), contextlib.closing(socket.socketpair()[0]) as end:
        before = os.listdir("/proc/self/fd")
        for descriptor in (into, end.fileno()):
            for _reload in range(3):
                LogStream(descriptor, told)
        assert len(os.listdir("/proc/self/fd")) == len(before)
