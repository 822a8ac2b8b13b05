# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold one kind of objects in memory, in step with its table on disk."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Conflict, NotFound
from pvecri.state import codec
from pvecri.state.database import Database, Row
from pvecri.state.filters import Filter, is_empty, matcher
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord, is_id
from pvecri.state.views import ContainerView, SandboxView

_log = logging.getLogger(__name__)

R = t.TypeVar("R", bound=SandboxRecord | ContainerRecord)
V = t.TypeVar("V", bound=SandboxView | ContainerView)


class AmbiguousError(NotFound):
    """Report the beginning of an id that several objects share."""


class Table(t.Generic[R, V]):
    """The sandboxes, or the containers; writers hold the registry's lock, readers nothing.

    Readers look things up in dictionaries of immutable records, which CPython does in
    one step each.  What a reader builds while a writer changes something is not kept:
    `_generation` tells.
    """

    def __init__(self, name: str, kind: type[R], view: t.Callable[[R], V], what: str) -> None:
        self.name = name
        self.what = what
        self._kind: type[R] = kind
        self._view = view
        self._views: dict[str, V] = {}
        #: Name of each object, to its id.
        self._names: dict[str, str] = {}
        #: Keys of stored records that this version does not know.
        self._unknown: dict[str, dict[str, t.Any]] = {}
        self._generation = 0
        self._list: tuple[int, bytes] = (-1, b"")

    # ---- reading ------------------------------------------------------------------------------------------

    def records(self) -> list[R]:
        """Return all records, the oldest first."""
        return [t.cast(R, view.record) for view in list(self._views.values())]

    def get(self, object_id: str) -> R | None:
        """Return the record of exactly this id."""
        view = self._views.get(object_id)
        return None if view is None else t.cast(R, view.record)

    def named(self, name: str) -> R | None:
        """Return the record of exactly this name."""
        object_id = self._names.get(name)
        return None if object_id is None else self.get(object_id)

    def find(self, prefix: str) -> R:
        """Return the record of an id, or of the only id that begins so."""
        return t.cast(R, self._find(prefix).record)

    def shown(self, prefix: str) -> V:
        """Return the view of an object that clients may see."""
        view = self._find(prefix)
        if view.record.phase is Phase.CREATING:
            raise self._not_found(prefix)
        return view

    def _find(self, prefix: str) -> V:
        view = self._views.get(prefix)
        if view is not None:
            return view
        found = [
            view
            for view in list(self._views.values())
            if prefix and view.id.startswith(prefix) and view.record.phase is not Phase.CREATING
        ]
        if len(found) > 1:
            raise AmbiguousError(
                f"'{prefix[:70]}' begins the ids of {len(found)} {self.name}", hint="Give more of the id"
            )
        if not found:
            raise self._not_found(prefix)
        return found[0]

    def _not_found(self, prefix: str) -> NotFound:
        return NotFound(f"there is no {self.what} '{prefix[:70]}'")

    def views(self, wanted: Filter | None = None) -> list[V]:
        """Return the views that clients may see and a filter lets through."""
        views = [view for view in list(self._views.values()) if view.record.phase is not Phase.CREATING]
        if wanted is None or is_empty(wanted):
            return views
        matches = matcher(wanted)
        return [view for view in views if matches(view)]

    def list_bytes(self, wanted: Filter | None = None) -> bytes:
        """Return the answer to a list request."""
        if not is_empty(wanted):
            return b"".join([view.item for view in self.views(wanted)])
        generation = self._generation
        built, answer = self._list
        if built != generation:
            answer = b"".join([view.item for view in self.views()])
            self._list = (generation, answer)
        return answer

    # ---- writing ------------------------------------------------------------------------------------------

    def reserve(self, database: Database, record: R, *, same: t.Callable[[R], bool]) -> R:
        """Add a record, or return the one that has its name and is the ``same``; raises Conflict."""
        holder = self.named(record.name)
        if holder is not None:
            if same(holder):
                return holder
            raise Conflict(
                f"name '{record.name}' is taken by {self.what} {holder.id}",
                hint="Remove that one, or count the attempt up",
            )
        if record.id in self._views:
            raise Conflict(f"there is a {self.what} with id {record.id}")
        self.add(database, record)
        return record

    def add(self, database: Database, record: R) -> None:
        """Write a record whose name and id are free."""
        database.insert(self.name, record.id, record.name, self._text(record), record.config)
        self.show(record)

    def replace(self, database: Database, old: R, new: R) -> None:
        """Write a changed record."""
        config = None if new.config == old.config else new.config
        database.update(self.name, new.id, self._text(new), config)
        self.show(new)

    def delete(self, database: Database, object_id: str) -> None:
        """Remove an object's row."""
        database.delete(self.name, object_id)

    def write(self, database: Database, object_id: str) -> None:
        """Write an object as it is in memory, or that it is gone."""
        record = self.get(object_id)
        if record is None:
            database.delete(self.name, object_id)
        else:
            database.update(self.name, object_id, self._text(record))

    def forget(self, object_id: str) -> R | None:
        """Drop an object from memory, free its name, and return what it was."""
        view = self._views.pop(object_id, None)
        self._unknown.pop(object_id, None)
        record = None if view is None else t.cast(R, view.record)
        if record is not None:
            self._names.pop(record.name, None)
        self._generation += 1
        return record

    def show(self, record: R) -> None:
        """Put a record into memory, in place of the one that had its id."""
        self._views[record.id] = self._view(record)
        self._names[record.name] = record.id
        # After the view: a list that is being built from the old one is not taken for current.
        self._generation += 1

    def _text(self, record: R) -> str:
        plain = codec.to_plain(record, without=("config", "id", "name"))
        return json.dumps({**self._unknown.get(record.id, {}), **plain}, separators=(",", ":"))

    # ---- start --------------------------------------------------------------------------------------------

    def load(self, database: Database) -> None:
        """Take up what the database holds; what cannot be read is kept and shown as UNKNOWN."""
        for row in database.load(self.name):
            if not is_id(row.id):
                _log.error("%s row with id %r is left alone: that is no id", self.name, row.id)
                continue
            try:
                record, unknown = self._read(row)
            except (ValueError, TypeError) as exc:
                _log.error("the record of %s %s cannot be read and is kept: %s", self.what, row.id, exc)
                database.keep_damaged(row)
                record, unknown = self._damaged(row, exc), {}
            if unknown:
                self._unknown[row.id] = unknown
            self.show(record)

    def _read(self, row: Row) -> tuple[R, dict[str, t.Any]]:
        if not isinstance(row.config, bytes):
            raise ValueError("its config is missing")
        if not isinstance(row.name, str) or not isinstance(row.record, str):
            raise ValueError("it is no text")
        plain = json.loads(row.record)
        return codec.from_plain(self._kind, plain, id=row.id, name=row.name, config=row.config)

    def _damaged(self, row: Row, problem: Exception) -> R:
        """Return what can be told of an object whose record cannot be read."""
        known: dict[str, t.Any] = {}
        with contextlib.suppress(ValueError, TypeError):
            plain = json.loads(row.record)
            for name, kind in (("sandbox_id", "str"), ("created_at_ns", "int"), ("log_path", "str")):
                with contextlib.suppress(ValueError, KeyError):
                    known[name] = codec.plain_value(name, kind, plain[name])
        fields = {field.name for field in dataclasses.fields(self._kind)}
        values: dict[str, t.Any] = {"created_at_ns": 0}
        if "sandbox_id" in fields:
            values["sandbox_id"] = ""
        values |= {name: value for name, value in known.items() if name in fields}
        return self._kind(
            id=row.id,
            name=row.name if isinstance(row.name, str) else row.id,
            config=row.config if isinstance(row.config, bytes) else b"",
            phase=Phase.UNKNOWN,
            message=f"its record cannot be read: {problem}",
            **values,
        )

    def rewrite(self, database: Database) -> None:
        """Write all that is in memory into an empty database."""
        for record in self.records():
            database.insert(self.name, record.id, record.name, self._text(record), record.config)
