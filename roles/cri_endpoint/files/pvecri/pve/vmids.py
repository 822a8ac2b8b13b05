# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose numbers of containers by their ids, so that a repeat tries the same ones in the same order.

Who may have a number is decided by Proxmox VE, which makes no second guest of it.  What is
known here only keeps us from asking in vain.
"""

from __future__ import annotations

import hashlib
import threading
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.client import PveClient
from pvecri.errors import TooBusy

#: Numbers that are asked for one by one; who shares the range with others to that degree has no range.
_TRIES = 64


class NoneFree(TooBusy):
    """Report that all numbers of the range are in use."""

    code = "no_vmid_free"


class Vmids:
    """The numbers that containers of this process have, or are being made with."""

    def __init__(self, vmid_range: tuple[int, int], taken: t.Iterable[int] = ()) -> None:
        """Begin with the numbers of the containers on record."""
        self._range = vmid_range
        self._taken = set(taken)
        self._lock = threading.Lock()

    def claims(self, client: PveClient, container_id: str) -> t.Iterator[int]:
        """Yield numbers that are free, each held until `release`; raises NoneFree when none is left.

        The caller takes the next one when somebody else was faster, and releases those that it
        does not use.
        """
        tried = 0
        for vmid in candidates(container_id, self._range):
            if not self._take(vmid):
                continue
            tried += 1
            if tried > _TRIES:
                self.release(vmid)
                break
            try:
                free = is_free(client, vmid)
            except BaseException:
                self.release(vmid)
                raise
            if free:
                yield vmid
            else:
                self.release(vmid)
        first, last = self._range
        raise NoneFree(
            f"no number from {first} to {last} is free for a container",
            hint="Widen pve.vmid_range, or give it a range that nothing else uses",
        )

    def release(self, vmid: int) -> None:
        """Give a number back."""
        with self._lock:
            self._taken.discard(vmid)

    def _take(self, vmid: int) -> bool:
        with self._lock:
            if vmid in self._taken:
                return False
            self._taken.add(vmid)
            return True


def candidates(container_id: str, vmid_range: tuple[int, int]) -> t.Iterator[int]:
    """Yield every number of a range once, in an order that depends on the container's id alone."""
    first, last = vmid_range
    size = last - first + 1
    start = int.from_bytes(hashlib.sha256(container_id.encode()).digest()[:8]) % size
    for step in range(size):
        yield first + (start + step) % size


def is_free(client: PveClient, vmid: int) -> bool:
    """Ask whether no guest of the cluster has this number."""
    try:
        client.get(("cluster", "nextid"), vmid=vmid)
    except InvalidSpec:
        return False
    return True
