# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what went wrong at Proxmox VE by errors whose class tells a client what to do about it.

CoreError
└ StorageFull   RESOURCE_EXHAUSTED, for its cause is the lack of space

host, node or cluster cannot answer, or the config is held   Unavailable, Unreached: try again
a lock on the container                                      Locked
a refused parameter                                          WrongState
login or privilege                                           MissingDependency, MissingPrivilege
a task that failed                                           TaskFailed, with the end of its log
a task that goes on                                          TaskTimeout, with its UPID

What Proxmox VE answers with status 500 is told apart by the state that is found then, not by
the text: whether the cluster has quorum, whether the container is locked, what the storage has left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    Conflict,
    CoreError,
    InvalidSpec,
    LoginFailed,
    MissingDependency,
    MissingPrivilege,
    TaskFailed,
    TaskTimeout,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import guests
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from pvecri.errors import Locked, Unavailable, Unreached

#: A proxy in front of the API, or pveproxy itself while it restarts.
_PROXY = frozenset({502, 503, 504})

#: As much of a task's log is repeated.
_TAIL_LINES = 8
_TAIL_CHARACTERS = 1200

#: What Proxmox VE says when neither file nor request tells of the quorum.
_NO_QUORUM = "no quorum"

_RETRY = "Try again: what was begun is joined or repaired"


class StorageFull(CoreError):
    """Refuse what the storage has no room for."""

    code = "storage_full"


class Client(t.Protocol):
    """The part of PveClient that is asked."""

    def get(self, path: str | t.Sequence[str | int], **params: t.Any) -> t.Any:
        """Read ``path``."""


class Node(t.Protocol):
    """The part of `PveNode` that is asked."""

    @property
    def client(self) -> Client:
        """The API of this node."""

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def config_dir(self) -> str:
        """Where the cluster's file system is mounted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """What an act needs of a storage."""

    storage: str
    needed_bytes: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found after something failed."""

    #: False: the cluster's configuration is read-only; None: it cannot be told.
    has_quorum: bool | None = None
    #: Lock that is on the container, and the task that holds it.
    lock: str = ""
    holder: str = ""
    #: What the storage has left of what is needed; None: not asked, or it cannot be told.
    free_bytes: int | None = None
    space: Space | None = None

    @property
    def is_full(self) -> bool:
        """Whether the storage lacks room."""
        return (
            self.space is not None
            and self.free_bytes is not None
            and self.free_bytes < self.space.needed_bytes
        )


@contextlib.contextmanager
def named(node: Node, what: str, *, vmid: int | None = None, space: Space | None = None) -> t.Iterator[None]:
    """Turn errors of the API, of tasks and of the config file into those of the table above.

    ``what`` begins the message: what cannot be done.  With ``vmid`` the lock of that container is
    looked for, with ``space`` the room of a storage.  Other errors pass as they are.
    """
    try:
        yield
    except (ApiError, TaskFailed, TaskTimeout, Conflict, InvalidSpec, MissingPrivilege, OSError) as exc:
        error = explained(what, exc, _facts(node, exc, vmid, space))
        if error is exc:
            raise
        raise error from (_no_space(exc) if isinstance(error, StorageFull) else exc)


def explained(what: str, exc: Exception, facts: Facts) -> Exception:
    """Return the error for what went wrong, by what was found then; one of its own kind as it is.  Pure."""
    return _by_kind(what, exc) or _by_facts(what, exc, facts)


def _by_kind(what: str, exc: Exception) -> CoreError | None:
    """Return the error where its kind says all."""
    if isinstance(exc, LoginFailed):
        return MissingDependency(f"{what}: {exc.message}", hint=exc.hint)
    if isinstance(exc, MissingPrivilege):
        return MissingPrivilege(
            f"{what}: {exc.message}", privilege=exc.privilege, path=exc.path, hint=exc.hint
        )
    if isinstance(exc, TaskTimeout):
        return TaskTimeout(f"{what}: {exc.message}", upid=exc.upid, hint="A repeated call joins the task")
    if isinstance(exc, InvalidSpec):
        return WrongState(
            f"{what}: Proxmox VE refuses {exc.field or 'the request'}: {exc.problem}",
            hint="Look at the section [pve] of the configuration and at the container's resources",
        )
    if isinstance(exc, Conflict) or _is_lost(exc):
        # What was sent and not answered may have been begun.
        is_sent = isinstance(exc, ApiError) and exc.maybe_done
        return (Unavailable if is_sent else Unreached)(f"{what}: {_said(exc)}", hint=_RETRY)
    return None


def _is_lost(exc: Exception) -> bool:
    """Say whether nobody has answered who could."""
    return isinstance(exc, ApiError) and (exc.is_unreachable or exc.status in _PROXY)


