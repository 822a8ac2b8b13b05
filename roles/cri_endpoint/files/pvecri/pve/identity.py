# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mark containers of Proxmox VE as ours, and know them again; pure.

A container of ours has both tags, and in its notes one line that names the container it
is and the endpoint that made it.  Without all of these nothing is touched.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import split_tags
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG, TAG_CRI

TAGS: t.Final = (TAG, TAG_CRI)

_MARK: t.Final = "pvecri-cri:"
_LINE = re.compile(rf"^{_MARK} (?P<json>\{{.*\}})\s*$", re.MULTILINE)

#: Longest host name that DNS, and so Proxmox VE, takes.
_LABEL_MAX = 63


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose a container of Proxmox VE is."""

    #: Id of the endpoint's state, as `PveNode.endpoint_id` has it.
    endpoint: str
    #: Ids as the CRI has them.
    container: str
    sandbox: str
    #: Its number; 0: not said.  A clone, or a backup restored beside it, has the same notes and another one.
    vmid: int = 0

    def is_of(self, record: LxcRecord) -> bool:
        """Say whether it is that of the container on record."""
        known = (record.name, record.endpoint)
        return (self.container, self.endpoint) == known and self.vmid in {0, record.vmid}


def description(identity: Identity, *, pod: str, namespace: str, container: str, image: str) -> str:
    """Return the notes of a container: a sentence for people, and a line for us."""
    said = {key: value for key, value in dataclasses.asdict(identity).items() if value}
    line = json.dumps(said, separators=(",", ":"))
    return (
        f"Container {_plain(container)} of pod {_plain(namespace)}/{_plain(pod)}, image {_plain(image)}. "
        "It belongs to kubelet, which makes and removes it: leave it alone.\n\n"
        f"{_MARK} {line}"
    )


def identity_of(config: t.Mapping[str, t.Any]) -> Identity | None:
    """Return whose the container with this configuration is; None: not one of an endpoint."""
    if not set(TAGS) <= set(split_tags(config.get("tags"))):
        return None
    return identity_in(str(config.get("description") or ""))


def identity_in(notes: str) -> Identity | None:
    """Return what the line in a container's notes says, whatever its tags are."""
    found = _LINE.search(notes)
    if found is None:
        return None
    try:
        said = json.loads(found["json"])
        return Identity(
            endpoint=str(said["endpoint"]),
            container=str(said["container"]),
            sandbox=str(said["sandbox"]),
            vmid=int(said.get("vmid") or 0),
        )
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def is_ours(config: t.Mapping[str, t.Any], record: LxcRecord) -> bool:
    """Say whether a configuration, as the API has it, is that of the container on record."""
    found = identity_of(config)
    return found is not None and found.is_of(record)


def hostname(pod: str, container: str) -> str:
    """Return the name that the container has in Proxmox VE; inside, it has the pod's."""
    joined = re.sub(r"[^a-z0-9-]+", "-", f"{pod}-{container}".lower()).strip("-")
    return joined[:_LABEL_MAX].strip("-") or "pod"


def _plain(text: str) -> str:
    """Return a text on one line; notes are Markdown, and a line of its own could look like ours."""
    return " ".join(text.split())
