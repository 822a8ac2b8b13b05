# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Start conmon and speak with it: its sync pipe, its control fifo.

conmon forks itself free of its caller, creates the container through crun,
writes the result as one line of JSON to the pipe that ``_OCI_SYNCPIPE`` names,
and stays as the parent of the container: it writes the log and, at the end,
the exit file.  Nothing of that needs the process that started it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import select
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Runner
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandTimeout,
    InvalidSpec,
    WrongState,
)

#: conmon's commands on its control fifo (``type height width``).
_RESIZE, _REOPEN_LOG = 1, 2

#: conmon takes no larger terminal.
_SIZE_MAX = 1000

#: conmon answers with crun's whole error output at most this long.
_ANSWER_MAX = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What conmon wrote to its sync pipe: a process id, or crun's error text."""

    pid: int | None
    message: str = ""


def check_log_path(path: str) -> None:
    """Refuse a log path that conmon would misread; it splits its argument at colons."""
    if not os.path.isabs(path):
        raise InvalidSpec("log_path", f"'{path}' is not an absolute path")
    if ":" in path:
        raise InvalidSpec("log_path", f"'{path}' has a colon, which conmon cannot take")


def launch(
    runner: Runner,
    argv: t.Sequence[str],
    *,
    cwd: str,
    timeout_s: float,
    env: t.Mapping[str, str] | None = None,
    outlives_us: bool = False,
) -> Answer:
    """Start conmon and return its answer once crun has created the container or failed.

    ``env`` is added to its environment.  With ``outlives_us`` it goes on even if we are killed before
    it has answered; without, it ends then.
    Raises CommandError when conmon itself refuses to start, CommandTimeout when
    there is no answer within ``timeout_s`` seconds; conmon may then still be there.
    """
    time_left = procfs.monotonic_deadline(timeout_s)
    reader, writer = os.pipe()
    try:
        try:
            runner.run(
                argv,
                timeout_s=timeout_s,
                env={**(env or {}), "_OCI_SYNCPIPE": str(writer)},
                # conmon makes its OOM mark in its working directory.
                cwd=cwd,
                # Nobody can write into a pipe that nobody has open for reading.
                pass_fds=(writer, reader) if outlives_us else (writer,),
            )
        finally:
            os.close(writer)
        return _parse(_read_line(reader, argv, time_left))
    finally:
        os.close(reader)


def _read_line(reader: int, argv: t.Sequence[str], time_left: t.Callable[[], float | None]) -> bytes:
    data = b""
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    while not data.endswith(b"\n") and len(data) < _ANSWER_MAX:
        if not poller.poll((time_left() or 0.0) * 1000):
            raise CommandTimeout(
                "conmon did not report a container in time",
                argv=argv,
                hint="Raise the time-out, or look for a hanging mount or hook",
            )
        chunk = os.read(reader, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _parse(line: bytes) -> Answer:
    """Read ``{"data": pid}``, or ``{"data": -1, "message": text}`` for a failure."""
    try:
        answer = json.loads(line)
        pid = int(answer.get("data", answer.get("pid", -1)))
        message = str(answer.get("message", ""))
    except (ValueError, AttributeError, TypeError):
        # conmon ends without a word when crun failed silently or was killed.
        return Answer(None, line.decode("utf-8", "replace").strip())
    return Answer(pid if pid > 0 else None, message.strip())


def reopen_log(fifo: str) -> None:
    """Make conmon close its log and go on in a new file of the same name."""
    _command(fifo, _REOPEN_LOG, 0, 0)


def resize_terminal(fifo: str, width: int, height: int) -> None:
    """Set the size of the container's terminal in characters."""
    for field, value in (("width", width), ("height", height)):
        if not 0 < value <= _SIZE_MAX:
            raise InvalidSpec(field, f"{value} is not between 1 and {_SIZE_MAX}")
    _command(fifo, _RESIZE, height, width)


def _command(fifo: str, kind: int, height: int, width: int) -> None:
    """Write one command; a single short write to a fifo is never mixed with another's."""
    try:
        # Without O_NONBLOCK an open would hang for ever when conmon has died.
        handle = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno in {errno.ENOENT, errno.ENXIO}:
            raise WrongState(
                "no conmon listens for this container",
                hint="Its log and terminal are lost; restart the container",
            ) from exc
        raise
    try:
        os.write(handle, f"{kind} {height} {width}\n".encode())
    finally:
        with contextlib.suppress(OSError):
            os.close(handle)
