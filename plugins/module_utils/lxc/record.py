# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember how far the making of an LXC container came: one JSON file each, written before each act.

It is the journal from which a killed process's successor knows what there may be at Proxmox VE and
on this host, and what ties a pod's container to a vmid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import os
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    record_names,
    remove_temporaries,
    write_atomic,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.layout import LxcLayout, records
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

#: The host's ids of an unprivileged container, as Proxmox VE has it: the first, and how many.
ID_OFFSET: t.Final = 100_000
ID_COUNT: t.Final = 65536

#: A change is read, made and written: two threads that note something must not undo each other's.
_amending = threading.Lock()


class Stage(enum.StrEnum):
    """What is about to be done, or was done last."""

    #: The vmid is ours by this record alone.
    CLAIMED = "claimed"
    #: Proxmox VE was, or is about to be, asked to create it.
    CREATING = "creating"
    #: Its configuration includes, or is about to include, our file.
    INCLUDED = "included"
    #: Everything was made; it can be started.
    READY = "ready"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DESTROYING = "destroying"


#: Stages of a container that is whole.
WHOLE: t.Final = frozenset({Stage.READY, Stage.STARTING, Stage.RUNNING, Stage.STOPPING})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LxcRecord:
    """One container; times are seconds of the epoch."""

    name: str
    vmid: int
    node: str
    sandbox_id: str
    bundle: str
    log_path: str
    boot_id: str
    created_at: float
    lxc_path: str
    stage: Stage = Stage.CLAIMED
    terminal: bool = False
    stdin: bool = False
    #: Close its standard input when the first who attached leaves.
    stdin_once: bool = False
    unprivileged: bool = True
    #: The host's id of the container's root.
    id_offset: int = 0
    #: None: never started.
    started_at: float | None = None
    #: Identifier of the endpoint whose container it is.
    endpoint: str = ""
    #: Volume id of the template it was made from.
    template: str = ""
    storage: str = ""
    #: Proxmox VE's tasks by what they do: create, start, stop, destroy.
    upids: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    config_digest: str = ""
    #: What is wrong with it, for people.
    problem: str = ""
    #: What a newer version wrote; kept as it is.
    extra: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)

    @property
    def is_whole(self) -> bool:
        """Say whether its making was finished, and its removal not begun."""
        return self.stage in WHOLE


_KNOWN: t.Final = {field.name for field in dataclasses.fields(LxcRecord)} - {"extra"}


def save(layout: LxcLayout, record: LxcRecord) -> None:
    """Write the record of a container; not even a power cut loses it, since others have what it tells of."""
    values = dataclasses.asdict(record)
    extra = values.pop("extra")
    data = json.dumps({**extra, **values}).encode()
    write_atomic(layout.record, data, mode=0o600, durable=True)


def load(layout: LxcLayout) -> LxcRecord | None:
    """Return the record of a container; None when there is none or it cannot be read."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, AttributeError, KeyError):
        with open(layout.record, "rb") as stream:
            values: dict[str, t.Any] = json.load(stream)
        known = {key: value for key, value in values.items() if key in _KNOWN}
        extra = {key: value for key, value in values.items() if key not in _KNOWN}
        known["stage"] = Stage(known["stage"])
        return LxcRecord(**known, extra=extra)
    return None


def loaded(layout: LxcLayout) -> LxcRecord:
    """Return the record of a container; raises NotFound, or WrongState for one that cannot be read."""
    record = load(layout)
    if record is not None:
        return record
    if exists(layout):
        raise WrongState(
            f"the record of container '{layout.name}' cannot be read: {layout.record}",
            hint="It alone says which container of Proxmox VE that is: remove that there, then this file",
        )
    raise NotFound(f"there is no container '{layout.name}'")


def amend(layout: LxcLayout, **changes: t.Any) -> LxcRecord:
    """Change fields of a record and return it; ``upids`` are added to those there are.

    Raises what `loaded` does.
    """
    with _amending:
        record = loaded(layout)
        if "upids" in changes:
            changes["upids"] = {**record.upids, **changes["upids"]}
        record = dataclasses.replace(record, **changes)
        save(layout, record)
    return record


def exists(layout: LxcLayout) -> bool:
    """Say whether there is a record, readable or not."""
    return os.path.exists(layout.record)


def names(paths: Paths) -> list[str]:
    """Return the names of all containers on record, sorted."""
    return record_names(records(paths))


def everyone(paths: Paths) -> list[LxcRecord]:
    """Return all records that can be read."""
    found = (load(LxcLayout(paths, name)) for name in names(paths))
    return [record for record in found if record is not None]


def remove(layout: LxcLayout) -> None:
    """Forget a container; nothing happens when it is forgotten already."""
    # Whoever notes the late answer of a task must not write anew what is forgotten meanwhile.
    with _amending:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(layout.record)
        remove_temporaries(layout.record)
