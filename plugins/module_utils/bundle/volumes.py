# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep volumes: directories that outlive what is written over an image.

A named volume lies in ``paths.volumes`` and outlives every container.  An
anonymous one, as an image asks for by VOLUME, lies in the bundle and goes with it.
A new volume begins with what the image has at the place where it is mounted.
"""

from __future__ import annotations

import contextlib
import os
import re

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.copy_tree import copy_tree
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked, remove_tree
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


def check_volume_name(name: str, field: str) -> str:
    """Return ``name``; raises InvalidSpec for ``field`` when it cannot name a volume."""
    if not _NAME.fullmatch(name):
        raise InvalidSpec(
            field,
            f"{name!r} is no volume name",
            hint="Use letters, digits, '_', '.' and '-'; the path of a host directory needs kind 'bind'",
        )
    return name


def named_volume(paths: Paths, name: str, content: int | None, *, owner: tuple[int, int] = (0, 0)) -> str:
    """Return the directory of a named volume, made and filled if it does not exist.

    ``content`` is a descriptor of the image's directory to begin with; ``owner`` is
    used without one.  A volume is made beside its place and renamed, so that it is
    there with all its content or not at all.
    """
    path = os.path.join(paths.volumes, name)
    if os.path.isdir(path):
        return path
    lock = os.path.join(paths.locks, f"volume-{name}.lock")
    with locked(lock, timeout_s=3600, what=f"volume {name}"):
        if not os.path.isdir(path):
            os.makedirs(paths.volumes, mode=0o711, exist_ok=True)
            # One fixed name: what a killed process left there is seen, and the lock says that it is dead.
            temporary = os.path.join(paths.volumes, f".new.{name}")
            if os.path.lexists(temporary):
                remove_tree(temporary)
            fill(temporary, content, owner)
            os.rename(temporary, path)
    return path


def fill(path: str, content: int | None, owner: tuple[int, int] = (0, 0)) -> None:
    """Make the directory ``path`` with what ``content`` holds; nothing of it stays when that fails."""
    os.mkdir(path, 0o755)
    try:
        if content is None:
            os.chown(path, *owner)
            return
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copy_tree(content, handle)
        finally:
            os.close(handle)
    except OSError as exc:
        with contextlib.suppress(OSError):
            remove_tree(path)
        raise CoreError(
            f"the image's content cannot be copied to {path}: {os.strerror(exc.errno or 0)}",
            hint="Make room on its file system" if exc.errno == 28 else None,
        ) from exc
    except BaseException:
        with contextlib.suppress(OSError):
            remove_tree(path)
        raise
