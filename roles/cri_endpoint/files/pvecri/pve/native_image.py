# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stand for a template of Proxmox LXC where an image is expected.

Its root file system lies packed on a storage, and only Proxmox VE unpacks it.  What is here
is one layer with its files of users and groups, by which a container's user is looked up.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    GivenSource,
    RootfsSource,
    StoredSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import Selection
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class NativeImage(Image):
    """A template; its id is the SHA-256 of the file."""

    #: Volume id, as ``local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst``.
    volid: str
    #: The file on this node.
    path: str


def is_native(image: Image) -> bool:
    """Say whether an image is a template of Proxmox LXC."""
    return isinstance(image, NativeImage)


def source_of(image: Image, reference: str) -> RootfsSource:
    """Return what a bundle of an image is made of; ``reference`` is what a client called it."""
    if is_native(image):
        return GivenSource(image=image, reference=reference)
    return StoredSource(image_id=image.id, reference=reference)


def refuse_elsewhere(image: Image, selection: Selection) -> None:
    """Raise Unsupported when another runtime than Proxmox LXC was selected for a template."""
    if is_native(image) and selection.runtime is not Runtime.PVE_LXC:
        name = image.names[0] if image.names else image.id
        raise Unsupported(
            f"config.image.image: {name} is a template of Proxmox LXC, which {selection.runtime} cannot run; "
            f"{selection.runtime} was selected because {selection.reason}",
            hint="Give the pod the runtime handler pve-lxc or change the policy; or name an image of a "
            "registry, with the registry in its name",
        )
