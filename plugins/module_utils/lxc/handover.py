# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell the launcher what to run, and others what became of that.

A container's first process is served by the holder, whose answer is a file; a command that is run in a
container is served here, by whoever runs it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    InvalidSpec,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc import peers
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.launcher import SOCKET_PATH_MAX, Stage


@dataclasses.dataclass(frozen=True, slots=True)
class Started:
    """A process that runs what it was told to; the caller closes ``pidfd``."""

    pid: int
    pidfd: int


class StartFailed(CommandError):
    """Report that the launcher could not run what it was told to; `explained` says it in words."""

    def __init__(self, stage: int, number: int) -> None:
        super().__init__(f"the launcher failed at stage {stage}: {_reason(number)}")
        self.stage = stage
        self.errno = number


class Listener:
    """A socket on which one launcher is awaited."""

    def __init__(self, path: str, uid: int, gid: int, listener: socket.socket) -> None:
        self.path = path
        self._uid = uid
        self._gid = gid
        self._listener = listener

    def give(
        self,
        handles: t.Sequence[int],
        block: int,
        timeout_s: float,
        expect: t.Callable[[int], bool],
        *,
        child: int | None = None,
    ) -> Started:
        """Give the launcher that connects three streams and the block, and return once its program runs.

        ``expect`` is asked whether a process id is that of the one awaited, which then still waits for what
        to do: it may as well set limits on it.  ``child`` is the pidfd of who starts the launcher: there is
        no more to wait for when that has ended.  Nobody is served a second time.  Raises StartFailed,
        CommandTimeout, or WrongState when nobody came.
        """
        time_left = procfs.monotonic_deadline(timeout_s)
        peers.give_streams(handles, block, self._uid, self._gid)
        watched = () if child is None else (child,)
        peer = peers.accept(self._listener, self._uid, expect, watched=watched, timeout_s=timeout_s)
        self.close()
        if peer is None:
            if not time_left():
                raise _too_late(timeout_s)
            raise WrongState("the container did not let the command in")
        try:
            failure = peers.pass_on(peer, handles, block, timeout_s=time_left())
        except TimeoutError as exc:
            os.close(peer.pidfd)
            raise _too_late(timeout_s) from exc
        except OSError as exc:
            os.close(peer.pidfd)
            raise WrongState("the container ended before the command could start") from exc
        except BaseException:
            os.close(peer.pidfd)
            raise
        finally:
            peer.connection.close()
        if failure is not None:
            os.close(peer.pidfd)
            raise StartFailed(*failure)
        return Started(peer.pid, peer.pidfd)

    def close(self) -> None:
        """Wait for nobody any more."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener.close()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def listen(path: str, uid: int, gid: int) -> Listener:
    """Return a socket for a launcher that runs as this user of the host, the container's root.

    ``path`` is the host's.  Raises InvalidSpec when it is too long for a socket.
    """
    if len(os.fsencode(path)) > SOCKET_PATH_MAX:
        raise InvalidSpec(
            "state_dir", f"'{path}' is too long for a socket", hint="Choose a shorter directory"
        )
    return Listener(path, uid, gid, peers.listen(path, uid, gid))


def _too_late(timeout_s: float) -> CommandTimeout:
    return CommandTimeout(
        f"the container did not start its program within {timeout_s:g} s",
        hint="Look for a hanging mount, or raise the time-out",
    )


# ---- the holder's answer ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the holder has said of a container's first process; it grows (see `holder`)."""

    #: Set before anything runs.
    pid: int
    start_time: int
    #: Seconds of the epoch; None unless the program was started.
    started_at: float | None = None
    #: Where the launcher failed; None unless it did.
    stage: int | None = None
    errno: int = 0
    #: Why the launcher was told nothing; empty unless that is so.
    refused: str = ""
    #: None while it runs, and when nobody knows how it ended.
    exit_code: int | None = None
    #: ``pidfd``, ``monitord`` or ``unknown``; empty while it runs.
    exit_source: str = ""
    ended_at: float | None = None

    @property
    def is_final(self) -> bool:
        """Say whether it is known what became of the start."""
        return self.started_at is not None or self.stage is not None or bool(self.refused)


def read_answer(path: str) -> Answer | None:
    """Return the holder's answer; None while nobody has come."""
    known = {field.name for field in dataclasses.fields(Answer)}
    with (
        contextlib.suppress(FileNotFoundError, ValueError, TypeError, AttributeError),
        open(path, "rb") as file,
    ):
        return Answer(**{key: value for key, value in json.load(file).items() if key in known})
    return None


