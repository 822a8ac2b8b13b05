# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know all sandboxes and containers: in memory for readers, on disk before anybody hears of a change.

Safe for any number of threads.  Readers never wait for a writer.  A change is written
to the database first, then to memory; then the bytes that were encoded from the old
record are dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, NotFound, WrongState
from pvecri.state import views
from pvecri.state.database import Database
from pvecri.state.filters import Filter
from pvecri.state.holds import Holds
from pvecri.state.journal import Journal
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.table import R, Table, V
from pvecri.state.views import ContainerView, SandboxView

_log = logging.getLogger(__name__)

Changes = dict[str, t.Any]

#: Fields that recovery finds out by itself: a change of these may be written later when the disk is full,
#: so that things can be stopped and removed, which is what makes room.
_FOUND_OUT: t.Final = frozenset(
    {"phase", "ips", "started_at_ns", "finished_at_ns", "exit_code", "reason", "message"}
)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One change of a record, as listeners are told: no old one when made, no new one when removed."""

    old: SandboxRecord | ContainerRecord | None
    new: SandboxRecord | ContainerRecord | None


Listener = t.Callable[[Change], None]


class Registry(Holds):
    """The daemon's memory; `open` reads it from disk."""

    def __init__(self, database: Database) -> None:
        super().__init__()
        self._sandboxes: Table[SandboxRecord, SandboxView] = Table(
            "sandboxes", SandboxRecord, SandboxView, "sandbox"
        )
        self._containers: Table[ContainerRecord, ContainerView] = Table(
            "containers", ContainerRecord, ContainerView, "container"
        )
        self._journal = Journal(database, (self._sandboxes, self._containers))
        #: Ids of the containers of each sandbox, in the order they were made.
        self._members: dict[str, tuple[str, ...]] = {}
        self._listeners: tuple[Listener, ...] = ()

    @classmethod
    def open(cls, path: str) -> Registry:
        """Open the registry of the database file ``path``.

        A damaged file is moved aside and an empty one begun (`was_set_aside`).  Raises
        Unsupported for one that a version too new has written.
        """
        registry = cls(Database.open(path))
        registry._journal.load()
        for record in registry._containers.records():
            registry._join(record)
        return registry

    @property
    def was_set_aside(self) -> str | None:
        """Where a damaged database was moved to when this one was opened."""
        return self._journal.was_set_aside

    @property
    def boot_id(self) -> str:
        """The boot of the host in which these records were last looked through; empty: never."""
        return self._journal.boot_id

    @boot_id.setter
    def boot_id(self, value: str) -> None:
        with self._lock:
            self._journal.note_boot_id(value)

    def listen(self, listener: Listener) -> None:
        """Have every change told to ``listener``, in order, in the thread that made it; it must be quick."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            try:
                listener(change)
            except Exception:  # the change stands, whatever becomes of those who hear of it
                _log.exception("a listener failed")

    def close(self) -> None:
        """Close the database; reading goes on from memory."""
        with self._lock:
            self._journal.close()

    # ---- reading ------------------------------------------------------------------------------------------

    def sandboxes(self) -> list[SandboxRecord]:
        """Return all sandboxes, the oldest first, those in the making included."""
        return self._sandboxes.records()

    def containers(self) -> list[ContainerRecord]:
        """Return all containers, the oldest first, those in the making included."""
        return self._containers.records()

    def sandbox(self, id_or_prefix: str) -> SandboxRecord:
        """Return a sandbox by its id, or by the beginning that no other id has; raises NotFound."""
        return self._sandboxes.find(id_or_prefix)

    def container(self, id_or_prefix: str) -> ContainerRecord:
        """Return a container by its id, or by the beginning that no other id has; raises NotFound."""
        return self._containers.find(id_or_prefix)

    def container_named(self, name: str) -> ContainerRecord | None:
        """Return the container that holds a name."""
        return self._containers.named(name)

    def containers_of(self, sandbox_id: str) -> list[ContainerRecord]:
        """Return the containers of a sandbox (by its whole id), the oldest first."""
        found = (self._containers.get(member) for member in self._members.get(sandbox_id, ()))
        return [record for record in found if record is not None]

    # ---- answers ------------------------------------------------------------------------------------------

    def list_sandboxes_bytes(self, wanted: Filter | None = None) -> bytes:
        """Return a `ListPodSandboxResponse`; a `StreamPodSandboxesResponse` has the same bytes."""
        return self._sandboxes.list_bytes(wanted)

    def list_containers_bytes(self, wanted: Filter | None = None) -> bytes:
        """Return a `ListContainersResponse`; a `StreamContainersResponse` has the same bytes."""
        return self._containers.list_bytes(wanted)

    def sandbox_items(self, wanted: Filter | None = None) -> list[bytes]:
        """Return the elements of a list answer one by one; joined they are the answer."""
        return [view.item for view in self._sandboxes.views(wanted)]

    def container_items(self, wanted: Filter | None = None) -> list[bytes]:
        """Return the elements of a list answer one by one; joined they are the answer."""
        return [view.item for view in self._containers.views(wanted)]

    def sandbox_status_bytes(
        self,
        id_or_prefix: str,
        info: t.Mapping[str, str] | None = None,
        *,
        with_containers: bool = False,
        timestamp_ns: int = 0,
    ) -> bytes:
        """Return a `PodSandboxStatusResponse`; raises NotFound."""
        view = self._sandboxes.shown(id_or_prefix)
        members = self._container_views(view.id) if with_containers else ()
        return views.sandbox_status_answer(view, info, members, timestamp_ns)

    def container_status_bytes(self, id_or_prefix: str, info: t.Mapping[str, str] | None = None) -> bytes:
        """Return a `ContainerStatusResponse`; raises NotFound."""
        return views.container_status_answer(self._containers.shown(id_or_prefix), info)

    def pod_views(self, sandbox_id: str) -> tuple[SandboxView | None, list[ContainerView]]:
        """Return a sandbox (by its whole id) and its containers as clients may see them."""
        sandbox = None
        with contextlib.suppress(NotFound):
            sandbox = self._sandboxes.shown(sandbox_id)
        return sandbox, self._container_views(sandbox_id)

    def _container_views(self, sandbox_id: str) -> list[ContainerView]:
        found = []
        for member in self._members.get(sandbox_id, ()):
            with contextlib.suppress(NotFound):
                found.append(self._containers.shown(member))
        return found

    # ---- writing ------------------------------------------------------------------------------------------

    def reserve_sandbox(self, record: SandboxRecord) -> SandboxRecord:
        """Take a sandbox's name and write its record; return the record.

        A name that a sandbox of equal config and handler holds gives that one: look at its
        id.  Raises Conflict, naming the holder, when another has the name.
        """

        def same(holder: SandboxRecord) -> bool:
            return (holder.config, holder.handler) == (record.config, record.handler)

        with self._lock:
            reserved = self._journal.write(lambda db: self._sandboxes.reserve(db, record, same=same))
            if reserved is record:
                self._tell(Change(None, record))
            return reserved

    def reserve_container(self, record: ContainerRecord) -> ContainerRecord:
        """Take a container's name and write its record; return the record, as `reserve_sandbox` does.

        Raises NotFound without its sandbox, and WrongState when that is not ready or on its
        way out: what is made after a stop or removal has begun would be left behind.
        """

        def same(holder: ContainerRecord) -> bool:
            return (holder.config, holder.sandbox_id) == (record.config, record.sandbox_id)

        with self._lock:
            sandbox = self._sandboxes.get(record.sandbox_id)
            if sandbox is None:
                raise NotFound(f"there is no sandbox '{record.sandbox_id[:70]}'")
            if sandbox.phase is not Phase.READY or self.flags(sandbox.id):
                state = next(iter(sorted(self.flags(sandbox.id))), sandbox.phase)
                raise WrongState(f"sandbox {sandbox.id} is {state}, not ready")
            reserved = self._journal.write(lambda db: self._containers.reserve(db, record, same=same))
            self._join(reserved)
            if reserved is record:
                self._tell(Change(None, record))
            return reserved

    def adopt_sandbox(self, record: SandboxRecord) -> None:
        """Add the record of a sandbox that exists already; raises Conflict."""
        with self._lock:
            self._journal.write(lambda db: self._sandboxes.reserve(db, record, same=_never))
            self._tell(Change(None, record))

    def adopt_container(self, record: ContainerRecord) -> None:
        """Add the record of a container that exists already, with or without its sandbox; raises Conflict."""
        with self._lock:
            self._journal.write(lambda db: self._containers.reserve(db, record, same=_never))
            self._join(record)
            self._tell(Change(None, record))

    def update_sandbox(self, object_id: str, /, **changes: t.Any) -> SandboxRecord:
        """Change fields of a sandbox (by its whole id) and return the new record; raises NotFound."""
        return self.change_sandbox(object_id, lambda _record: changes)

    def update_container(self, object_id: str, /, **changes: t.Any) -> ContainerRecord:
        """Change fields of a container (by its whole id) and return the new record; raises NotFound."""
        return self.change_container(object_id, lambda _record: changes)

    def change_sandbox(
        self, object_id: str, decide: t.Callable[[SandboxRecord], Changes | None]
    ) -> SandboxRecord:
        """Change a sandbox by what ``decide`` makes of its record; nobody else changes it meanwhile."""
        return self._change(self._sandboxes, object_id, decide)

    def change_container(
        self, object_id: str, decide: t.Callable[[ContainerRecord], Changes | None]
    ) -> ContainerRecord:
        """Change a container by what ``decide`` makes of its record; nobody else changes it meanwhile."""
        return self._change(self._containers, object_id, decide)

    def _change(self, table: Table[R, V], object_id: str, decide: t.Callable[[R], Changes | None]) -> R:
        with self._lock:
            old = table.get(object_id)
            if old is None:
                raise NotFound(f"there is no {table.what} '{object_id[:70]}'")
            changes = decide(old)
            if not changes:
                return old
            if not {"id", "name"}.isdisjoint(changes):
                raise ValueError("id and name of an object do not change")
            new: R = dataclasses.replace(old, **changes)
            if new == old:
                return old
            try:
                self._journal.write(lambda db: table.replace(db, old, new))
            except OSError as exc:
                if not _FOUND_OUT.issuperset(changes):
                    raise
                self._journal.put_off(table, new.id, exc)
                table.show(new)
            self._tell(Change(old, new))
            return new

    def started(self, container_id: str, when_ns: int) -> ContainerRecord:
        """Note that a container was started; one whose end was seen already stays EXITED."""

        def decide(record: ContainerRecord) -> Changes:
            is_new = record.phase in {Phase.CREATING, Phase.CREATED}
            return {"started_at_ns": when_ns, **({"phase": Phase.RUNNING} if is_new else {})}

        return self.change_container(container_id, decide)

    def exited(
        self,
        container_id: str,
        *,
        exit_code: int | None,
        finished_at_ns: int,
        reason: str = "",
        message: str = "",
    ) -> ContainerRecord:
        """Note how a container ended; what is known of an end already stays, a missing code is added."""

        def decide(record: ContainerRecord) -> Changes | None:
            if record.phase is Phase.EXITED and (record.exit_code is not None or exit_code is None):
                return None
            return {
                "phase": Phase.EXITED,
                "exit_code": exit_code,
                "finished_at_ns": max(finished_at_ns, record.started_at_ns, record.created_at_ns),
                "reason": reason,
                "message": message,
            }

        return self.change_container(container_id, decide)

    def remove_sandbox(self, object_id: str) -> None:
        """Forget a sandbox and free its name; one that is gone is fine.

        Raises Conflict while it has containers.
        """
        with self._lock:
            members = self.containers_of(object_id)
            if members:
                raise Conflict(f"sandbox {object_id} has {len(members)} containers", hint="Remove them first")
            record = self._removed(self._sandboxes, object_id)
            self._members.pop(object_id, None)
            self.forget_flags(object_id)
            if record is not None:
                self._tell(Change(record, None))

    def remove_container(self, object_id: str) -> None:
        """Forget a container and free its name; one that is gone is fine."""
        with self._lock:
            record = self._removed(self._containers, object_id)
            self.forget_flags(object_id)
            if record is not None:
                rest = tuple(m for m in self._members.get(record.sandbox_id, ()) if m != object_id)
                self._members[record.sandbox_id] = rest
                if not rest:
                    del self._members[record.sandbox_id]
                self._tell(Change(record, None))

    def _removed(self, table: Table[R, V], object_id: str) -> R | None:
        try:
            self._journal.write(lambda db: table.delete(db, object_id))
        except OSError as exc:
            self._journal.put_off(table, object_id, exc)
        return table.forget(object_id)

    def _join(self, record: ContainerRecord) -> None:
        members = self._members.get(record.sandbox_id, ())
        if record.id not in members:
            self._members[record.sandbox_id] = (*members, record.id)


def _never(_holder: object) -> bool:
    return False
