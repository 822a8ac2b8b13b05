# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at images that lie in files: what tells one content of a path from another.

An archive is told by its inode and times, a layout by its index, so that
nothing big is read to learn that nothing has changed.
"""

from __future__ import annotations

import hashlib
import os
import stat

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import Location, Transport
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store_files import find_in_host_store


def local_state(location: Location) -> str:
    """Return a text that changes with the content behind a local location; raises NotFound."""
    if location.transport is Transport.CONTAINERS_STORAGE:
        return find_in_host_store(location.path).id
    if location.transport is Transport.OCI:
        return _file_hash(os.path.join(location.path, "index.json"), str(location), "an OCI image layout")
    if location.transport is Transport.DIR:
        return _file_hash(os.path.join(location.path, "manifest.json"), str(location), "an image directory")
    return file_state(location.path, str(location))


def tarball_state(path: str) -> str:
    """Return a text that changes with the archive at ``path``; raises NotFound."""
    return file_state(path, path)


def file_state(path: str, what: str) -> str:
    """Return a text of a regular file's identity, size and times."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(f"{what} does not exist", hint=f"Check the path {path} on the target host") from exc
    if not stat.S_ISREG(status.st_mode):
        raise InvalidSpec("image", f"{what} is no regular file")
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _file_hash(path: str, what: str, kind: str) -> str:
    try:
        with open(path, "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise NotFound(
            f"{what} does not exist: there is no {path}", hint=f"The path must be that of {kind}"
        ) from exc
