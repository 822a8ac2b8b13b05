# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the places in which a container leaves something, so that looking for it needs no driver."""

from __future__ import annotations

import os

from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

UNIT_DIR = "/etc/systemd/system"


def unit_name(container: str) -> str:
    """Return the name of the unit of a container; container names need no escaping in it."""
    return f"pvecri-{container}.service"


def has_unit(container: str) -> bool:
    """Tell whether there is a unit of that name, ours or not."""
    return os.path.exists(os.path.join(UNIT_DIR, unit_name(container)))


def wrapper_folder(paths: Paths) -> str:
    """Return the directory that holds one wrapper for each container from a bundle made elsewhere."""
    return os.path.join(paths.state_dir, "wrappers", paths.owner.value)


def bundle_folders(paths: Paths) -> tuple[str, str]:
    """Return the directories that hold containers' bundles."""
    return wrapper_folder(paths), paths.bundles


def names_in(folder: str) -> list[str]:
    """Return the names of the bundles in a directory; those in the making are none."""
    try:
        return [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        return []


def pinned_namespace(paths: Paths, name: str) -> str:
    """Return the path of the network namespace that a container has of its own."""
    return os.path.join(paths.run_dir, "netns", paths.owner.value, name)


def files_folder(paths: Paths, name: str) -> str:
    """Return the directory of a container's resolver files."""
    return os.path.join(paths.state_dir, "network", paths.owner.value, name)


def is_attached(paths: Paths, name: str) -> bool:
    """Tell whether CNI's cache knows the container; only then its driver has something to say."""
    cache = os.path.join(paths.state_dir, "cni", paths.owner.value)
    return any(entry.startswith(f"{name}@") for entry in names_in(cache))


def has_network(paths: Paths, name: str) -> bool:
    """Tell whether the container has a namespace or addresses of its own, or what is left of them."""
    return os.path.lexists(pinned_namespace(paths, name)) or is_attached(paths, name)
