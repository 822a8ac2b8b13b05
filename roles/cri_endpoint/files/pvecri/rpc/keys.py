# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a request is about, and whether two ask for the same."""

from __future__ import annotations

import hashlib
import typing as t

from google.protobuf.message import Message

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from pvecri.state.records import ContainerRecord, SandboxRecord
from pvecri.state.table import AmbiguousError


def settled(message: Message) -> str:
    """Return what is the same for equal messages only: a hash, since a config's secrets are not for the log.

    Maps are put in order first: a client that repeats itself may shuffle them.
    """
    return hashlib.sha256(message.SerializeToString(deterministic=True)).hexdigest()


def known(find: t.Callable[[str], SandboxRecord | ContainerRecord], wanted: str) -> str | None:
    """Return the whole id of an object, None when it is gone and there is nothing to stop or remove.

    Raises AmbiguousError for the beginning of several ids.
    """
    try:
        return find(wanted).id
    except AmbiguousError:
        raise
    except NotFound:
        return None
