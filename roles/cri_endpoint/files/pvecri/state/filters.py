# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what a filter of a list request lets through; pure."""

from __future__ import annotations

import typing as t

from pvecri.api import cri_pb2


class Item(t.Protocol):
    """What filters look at."""

    @property
    def id(self) -> str:
        """Id of the object."""

    @property
    def sandbox_id(self) -> str:
        """Id of its sandbox, which may be itself."""

    @property
    def state(self) -> int:
        """State as the CRI numbers it."""

    @property
    def labels(self) -> t.Mapping[str, str]:
        """Labels of its config."""


Filter = cri_pb2.PodSandboxFilter | cri_pb2.ContainerFilter


def is_empty(wanted: Filter | None) -> bool:
    """Say whether a filter lets everything through."""
    return wanted is None or not wanted.ByteSize()


def matcher(wanted: Filter) -> t.Callable[[Item], bool]:
    """Return a test for one filter; all that it sets must hold, ids may be shortened."""
    labels = dict(wanted.label_selector)
    object_id = wanted.id
    sandbox_id = getattr(wanted, "pod_sandbox_id", "")
    state = wanted.state.state if wanted.HasField("state") else None

    def matches(item: Item) -> bool:
        return (
            item.id.startswith(object_id)
            and item.sandbox_id.startswith(sandbox_id)
            and (state is None or item.state == state)
            and all(item.labels.get(key) == value for key, value in labels.items())
        )

    return matches