def _by_facts(what: str, exc: Exception, facts: Facts) -> Exception:
    if facts.has_quorum is False:
        kind = Unavailable if isinstance(exc, TaskFailed) else Unreached
        return kind(
            f"{what}: the Proxmox VE cluster has no quorum, its configuration is read-only ({_said(exc)})",
            hint="Bring enough nodes back online; a repeated call goes on",
        )
    if isinstance(exc, OSError):
        return exc
    if facts.lock:
        return _locked(what, exc, facts)
    if facts.is_full and facts.space is not None:
        return StorageFull(
            f"{what}: storage '{facts.space.storage}' has {facts.free_bytes} bytes left of the "
            f"{facts.space.needed_bytes} that are needed ({_said(exc)})",
            hint="Free space there, or configure another storage",
        )
    return _failed(what, exc)


def _locked(what: str, exc: Exception, facts: Facts) -> Locked:
    by = f"task {facts.holder} holds it" if facts.holder else "no task that shows holds it"
    return Locked(
        f"{what}: the container is locked ({facts.lock}), {by}; {_said(exc)}",
        hint="Try again when the task has ended"
        if facts.holder
        else "'pct unlock' on the node removes a lock whose task died",
    )


def _failed(what: str, exc: Exception) -> Exception:
    if isinstance(exc, TaskFailed):
        return TaskFailed(
            f"{what}: {_said(exc)}",
            upid=exc.upid,
            exitstatus=exc.exitstatus,
            log_tail=exc.log_tail,
            hint=exc.hint,
        )
    if isinstance(exc, ApiError):
        return ApiError(
            f"{what}: {exc.message}",
            status=exc.status,
            reason=exc.reason,
            method=exc.method,
            path=exc.path,
            maybe_done=exc.maybe_done,
            hint=exc.hint,
        )
    return exc


def _said(exc: Exception) -> str:
    """Return what an error says, with the end of a task's log."""
    text = exc.message if isinstance(exc, CoreError) else str(exc)
    if isinstance(exc, TaskFailed):
        tail = log_tail(exc)
        text += f" ({exc.upid})" + (f"; its log ends: {tail}" if tail else "")
    return text


def log_tail(exc: TaskFailed) -> str:
    """Return the last lines of a failed task's log in one, without the one that repeats its end."""
    lines = [line.strip() for line in exc.log_tail if line.strip()]
    if lines and lines[-1] == f"TASK ERROR: {exc.exitstatus}":
        lines.pop()
    text = " | ".join(lines[-_TAIL_LINES:])
    return text if len(text) <= _TAIL_CHARACTERS else "…" + text[-_TAIL_CHARACTERS:]


# ---- looking after something failed ----------------------------------------------------------------------


def _facts(node: Node, exc: Exception, vmid: int | None, space: Space | None) -> Facts:
    """Look at what may be the reason; at nothing when the error says all, or nobody would answer."""
    if isinstance(exc, OSError):
        return Facts(has_quorum=_quorum_by_file(node))
    if isinstance(exc, ApiError):
        if _is_lost(exc) or isinstance(exc, LoginFailed):
            return Facts()
    elif not isinstance(exc, TaskFailed):
        return Facts()
    has_quorum = has_quorum_now(node)
    if has_quorum is None and _NO_QUORUM in _said(exc).lower():
        has_quorum = False
    if has_quorum is False:
        return Facts(has_quorum=False)
    lock, holder = _lock(node, vmid) if vmid is not None else ("", "")
    free = _free_bytes(node, space.storage) if space is not None else None
    return Facts(has_quorum=has_quorum, lock=lock, holder=holder, free_bytes=free, space=space)


def has_quorum_now(node: Node) -> bool | None:
    """Say whether the cluster's configuration can be written; None when nobody tells."""
    by_file = _quorum_by_file(node)
    if by_file is not None:
        return by_file
    with contextlib.suppress(CoreError, AttributeError, TypeError):
        for entry in node.client.get("/cluster/status"):
            if entry.get("type") == "cluster":
                return str(entry.get("quorate")) == "1"
    return None


def _quorum_by_file(node: Node) -> bool | None:
    """Return what the cluster's file system says of itself; a host without a cluster has its own quorum."""
    try:
        with open(os.path.join(node.config_dir, ".members"), encoding="utf-8") as stream:
            members = json.load(stream)
        cluster = members.get("cluster")
        return True if cluster is None else str(cluster["quorate"]) == "1"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None


def _lock(node: Node, vmid: int) -> tuple[str, str]:
    """Return the lock on a container and the task that holds it; empty texts: none."""
    guest = Guest(vmid=vmid, node=node.name)
    with contextlib.suppress(CoreError):
        lock = guests.current_lock(node.client, guest)
        if lock:
            running = guests.running_tasks(node.client, guest)
            return lock, running[0] if running else ""
    return "", ""


def _free_bytes(node: Node, storage: str) -> int | None:
    with contextlib.suppress(CoreError, AttributeError, KeyError, TypeError, ValueError):
        return int(node.client.get(("nodes", node.name, "storage", storage, "status"))["avail"])
    return None


def _no_space(exc: Exception) -> OSError:
    """Return the lack of space that an error was made of, as the edge knows it."""
    cause = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    cause.__cause__ = exc
    return cause
