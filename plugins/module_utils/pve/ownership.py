# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say which containers may be changed: those with the tag of this collection.  Pure."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.cluster import Guest
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.lxc_spec import TAG, TAG_CRI


def check(
    guest: Guest,
    *,
    adopt: bool,
    by_id: bool,
    problem: str = "something about it would have to change",
    hint: str = "Set 'adopt: true' to manage it from now on",
) -> None:
    """Raise WrongState unless the guest is ours, or ``adopt`` permits to act on it all the same.

    A container of a Kubernetes pod must be named by its id (``by_id``) besides.
    """
    if TAG_CRI in guest.tags and not (adopt and by_id):
        raise WrongState(
            f"container {guest.vmid} belongs to a Kubernetes pod (tag '{TAG_CRI}')",
            hint="Leave it to kubelet; only 'adopt: true' together with its vmid overrides this",
        )
    if TAG not in guest.tags and not adopt:
        raise WrongState(
            f"container {guest.vmid} ({guest.name}) on node '{guest.node}' was not made by this "
            f"collection: it has no tag '{TAG}', and {problem}",
            hint=hint,
        )


def check_loss(guest: Guest, *, adopt: bool, by_id: bool) -> None:
    """Raise WrongState as `check` does, for modules that never give the tag."""
    check(
        guest,
        adopt=adopt,
        by_id=by_id,
        problem="what is asked for would change it or remove what belongs to it",
        hint="Set 'adopt: true' to do it all the same",
    )
