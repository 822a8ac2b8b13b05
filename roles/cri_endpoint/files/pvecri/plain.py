# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show stored messages as plain data, to people."""

from __future__ import annotations

import typing as t

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError, Message


def plain_message(kind: type[Message], data: bytes) -> dict[str, t.Any]:
    """Return a message with the names of the protocol; what it cannot be read for is said in its place."""
    try:
        found: dict[str, t.Any] = MessageToDict(kind.FromString(data), preserving_proto_field_name=True)
    except (DecodeError, UnicodeDecodeError) as exc:
        return {"unreadable": str(exc), "bytes": len(data)}
    return found
