# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write checkpoint archives: beside their place, readable by root alone, synced, renamed when whole."""

from __future__ import annotations

import contextlib
import os
import stat
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import sync_directory
from pvecri.checks import clean_path

#: End of the name of an archive in the making.
UNFINISHED: t.Final = ".unfinished"


def check_target(path: str, field: str) -> str:
    """Return where an archive is to be, in its shortest form; raises InvalidSpec where it cannot.

    A file that is there is replaced; a link, a device or a directory is not.
    """
    if not path:
        raise InvalidSpec(field, "is missing", hint="Give the absolute path of the archive")
    clean = clean_path(path, field)
    directory = os.path.dirname(clean)
    if not os.path.isdir(directory):
        raise InvalidSpec(field, f"{directory} is no directory", hint="Make it first")
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISREG(os.lstat(clean).st_mode):
            raise InvalidSpec(field, f"{clean} is there and is no regular file")
    return clean


def unfinished(path: str, key: str) -> str:
    """Return the name of an archive in the making; ``key`` tells one attempt from another."""
    directory, name = os.path.split(path)
    # A file name has 255 bytes at most.
    return os.path.join(directory, f".{name[:100]}.{key}{UNFINISHED}")


def write_archive(path: str, temporary: str, directory: str) -> int:
    """Write all that is in ``directory`` into the archive ``path``, and return its size in bytes.

    Until it is whole it is ``temporary``, which is removed when it cannot be written.
    """
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as output:
            with tarfile.open(fileobj=output, mode="w", format=tarfile.GNU_FORMAT) as tar:
                tar.add(directory, arcname=".", filter=_plain)
            output.flush()
            os.fsync(output.fileno())
            size = output.tell()
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_directory(os.path.dirname(path))
    return size


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o700 if member.isdir() else 0o600
    member.name = member.name.removeprefix("./")
    return member
