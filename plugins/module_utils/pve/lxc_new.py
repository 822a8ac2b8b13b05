# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Create one container that does not exist: choose node, storage and id, and join whoever was faster.

The create request itself is what decides a race, for Proxmox VE gives an id only
once.  The id is derived from the host name, so that two plays which create the
same container meet at the same id; and so does a play that is run again after
it was killed, while the task that it had begun goes on.
"""

from __future__ import annotations

import abc
import dataclasses
import typing as t
import zlib

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    ApiError,
    CommandTimeout,
    Conflict,
    CoreError,
    InvalidSpec,
    MissingPrivilege,
    NotFound,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import (
    lxc_create,
    lxc_privileges,
    placement,
    template,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import ClusterView, Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc import Container
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_plan import Actual
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_session import Found, Session
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import LxcSpec, SourceKind

#: How often an id that became free while we looked at it is tried again.
_TRIES_PER_ID = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Placed:
    """Where a container goes, and why."""

    node: str
    storage: str | None
    reason: str
    candidates: tuple[placement.Candidate, ...] = ()

    def as_dict(self) -> dict[str, t.Any]:
        """Return what a module shows."""
        return {
            "node": self.node,
            "storage": self.storage,
            "reason": self.reason,
            "candidates": [candidate.as_dict() for candidate in self.candidates],
        }


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """The container, whether this run made it, and where it went."""

    container: Container
    is_new: bool
    placed: Placed


def candidate_ids(spec: LxcSpec, taken: t.Container[int]) -> t.Iterator[int]:
    """Yield the ids to try, in an order that depends on the host name and the range alone."""
    if spec.vmid is not None:
        yield spec.vmid
        return
    first, last = spec.vmid_range
    size = last - first + 1
    start = zlib.crc32((spec.hostname or "").encode()) % size
    for step in range(size):
        vmid = first + (start + step) % size
        if vmid not in taken:
            yield vmid


def create(session: Session, spec: LxcSpec) -> Made:
    """Create the container, or join the one that another play is creating.

    Raises Conflict when no id or no node is left, and the errors of the requests.
    """
    source = spec.creation.source
    if source is not None and source.kind is SourceKind.CLONE:
        return _Clone(session, spec).make()
    return _Create(session, spec).make()


class _Maker(abc.ABC):
    """What creating and cloning have in common."""

    def __init__(self, session: Session, spec: LxcSpec) -> None:
        self.session = session
        self.spec = spec
        self.placed: Placed

    @abc.abstractmethod
    def prepare(self) -> None:
        """Find out what the create needs, before anything is made."""

    @abc.abstractmethod
    def send(self, vmid: int) -> None:
        """Ask the server for a container of this id."""

    def make(self) -> Made:
        """Try one id after the other."""
        self.prepare()
        for vmid in self._claims():
            for _try in range(_TRIES_PER_ID):
                joined = self._attempt(vmid)
                if joined is True:
                    self.session.log(f"created container {vmid} on node {self.placed.node}")
                    return Made(self.session.container(self.placed.node, vmid), True, self.placed)
                if isinstance(joined, Container):
                    self.session.log(f"joined the creation of container {vmid} by somebody else")
                    return Made(joined, False, self.placed)
                if joined is False:
                    break
            if self.spec.vmid is not None:
                raise Conflict(
                    f"the id {vmid} is in use by another guest, or by one that the user may not see",
                    hint="Name another vmid, or give the user VM.Audit on it",
                )
        first, last = self.spec.vmid_range
        raise Conflict(f"every id from {first} to {last} is in use", hint="Widen vmid_range")

    def _claims(self) -> t.Iterator[int]:
        # Locked in creation, a container has no name yet: it may be the one that is wanted.
        guests = {} if self.spec.vmid is not None else self.session.view().guests
        taken = {vmid for vmid, guest in guests.items() if guest.lock != "create"}
        for vmid in candidate_ids(self.spec, taken):
            with self.session.lock:
                if vmid in self.session.claimed:
                    continue
                self.session.claimed.add(vmid)
            yield vmid

    def _attempt(self, vmid: int) -> bool | Container | None:
        """Send the request: True if it made the container, False if the id is somebody else's.

        A container is one that was joined; None asks for another try of the same id.
        """
        try:
            self.send(vmid)
        except ApiError as exc:
            if exc.is_unreachable and not exc.maybe_done:
                raise
            if not self._is_taken(vmid):
                raise
            return self._join(vmid)
        return True

    def _is_taken(self, vmid: int) -> bool:
        try:
            self.session.client.get("/cluster/nextid", vmid=vmid)
        except InvalidSpec:
            return True
        return False

    def _join(self, vmid: int) -> bool | Container | None:
        """Wait until the container of that id has a name, and return it if it is the one wanted."""
        session, spec = self.session, self.spec
        deadline = session.clock() + session.client.connection.task_timeout_s
        while True:
            guest = session.view(afresh=True).guests.get(vmid)
            if guest is None:
                # Created and removed again by a task that failed, or invisible to this user.
                return False if self._is_taken(vmid) else None
            if guest.type != "lxc":
                return False
            container, actual = self._peek(guest)
            if actual is not None and actual.lock != "create":
                named = spec.hostname is None or actual.hostname == spec.hostname
                return container if named and actual.is_ours else False
            if session.clock() >= deadline:
                raise CommandTimeout(
                    f"container {vmid} on node '{guest.node}' is still being created by somebody else",
                    hint=f"Look at its task; 'pct unlock {vmid}' and 'pct destroy {vmid}' remove a dead one",
                )
            session.sleep(0.2)

    def _peek(self, guest: Guest) -> tuple[Container, Actual | None]:
        container = self.session.container(guest.node, guest.vmid)
        try:
            return container, container.read()
        except ApiError as exc:
            if exc.is_unreachable:
                raise
            return container, None


class _Create(_Maker):
    """Create from a template or an image."""

    def prepare(self) -> None:
        self.placed, self.template = self._place()
        first = next(iter(candidate_ids(self.spec, ())))
        params = self._params(first)
        spec, client = self.spec, self.session.client
        root_keys = lxc_privileges.root_only(
            params, config={}, unprivileged=spec.creation.unprivileged is not False
        )
        ha = spec.ha is not None and spec.ha.managed
        needs = lxc_privileges.for_create(params, ha=ha, start=spec.wants_running)
        lxc_privileges.check(client, needs, root_keys, self.session.permissions)

    def send(self, vmid: int) -> None:
        self.session.container(self.placed.node, vmid).create(self._params(vmid))

    def _params(self, vmid: int) -> dict[str, t.Any]:
        return lxc_create.create_params(
            self.spec,
            vmid,
            ostemplate=self.template.volid,
            storage=self.placed.storage,
            is_oci=self.template.is_oci,
        )

    def _place(self) -> tuple[Placed, template.Template]:
        """Return where the container goes, with its template there."""
        session, spec = self.session, self.spec
        need = placement.need_of(spec, template_storage=_template_storage(spec))
        if spec.node is not None:
            storage = None
            if None in need.disks:
                storage = placement.storage_on(session.view(), spec.node, need)
                if storage is None:
                    raise InvalidSpec(
                        "storage",
                        f"is missing, and on node '{spec.node}' none that takes containers is visible",
                        hint="Name it, or give the user Datastore.Audit on it",
                    )
            return Placed(spec.node, storage, "the task names it"), self._template(spec.node)
        with session.lock:
            ranked = placement.rank(session.view(), need, session.ledger())
            problems: list[CoreError] = []
            for candidate in placement.require_eligible(ranked):
                try:
                    found = self._template(candidate.node)
                except NotFound as exc:
                    problems.append(exc)
                    continue
                session.ledger().book(need, candidate)
                placed = Placed(candidate.node, candidate.storage, candidate.reason, tuple(ranked))
                return placed, found
            raise problems[0]

    def _template(self, node: str) -> template.Template:
        """Return the template on a node; each is fetched or looked for once in a run."""
        session, source = self.session, self.spec.creation.source
        key = (node, source, self.spec.scalars.get("arch"))
        with session.lock:
            if key not in session.templates:
                session.templates[key] = self._look_up_template(node)
            return t.cast("template.Template", session.templates[key])

    def _look_up_template(self, node: str) -> template.Template:
        session, source = self.session, self.spec.creation.source
        found = template.prepare(session.client, node, self.spec, runner=session.runner, here=session.here)
        if source is not None and source.kind is SourceKind.TEMPLATE and ":" in source.name:
            try:
                template.require_template(session.client, node, source.name)
            except MissingPrivilege:
                # Who may use a storage may not always list it; the server decides.
                session.log(f"cannot list the templates on {source.name.partition(':')[0]}")
        return found


def _template_storage(spec: LxcSpec) -> str | None:
    source = spec.creation.source
    if source is None:
        return None
    if source.kind is SourceKind.IMAGE or source.is_appliance:
        return source.image_storage
    return source.name.partition(":")[0] if ":" in source.name else None


class _Clone(_Maker):
    """Clone from another container, on the node where that one is."""

    def prepare(self) -> None:
        spec = self.spec
        self.origin = find_origin(self.session, spec)
        origin = self.origin.actual
        wanted = spec.creation.unprivileged
        if wanted is not None and wanted != origin.is_unprivileged:
            raise InvalidSpec(
                "unprivileged", f"a clone is what container {origin.vmid} is, and cannot differ"
            )
        self.placed = Placed(origin.node, spec.creation.storage, f"container {origin.vmid} is there")
        params = self._params(next(iter(candidate_ids(spec, ()))))
        ha = spec.ha is not None and spec.ha.managed
        needs = lxc_privileges.for_clone(params, origin.vmid, ha=ha, start=spec.wants_running)
        lxc_privileges.check(self.session.client, needs, (), self.session.permissions)
        self.origin.container.wait_unlocked(spec.conduct.lock_timeout_s)

    def send(self, vmid: int) -> None:
        self.origin.container.clone_to(self._params(vmid))

    def _params(self, vmid: int) -> dict[str, t.Any]:
        origin = self.origin.actual
        return lxc_create.clone_params(
            self.spec, vmid, source_is_template=origin.is_template, origin=origin.vmid
        )


def find_origin(session: Session, spec: LxcSpec) -> Found:
    """Return the container that ``spec`` is a clone of; raises NotFound, Conflict."""
    source = spec.creation.source
    name = source.name if source else ""
    view = session.view()
    guest = view.container(int(name)) if name.isdecimal() else _by_hostname(view, name)
    container = session.container(guest.node, guest.vmid)
    return Found(container, container.read())


def _by_hostname(view: ClusterView, name: str) -> Guest:
    named = view.named(name)
    if len(named) != 1:
        where = ", ".join(f"{guest.vmid} on node '{guest.node}'" for guest in named)
        if named:
            raise Conflict(f"clone: several containers are named '{name}': {where}", hint="Name its vmid")
        raise NotFound(f"clone: no container is named '{name}'", hint="Check the name, or name its vmid")
    return named[0]
