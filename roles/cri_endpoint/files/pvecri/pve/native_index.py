# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember which templates clients have pulled, under which names, and whose files they are.

A template that lay on the storage before is its administrator's: forgetting it leaves the
file.  One that this endpoint has fetched goes with its last name.
"""

from __future__ import annotations

import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.files import write_atomic
from pvecri.pve.template_volume import TemplateVolume


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record(TemplateVolume):
    """One template."""

    #: SHA-256 of the file, 64 hexadecimal digits.
    id: str
    #: ``lxc/NAME:VERSION``, the one of the file itself first.
    names: tuple[str, ...]
    architecture: str
    #: Whether this endpoint has fetched it.
    is_own: bool
    #: What the file had to have, as it is configured; empty for those of Proxmox's own list.
    sha512: str = ""


@dataclasses.dataclass(slots=True)
class Listed:
    """What the list holds."""

    #: Templates by id.
    records: dict[str, Record] = dataclasses.field(default_factory=dict)
    #: Files that the node was asked to fetch: this endpoint's also when it was killed meanwhile.
    fetching: set[str] = dataclasses.field(default_factory=set)


def load(path: str) -> Listed:
    """Return the list; raises WrongState for a damaged file, which says whose files are whose."""
    try:
        with open(path, "rb") as stream:
            raw = json.load(stream)
        records = {entry["id"]: _record(entry) for entry in raw["templates"]}
        return Listed(records, {str(file) for file in raw.get("fetching", ())})
    except FileNotFoundError:
        return Listed()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise WrongState(
            f"the list of templates {path} is damaged: {exc}",
            hint="Templates are pulled again; files on the storage stay",
        ) from exc


def save(path: str, listed: Listed) -> None:
    """Replace the list."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    document = {
        "templates": [dataclasses.asdict(record) for record in listed.records.values()],
        "fetching": sorted(listed.fetching),
    }
    write_atomic(path, json.dumps(document).encode(), mode=0o600, durable=True)


def _record(entry: dict[str, t.Any]) -> Record:
    known = {field.name: entry[field.name] for field in dataclasses.fields(Record) if field.name in entry}
    return Record(
        **{
            **known,
            "names": tuple(entry["names"]),
            "stamp": tuple(int(part) for part in entry["stamp"]),
        }
    )
