# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Know of each pod and container what statistics say of it again and again; found out once.

Config, control group and first process of an object do not change as long as it is there.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import NotFound
from pvecri.api import cri_pb2
from pvecri.containers.selection import is_guest
from pvecri.context import Context
from pvecri.sandboxes.cgroup import group_path
from pvecri.state.records import ContainerRecord, Phase, SandboxRecord
from pvecri.state.registry import Change
from pvecri.state.views import element, parsed, string_map

#: Field of the attributes in ContainerStats and PodSandboxStats, and of the labels in Metric.
_ATTRIBUTES, _LABEL_VALUES = 1, 4

#: A container has a control group from its creation on.
ALIVE: t.Final = frozenset({Phase.CREATED, Phase.RUNNING})
#: A guest of Proxmox VE has one while it runs.
_GUEST_ALIVE: t.Final = frozenset({Phase.RUNNING})


class PodFacts:
    """One pod."""

    __slots__ = ("attributes", "cgroup", "id", "label_values", "labels", "name", "namespace", "sandbox_id")
    #: What filters look at besides.
    state = 0

    def __init__(self, record: SandboxRecord) -> None:
        config = parsed(cri_pb2.PodSandboxConfig, record.config)
        self.id = self.sandbox_id = record.id
        self.name, self.namespace = config.metadata.name, config.metadata.namespace
        self.labels = dict(config.labels)
        self.attributes = _attributes(record.id, config)
        self.cgroup = group_path(record.cgroup_parent) if record.cgroup_parent else ""
        self.label_values = label_values("", record.id, "", "", self.namespace, self.name)


class ContainerFacts:
    """One container."""

    __slots__ = (
        "attributes",
        "cgroup",
        "id",
        "is_guest",
        "label_values",
        "labels",
        "pid",
        "resources",
        "sandbox_id",
        "seen_resources",
    )
    state = 0

    def __init__(self, record: ContainerRecord, pod: PodFacts | None) -> None:
        config = parsed(cri_pb2.ContainerConfig, record.config)
        self.id, self.sandbox_id = record.id, record.sandbox_id
        self.labels = dict(config.labels)
        self.is_guest = is_guest(record)
        self.attributes = _attributes(record.id, config)
        #: Empty until it is known.
        self.cgroup = ""
        #: 0: not known.
        self.pid = 0
        image = record.extra.get("image_name") or config.image.user_specified_image or config.image.image
        namespace, name = (pod.namespace, pod.name) if pod else ("", "")
        own = config.metadata.name
        self.label_values = label_values(own, record.id, str(image), record.id, namespace, name)
        self.seen_resources: bytes | None = None
        self.resources = cri_pb2.LinuxContainerResources()

    def resources_of(self, record: ContainerRecord) -> cri_pb2.LinuxContainerResources:
        """Return the limits in force, parsed once per change."""
        if self.seen_resources is not record.resources:
            self.resources = parsed(cri_pb2.LinuxContainerResources, record.resources)
            self.seen_resources = record.resources
        return self.resources


class Facts:
    """The facts of all objects; safe for any number of threads."""

    def __init__(self, context: Context, forget: t.Callable[[str], None]) -> None:
        """Set up; ``forget`` hears of every object that is gone."""
        self._context = context
        self._forget = forget
        self._pods: dict[str, PodFacts] = {}
        self._containers: dict[str, ContainerFacts] = {}
        context.registry.listen(self._changed)

    def pod(self, record: SandboxRecord) -> PodFacts:
        """Return the facts of a pod."""
        known = self._pods.get(record.id)
        if known is None:
            known = self._pods[record.id] = PodFacts(record)
            self._drop_if_gone(self._context.registry.sandbox, record.id)
        return known

    def container(self, record: ContainerRecord) -> ContainerFacts:
        """Return the facts of a container; those of its cgroup only once it is created."""
        known = self._containers.get(record.id)
        if known is None:
            known = self._containers[record.id] = ContainerFacts(record, self._pod_of(record))
            self._drop_if_gone(self._context.registry.container, record.id)
        if not known.cgroup and record.phase in (_GUEST_ALIVE if known.is_guest else ALIVE):
            state = self._context.runtimes.state(record.id)
            if state is not None and state.is_alive and state.cgroup:
                known.pid = state.pid or 0
                known.cgroup = state.cgroup
        return known

    def _pod_of(self, record: ContainerRecord) -> PodFacts | None:
        try:
            return self.pod(self._context.registry.sandbox(record.sandbox_id))
        except NotFound:
            return None

    def _changed(self, change: Change) -> None:
        if change.new is None and change.old is not None:
            self._drop(change.old.id)

    def _drop_if_gone(self, look_up: t.Callable[[str], object], identity: str) -> None:
        """Keep nothing of what was removed since a list was begun: nobody tells of that any more."""
        try:
            look_up(identity)
        except NotFound:
            self._drop(identity)

    def _drop(self, identity: str) -> None:
        self._pods.pop(identity, None)
        self._containers.pop(identity, None)
        self._forget(identity)


def label_values(*values: str) -> bytes:
    """Return the values of labels, in the order of their keys, as fields of a Metric."""
    return b"".join([element(_LABEL_VALUES, value.encode()) for value in values])


def _attributes(identity: str, config: cri_pb2.PodSandboxConfig | cri_pb2.ContainerConfig) -> bytes:
    """Return the attributes as a field of statistics; those of pods and containers are alike."""
    return element(
        _ATTRIBUTES,
        element(1, identity.encode())
        + element(2, config.metadata.SerializeToString())
        + string_map(3, config.labels)
        + string_map(4, config.annotations),
    )
