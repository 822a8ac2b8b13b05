# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look into the file of a template: its digest, and the files by which users and groups are known.

Nothing is unpacked to disk; zstd(1) is asked to read what Python cannot.
"""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import tarfile
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils import streams
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState

#: What is kept of a template, by its path there.
USER_FILES: t.Final = ("etc/passwd", "etc/group")
#: More is no list of users.
_LARGEST = 1 << 20


def digest_of(path: str, algorithm: str) -> str:
    """Return the digest of a file, in hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, algorithm).hexdigest()


def user_files(path: str) -> dict[str, bytes]:
    """Return what a template has of `USER_FILES`; raises WrongState for a file that is no template.

    Raises MissingDependency for one that only zstd(1) could read, where that is missing.
    """
    found: dict[str, bytes] = {}
    try:
        with _plain(path) as plain, tarfile.open(fileobj=plain, mode="r|*") as archive:
            for member in archive:
                name = member.name.removeprefix("./").lstrip("/")
                if name in USER_FILES and member.isreg() and member.size <= _LARGEST:
                    content = archive.extractfile(member)
                    found[name] = content.read() if content is not None else b""
                if len(found) == len(USER_FILES):
                    break
    except (tarfile.TarError, EOFError, OSError) as exc:
        raise WrongState(
            f"{path} cannot be read as a template: {exc}", hint="Remove the file and pull it again"
        ) from exc
    return found


@contextlib.contextmanager
def _plain(path: str) -> t.Iterator[t.IO[bytes]]:
    """Provide the archive, without zstd's packing."""
    if not path.endswith(".zst"):
        with open(path, "rb") as stream:
            yield stream
        return
    child = streams.spawn(
        ["zstd", "--decompress", "--quiet", "--stdout", "--", path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield t.cast("t.IO[bytes]", child.stdout)
    finally:
        streams.end(child)