# ---- in words --------------------------------------------------------------------------------------------

_PROGRAM_HINT = "Give the path of a program that the image has, or correct PATH in the environment"


def explained(stage: int, number: int, process: t.Mapping[str, t.Any]) -> CoreError:
    """Return the error for where the launcher failed; fields are those of an OCI config.json.

    ``stage`` and ``number`` come out of a container and may be anything.
    """
    reason = _reason(number)
    user = process.get("user") or {}
    name = str((process.get("args") or [""])[0])
    if stage == Stage.PROGRAM:
        return _about_program(name, number)
    if stage == Stage.DIRECTORY:
        cwd = process.get("cwd") or "/"
        problem = {
            errno.ENOENT: "is no directory of the container",
            errno.ENOTDIR: "is no directory of the container",
            errno.EACCES: f"may not be entered by user {user.get('uid', 0)}",
        }.get(number, f"cannot be the working directory: {reason}")
        return InvalidSpec("process.cwd", f"'{cwd}' {problem}", hint="Correct the working directory")
    if stage in _FIELDS:
        field, what, hint = _FIELDS[Stage(stage)]
        return InvalidSpec(field, f"{what.format(**_numbers(user))}: {reason}", hint=hint)
    if stage == Stage.STREAMS:
        return Unsupported(
            f"the container could not take over its input and output: {reason}",
            hint="Look in the host's kernel log for what AppArmor denied to the container",
        )
    what = {
        Stage.BLOCK: "the container could not read what to run",
        Stage.TERMINAL: "the container could not take over its terminal",
    }.get(t.cast("Stage", stage), f"the container's first step failed at stage {stage}")
    return CommandError(f"{what}: {reason}")


#: Field, what could not be done, and the remedy.
_FIELDS: t.Final = {
    Stage.READ_ONLY_ROOT: (
        "root.readonly",
        "the root file system could not be made read-only",
        "Leave it writable: this host's kernel or its security module does not let the container do that",
    ),
    Stage.CAPABILITIES: (
        "process.capabilities",
        "the capabilities could not be set",
        "Ask for those that a container of this kind can have",
    ),
    Stage.GROUPS: (
        "process.user.additionalGids",
        "the groups {groups} could not be taken on",
        "Choose ids that the container has: below 65536 when it is unprivileged",
    ),
    Stage.GROUP: (
        "process.user.gid",
        "group {gid} could not be taken on",
        "Choose an id that the container has: below 65536 when it is unprivileged",
    ),
    Stage.USER: (
        "process.user.uid",
        "user {uid} could not be taken on",
        "Choose an id that the container has: below 65536 when it is unprivileged",
    ),
    Stage.NO_NEW_PRIVILEGES: (
        "process.noNewPrivileges",
        "new privileges could not be ruled out",
        "Leave it out",
    ),
}


def shell_code(stage: int, number: int) -> int | None:
    """Return what a shell would end with for a program that could not be run, 127 or 126; else None."""
    if stage != Stage.PROGRAM:
        return None
    return 127 if number in {errno.ENOENT, errno.ENOTDIR} else 126


def _about_program(name: str, number: int) -> InvalidSpec:
    problem, hint = {
        # execve(2) says the same of a missing interpreter.
        errno.ENOENT: (f"'{name}' is not in the container, or its interpreter is not", _PROGRAM_HINT),
        errno.ENOTDIR: (f"'{name}' is not in the container", _PROGRAM_HINT),
        errno.EACCES: (
            f"'{name}' cannot be executed",
            "Name a file that its user may execute, on a file system that is not mounted noexec",
        ),
        errno.EPERM: (f"'{name}' may not be executed", "Give it fewer file capabilities, or the user more"),
        errno.ENOEXEC: (
            f"'{name}' is no program for this host's architecture, or a script without '#!'",
            "Use an image of this architecture, or name the interpreter first",
        ),
        errno.E2BIG: (
            "its arguments and environment are longer than the kernel takes",
            "Pass what is long in a file or on standard input",
        ),
    }.get(number, (f"'{name}' cannot be executed: {_reason(number)}", "Name another program"))
    return InvalidSpec("process.args", problem, hint=hint)


def _numbers(user: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    groups = ", ".join(str(number) for number in user.get("additionalGids") or ()) or "(none)"
    return {"uid": user.get("uid", 0), "gid": user.get("gid", 0), "groups": groups}


def _reason(number: int) -> str:
    return os.strerror(number) if number in errno.errorcode else f"error {number}"
