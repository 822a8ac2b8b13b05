# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a container's root file system is made from, so that two runs compare by content.

A name can mean another image tomorrow, and one image can have many names: what
counts is what the source resolves to.  The name is kept for people to read.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.container.compare import Plain
from ansible_collections.pvecri.runtime.plugins.module_utils.container.observe import Observation

if t.TYPE_CHECKING:
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import Rootfs
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import RootfsSource
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
    from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

#: Keys of a request that say what a container is made from; one of them is set.
KEYS = ("image", "tarball", "directory", "bundle")

_ASKS_ALWAYS = frozenset({"always", "newer"})


@dataclasses.dataclass(frozen=True, slots=True)
class Identity:
    """What a source is right now."""

    #: The part of a shaped request that says so.
    request: Plain
    #: Whether the source has to be asked before anything is decided.
    must_fetch: bool
    rootfs: Rootfs | None = None


def identify(source: RootfsSource, store: ImageStore, paths: Paths, observation: Observation) -> Identity:
    """Return what ``source`` is, compared with what the observed container was made from.

    Nothing is fetched.  A container whose image has left the store since it was made
    from the same name is still made from that image, unless the source shall be asked.
    Raises InvalidSpec and NotFound for a source that cannot be one.
    """
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.desired import (  # noqa: PLC0415
        find_rootfs,
    )
    from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (  # noqa: PLC0415
        ImageSource,
    )

    key = str(source.as_plain()["kind"])
    rootfs = find_rootfs(source, store, paths)
    must_ask = isinstance(source, ImageSource) and source.policy in _ASKS_ALWAYS
    record = observation.bundle.record if observation.bundle else None
    recorded = observation.intent.request.get(key) if observation.intent else None
    if record is not None and recorded is not None:
        if rootfs is None:
            # What is read from a path has another name in the store as soon as it changes.
            is_remote = isinstance(source, ImageSource) and not source.location().is_local
            is_same = is_remote and record.source == source.as_plain() and observation.broken is None
        else:
            is_same = _content(record.identity) == _content(rootfs.identity)
        if is_same:
            return Identity({key: recorded}, must_ask, rootfs)
    if rootfs is None:
        name = f"{_name(source)} (not in the image store)"
        return Identity({key: name}, must_fetch=True)
    return Identity({key: _described(source, rootfs)}, must_ask, rootfs)


def _content(identity: t.Mapping[str, t.Any]) -> Plain:
    # One image has a digest per registry and compression; its id is the same everywhere.
    return {key: value for key, value in identity.items() if key != "digest"}


def _name(source: RootfsSource) -> str:
    plain = source.as_plain()
    return str(plain.get("reference") or plain["path"])


def _described(source: RootfsSource, rootfs: Rootfs) -> t.Any:
    identity = rootfs.identity
    if "directory" in identity:
        return {"path": identity["directory"], "mode": identity["mode"]}
    name = _name(source)
    if "digest" in identity:
        return f"{name.partition('@')[0]}@{identity['digest']}"
    return f"{name} ({', '.join(layer[:12] for layer in identity['layers'])})"
