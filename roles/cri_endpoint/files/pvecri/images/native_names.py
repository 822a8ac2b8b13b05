# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read how clients name templates of Proxmox LXC.  Pure.

    lxc/debian-12-standard           the newest version
    lxc/debian-12-standard:12.7-1    that version
    lxc/debian-12-standard@sha256:…  what was pulled before, by the digest of the file

A name with a registry before it, as ``docker.io/lxc/…``, is that of an image like any other.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (
    DEFAULT_TAG,
    ImageReference,
)

PREFIX = "lxc/"


@dataclasses.dataclass(frozen=True, slots=True)
class NativeName:
    """What a client calls a template."""

    name: str
    tag: str
    digest: str = ""

    @property
    def canonical(self) -> str:
        """The whole name, with a digest or else a tag."""
        return f"{PREFIX}{self.name}@{self.digest}" if self.digest else self.tagged(self.tag)

    def tagged(self, tag: str) -> str:
        """Return the name with another tag."""
        return f"{PREFIX}{self.name}:{tag}"


def is_native_text(text: str) -> bool:
    """Say whether a client means a template: ``lxc/NAME`` without a registry before it."""
    return text.startswith(PREFIX) and text.count("/") == 1


def parse_native(text: str, field: str = "image.image") -> NativeName:
    """Return what a text means that `is_native_text`; raises InvalidSpec for ``field``."""
    reference = ImageReference.parse(text, field=field)
    name = reference.repository.removeprefix(PREFIX)
    return NativeName(name, reference.tag or DEFAULT_TAG, reference.digest or "")
