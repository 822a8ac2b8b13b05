# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a template onto its storage: by a task of Proxmox VE, or from an address with its checksum.

Both are watched as pulls of images are: what moves is told, what stands still is given up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import logging
import os
import secrets
import ssl
import threading
import time
import typing as t
import urllib.error
import urllib.request

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandTimeout,
    CoreError,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import sync_directory
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import tasks
from pvecri.images.errors import RegistryUnavailable
from pvecri.pve import failures

_TICK_S = 0.2
#: Nothing moves for so long: then others may use the place among the pulls.
_IDLE_S = 2.0
_NOTE_S = 10.0
#: The API may be away for so long while its task goes on.
_LOSS_S = 30.0
_PIECE = 1 << 18
_AGENT = "pvecri"


@dataclasses.dataclass(slots=True, kw_only=True)
class Progress:
    """How long one pull may take and stand still, and who wants to know of it."""

    what: str
    log: logging.Logger
    timeout_s: float
    no_progress_s: float
    stop: threading.Event
    on_idle: t.Callable[[bool], None] = lambda _is_idle: None
    _moved: int = 0
    _moved_at: float = dataclasses.field(default_factory=time.monotonic)
    _begin: float = dataclasses.field(default_factory=time.monotonic)
    _noted_at: float = dataclasses.field(default_factory=time.monotonic)
    _is_idle: bool = False

    def look(self, moved: int) -> None:
        """Note how many bytes have come.

        Raises WrongState when the endpoint stops, RegistryUnavailable when nothing moves, and
        CommandTimeout.
        """
        now = time.monotonic()
        if moved != self._moved:
            self._moved, self._moved_at = moved, now
        idle_s = now - self._moved_at
        self._set_idle(idle_s > _IDLE_S)
        if self.stop.is_set():
            raise WrongState(f"the pull of {self.what} was ended: the endpoint stops", hint="Pull it again")
        if idle_s >= self.no_progress_s:
            raise unavailable(f"the pull of {self.what} was given up: nothing has come for {idle_s:.0f} s")
        if now - self._begin >= self.timeout_s:
            raise CommandTimeout(
                f"{self.what} was not fetched within {self.timeout_s:g} s",
                hint="Raise images.pull_timeout_s",
            )
        if now - self._noted_at >= _NOTE_S:
            self._noted_at = now
            facts = {"image": self.what, "seconds": round(now - self._begin), "bytes_moved": self._moved}
            self.log.info("still pulling", extra=facts)

    def end(self) -> None:
        """Say that the pull is over."""
        self._set_idle(False)

    def _set_idle(self, is_idle: bool) -> None:
        if is_idle is not self._is_idle:
            self._is_idle = is_idle
            self.on_idle(is_idle)


def unavailable(message: str, *, hint: str | None = None) -> RegistryUnavailable:
    """Return the error for a source that does not answer, which kubelet tries again."""
    return RegistryUnavailable(f"{RegistryUnavailable.word}: {message}", hint=hint)


# ---- by Proxmox VE


def by_task(node: failures.Node, storage: str, directory: str, file: str, progress: Progress) -> None:
    """Have the node download a file of Proxmox's list, which it checks by the list's checksum.

    Raises TaskFailed with the end of the task's log, and what `Progress.look` does; the task is
    ended then.
    """
    client = t.cast("t.Any", node.client)
    upid = str(client.post(("nodes", node.name, "aplinfo"), storage=storage, template=file))
    progress.log.info("pulling", extra={"image": progress.what, "upid": upid})
    try:
        _follow(client, upid, directory, file, progress)
    except (WrongState, RegistryUnavailable, CommandTimeout):
        with contextlib.suppress(CoreError):
            client.delete(("nodes", node.name, "tasks", upid))
        raise
    finally:
        progress.end()
    tasks.wait_task(client, upid, _LOSS_S)


def _follow(client: t.Any, upid: str, directory: str, file: str, progress: Progress) -> None:
    """Watch a task until it ends, by its state and by the size of what it writes."""
    path = ("nodes", tasks.Upid.parse(upid).node, "tasks", upid, "status")
    heard = time.monotonic()
    while True:
        try:
            if client.get(path).get("status") != "running":
                return
            heard = time.monotonic()
        except ApiError as exc:
            if not exc.is_unreachable or time.monotonic() - heard >= _LOSS_S:
                raise
        progress.look(_size_of(directory, file))
        progress.stop.wait(_TICK_S)


def _size_of(directory: str, file: str) -> int:
    """Return the size of a file and of what is written under its name and a suffix."""
    size = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(file):
                with contextlib.suppress(OSError):
                    size += entry.stat().st_size
    return size


# ---- by ourselves


def by_address(url: str, sha512: str, path: str, progress: Progress) -> None:
    """Fetch ``url`` to ``path`` and check it; what goes wrong leaves nothing.

    Raises NotFound, RegistryUnavailable, CoreError for another content and for a full disk, and
    what `Progress.look` does.
    """
    temporary = f"{os.path.join(os.path.dirname(path), '.' + os.path.basename(path))}.{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as target:
            found = _fetched(url, target, progress)
            if found != sha512:
                raise CoreError(
                    f"{url} has the SHA-512 {found}, the configuration of {progress.what} says {sha512}",
                    hint="Check address and checksum in the section [pve.templates]",
                )
            target.flush()
            os.fchmod(target.fileno(), 0o644)
            os.fsync(target.fileno())
        os.rename(temporary, path)
        sync_directory(os.path.dirname(path))
    except OSError as exc:
        if isinstance(exc, urllib.error.URLError | TimeoutError | ConnectionError | ssl.SSLError):
            raise _explained(exc, url, progress) from exc
        raise CoreError(
            f"{progress.what} cannot be written to {path}: {os.strerror(exc.errno or errno.EIO)}",
            hint="Make room there, or see that the storage is mounted and writable",
        ) from exc
    except http.client.HTTPException as exc:
        raise unavailable(f"{url}: the answer breaks off: {exc!r}") from exc
    except UnicodeError as exc:
        raise unavailable(f"{url} sends on to what is no address: {exc}") from exc
    finally:
        progress.end()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def _fetched(url: str, target: t.BinaryIO, progress: Progress) -> str:
    """Write what is behind an address, and return its SHA-512."""
    sha512, moved = hashlib.sha512(), 0
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT})  # noqa: S310 - checked: http(s)
    with urllib.request.urlopen(request, timeout=progress.no_progress_s) as answer:  # noqa: S310
        while True:
            piece = answer.read1(_PIECE)
            if not piece:
                break
            sha512.update(piece)
            target.write(piece)
            moved += len(piece)
            progress.look(moved)
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
    return sha512.hexdigest()


def _explained(exc: OSError, url: str, progress: Progress) -> CoreError:
    if isinstance(exc, urllib.error.HTTPError):
        if exc.code in (404, 410):
            return NotFound(f"{progress.what}: there is no {url}", hint="Check url in [pve.templates]")
        if exc.code < 500:
            return CoreError(f"{progress.what}: {url} is refused with HTTP status {exc.code} {exc.reason}")
        return unavailable(f"{progress.what}: {url} answers with HTTP status {exc.code} {exc.reason}")
    reason = getattr(exc, "reason", None) or exc
    return unavailable(f"{progress.what}: {url} cannot be reached: {reason}")
