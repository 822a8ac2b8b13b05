# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out where mounts of a guest really are: LXC mounts nothing on a path that leads through a link.

Kubernetes mounts tokens below /var/run, which nearly every image has as a link to /run.  With such a path
LXC would refuse to start the guest, or make the missing directories on the host.
"""

from __future__ import annotations

import os
import posixpath
import stat
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Json

#: Linux' own limit (path_resolution(7)).
_LINKS_MAX: t.Final = 40

#: These are LXC's own, whatever the image has there.
_MADE_BY_LXC: t.Final = ("dev", "proc", "sys")

#: Links that every system has which is newer than 2012; of a template nothing else is known.
_USUAL_LINKS: t.Final = {"/var/run": "/run", "/var/lock": "/run/lock"}


def resolved(config: t.Mapping[str, t.Any], rootfs: str | None) -> Json:
    """Return a config.json whose bind mounts have real destinations, parents before what lies below them.

    ``rootfs`` is where the image is mounted; None: it is not to be seen, as a template's.  Raises
    InvalidSpec for a link that leads nowhere.
    """
    mounts = []
    for index, mount in enumerate(config.get("mounts") or ()):
        if mount.get("type") != "bind":
            mounts.append(mount)
            continue
        place = real_path(mount["destination"], rootfs, f"mounts[{index}].destination")
        mounts.append({**mount, "destination": place})
    mounts.sort(key=lambda mount: str(mount["destination"]).count("/"))
    return {**config, "mounts": mounts}


def real_path(path: str, rootfs: str | None, field: str) -> str:
    """Return a path of a guest without links; what is not there yet has none.

    The parts that were found are no links, so that nothing outside ``rootfs`` is ever looked at.
    """
    if rootfs is None:
        return _usual(posixpath.normpath(path))
    left = _parts(path)
    done: list[str] = []
    links = 0
    while left:
        part = left.pop(0)
        if part == "..":
            del done[-1:]
            continue
        done.append(part)
        if done[0] in _MADE_BY_LXC:
            continue
        here = os.path.join(rootfs, *done)
        try:
            is_link = stat.S_ISLNK(os.lstat(here).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not is_link:
            continue
        links += 1
        target = os.readlink(here)
        done = [] if target.startswith("/") else done[:-1]
        left = [*_parts(target), *left]
        if links > _LINKS_MAX:
            raise InvalidSpec(field, f"the links of the image at '{path}' lead nowhere")
    if not done:
        raise InvalidSpec(field, f"'{path}' is a link to the rootfs itself, which cannot be mounted over")
    return "/" + "/".join(done)


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _usual(path: str) -> str:
    for link, target in _USUAL_LINKS.items():
        if path == link or path.startswith(f"{link}/"):
            return target + path[len(link) :]
    return path
