# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check paths and short texts that end up in a configuration."""

from __future__ import annotations

import posixpath
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

_PATH_MAX: t.Final = 4096


def check_text(text: str, field: str) -> str:
    """Return ``text`` unless it holds a NUL, which no argument of a system call can."""
    if "\0" in text:
        raise InvalidSpec(field, "holds a NUL character")
    return text


def check_absolute(path: str, field: str) -> str:
    """Return ``path`` if it is absolute and clean: no ``..``, no ``.``, no doubled slash.

    A slash at the end is taken off.  Cleanness matters because two spellings of one
    path would pass as two paths, and ``..`` would be resolved by somebody else later.
    """
    check_text(path, field)
    if not path.startswith("/"):
        raise InvalidSpec(field, f"'{path}' is not an absolute path")
    if len(path.encode()) >= _PATH_MAX:
        raise InvalidSpec(field, f"the path is longer than {_PATH_MAX - 1} bytes")
    trimmed = path.rstrip("/") or "/"
    clean = "/" + posixpath.normpath(trimmed).lstrip("/")
    if trimmed != clean:
        raise InvalidSpec(field, f"'{path}' is not a clean path", hint=f"Write '{clean}'")
    return clean
