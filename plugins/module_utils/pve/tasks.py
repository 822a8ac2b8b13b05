# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for Proxmox VE tasks and say how they ended."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CoreError,
    InvalidSpec,
    TaskFailed,
    TaskTimeout,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import answers

# Most tasks on containers take 20 ms to 2 s: look often first, then every second.
_FIRST_POLL_S = 0.03
_LONGEST_POLL_S = 1.0
_POLL_GROWTH = 1.5

#: A restart of pveproxy or a short loss of the node must not fail a task that goes on.
_LOSS_TIMEOUT_S = 30.0

_LOG_PAGE = 5000
_LOG_TAIL = 25

_WARNING_LINE = re.compile(r"^\s*(?:WARN(?:ING)?):?\s+(?P<text>.*\S)", re.IGNORECASE)


class Client(t.Protocol):
    """The part of PveClient that waiting needs."""

    def get(self, path: str | t.Sequence[str | int], **params: t.Any) -> t.Any:
        """Read ``path``."""


@dataclasses.dataclass(frozen=True, slots=True)
class Upid:
    """The parts of ``UPID:node:pid:pstart:starttime:type:id:user:``."""

    text: str
    node: str
    type: str
    id: str
    user: str

    @classmethod
    def parse(cls, text: str) -> Upid:
        """Return the parts; raises InvalidSpec for anything that is no UPID."""
        parts = text.split(":") if isinstance(text, str) else []
        if len(parts) < 8 or parts[0] != "UPID" or not parts[1]:
            raise InvalidSpec("upid", f"{text!r} is not the id of a Proxmox VE task")
        # An id may itself hold colons (storage volumes); the user is the last part.
        return cls(text, parts[1], parts[5], ":".join(parts[6:-2]), parts[-2])

    def __str__(self) -> str:
        of = f" of {self.id}" if self.id else ""
        return f"task {self.type}{of} on node '{self.node}'"


@dataclasses.dataclass(frozen=True, slots=True)
class TaskResult:
    """How a task that succeeded ended; ``warnings`` is empty for a plain OK."""

    upid: str
    exitstatus: str
    warnings: tuple[str, ...] = ()


def wait_task(
    client: Client,
    upid: str,
    timeout_s: float,
    *,
    loss_timeout_s: float = _LOSS_TIMEOUT_S,
    longest_poll_s: float = _LONGEST_POLL_S,
    clock: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> TaskResult:
    """Wait until the task ends, and return its result when it ended well.

    ``WARNINGS: n`` is a success; the warnings' texts come from the log.  Raises
    TaskFailed as soon as it ended otherwise (exit status and tail of the log),
    TaskTimeout after ``timeout_s`` seconds (the task goes on), and the ApiError of
    the last try when its node has not answered for ``loss_timeout_s`` seconds.  It is
    asked for at least every ``longest_poll_s`` seconds.
    """
    task = Upid.parse(upid)
    started = heard = clock()
    wait_s = _FIRST_POLL_S
    while True:
        try:
            status = client.get(("nodes", task.node, "tasks", upid, "status"))
        except ApiError as exc:
            if not exc.is_unreachable:
                raise
            if clock() - heard >= loss_timeout_s:
                raise _lost(task, exc) from exc
        else:
            heard = clock()
            with answers.understood(f"the status of {task}"):
                is_running = status.get("status") == "running"
            if not is_running:
                return _ended(client, task, str(status.get("exitstatus") or "unknown"))
        left_s = started + timeout_s - clock()
        if left_s <= 0:
            raise TaskTimeout(
                f"{task} has not ended within {timeout_s:g} s; it was not stopped and goes on as {upid}",
                upid=upid,
                hint="Raise task_timeout, or look at the task's log; run the play again when it has ended",
            )
        sleep(min(wait_s, left_s))
        wait_s = min(wait_s * _POLL_GROWTH, longest_poll_s)


def read_log(client: Client, upid: str) -> list[str]:
    """Return all lines of a task's log."""
    node = Upid.parse(upid).node
    lines: list[str] = []
    while True:
        page = client.get(("nodes", node, "tasks", upid, "log"), start=len(lines), limit=_LOG_PAGE)
        with answers.understood(f"the log of {upid}"):
            lines += [str(entry.get("t", "")) for entry in page]
        if len(page) < _LOG_PAGE:
            return lines


def warnings_of(log: t.Sequence[str]) -> tuple[str, ...]:
    """Return the texts of the log's warning lines, each once, in order."""
    found = (_WARNING_LINE.match(line) for line in log)
    texts = [match["text"] for match in found if match and not match["text"].startswith("TASK ")]
    return tuple(dict.fromkeys(texts))


def _ended(client: Client, task: Upid, exitstatus: str) -> TaskResult:
    if exitstatus == "OK":
        return TaskResult(task.text, exitstatus)
    log: list[str] = []
    # How the task ended is the message; a log that cannot be read must not hide it.
    with contextlib.suppress(CoreError):
        log = read_log(client, task.text)
    if exitstatus.startswith("WARNINGS"):
        return TaskResult(task.text, exitstatus, warnings_of(log) or (f"{task} ended with {exitstatus}",))
    raise TaskFailed(
        f"{task} failed: {exitstatus}",
        upid=task.text,
        exitstatus=exitstatus,
        log_tail=log[-_LOG_TAIL:],
        hint=None if log else "Its log could not be read or is empty",
    )


def _lost(task: Upid, exc: ApiError) -> ApiError:
    return ApiError(
        f"lost sight of {task}, which may go on as {task.text}: {exc.message}",
        status=exc.status,
        reason=exc.reason,
        method=exc.method,
        path=exc.path,
        maybe_done=True,
        hint="Look at the task when the node answers again, then run the play again",
    )
