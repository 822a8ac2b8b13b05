# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember of a container what crun forgets with a reboot: one small JSON file each."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.crun.layout import Layout, records
from ansible_collections.pvecri.runtime.plugins.module_utils.files import (
    record_names,
    remove_temporaries,
    write_atomic,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What was created, where and when; times are seconds of the epoch."""

    name: str
    bundle: str
    log_path: str
    log_size_max: int | None = None
    log_max_files: int = 1
    boot_id: str
    created_at: float
    #: None: created and not started.
    started_at: float | None = None
    #: False while the create is under way; a record that stays so is that of a create that was cut short.
    is_complete: bool = False

    @property
    def has_rotation(self) -> bool:
        """Say whether older log files are kept."""
        return self.log_size_max is not None and self.log_max_files > 1


def save(layout: Layout, record: Record) -> None:
    """Write the record of a container."""
    write_atomic(layout.record, json.dumps(dataclasses.asdict(record)).encode(), mode=0o600)


def load(layout: Layout) -> Record | None:
    """Return the record of a container; None when there is none or it cannot be read."""
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError, AttributeError):
        with open(layout.record, "rb") as stream:
            values: dict[str, t.Any] = json.load(stream)
        known = {field.name for field in dataclasses.fields(Record)}
        return Record(**{key: value for key, value in values.items() if key in known})
    return None


def names(paths: Paths) -> list[str]:
    """Return the names of all containers on record, sorted."""
    return record_names(records(paths))


def remove(layout: Layout) -> None:
    """Forget a container; nothing happens when it is forgotten already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(layout.record)
    remove_temporaries(layout.record)
