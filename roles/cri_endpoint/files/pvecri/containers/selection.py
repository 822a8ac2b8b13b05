# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the runtime of a container, and keep why."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    Policy,
    Request,
    Selection,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.rules import Runtime
from pvecri.api import cri_pb2
from pvecri.images.names import is_id_of, public_names
from pvecri.state.records import ContainerRecord, Phase

#: Annotation of a pod whose handler stands for Proxmox LXC: the name of its one container that runs there.
GUEST: t.Final = "pvecri.runtime/lxc-container"

#: Stands for an image that has no name, so that rules about names do not match it.
_UNNAMED: t.Final = "localhost/unnamed"


def select(
    policy: Policy, config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig, handler: str, image: Image
) -> Selection:
    """Return what the policy says of a container; raises InvalidSpec for an unknown handler.

    A handler speaks for all containers of a pod: which of them it means, the pod's annotation may
    say.  What a rule says is the administrator's word, and stands.
    """
    chosen = policy.select(
        Request(
            image=image_name(config.image, image),
            namespace=pod.metadata.namespace or None,
            labels={**pod.labels, **config.labels},
            annotations={**pod.annotations, **config.annotations},
            runtime_handler=handler or None,
        )
    )
    meant = pod.annotations.get(GUEST)
    is_by_handler = chosen.handler is not None and chosen.rule is None
    if chosen.runtime is Runtime.PVE_LXC and is_by_handler and meant not in (None, config.metadata.name):
        reason = f"the pod's annotation {GUEST} names another of its containers ('{meant}')"
        return dataclasses.replace(chosen, runtime=Runtime.CRUN, reason=reason)
    return chosen


def image_name(spec: cri_pb2.ImageSpec, image: Image) -> str:
    """Return the reference that a person would call the image of a container by.

    kubelet asks by id, and says beside it what the pod's author wrote.
    """
    for text in (spec.user_specified_image, spec.image, *public_names(image)):
        if not text or is_id_of(text, image):
            continue
        try:
            return ImageReference.parse(text).canonical
        except InvalidSpec:
            continue
    return _UNNAMED


# ---- one guest per pod -----------------------------------------------------------------------------------


def is_guest(record: ContainerRecord) -> bool:
    """Say whether a container is a guest of Proxmox VE, by what was selected for it."""
    return record.selection.get("runtime") == Runtime.PVE_LXC.value


def other_guest(of_pod: t.Iterable[ContainerRecord], name: str) -> str:
    """Return the name of the pod's container that is a guest, has not ended and is not ``name``; or nothing.

    One that has ended is none: init containers go before, and what ended is begun anew.  Nor is an
    earlier attempt at the same container, which a kubelet that was killed may have left.
    """
    for record in of_pod:
        if is_guest(record) and record.phase is not Phase.EXITED and (other := _name(record)) != name:
            return other
    return ""


def second_guest(first: str, reason: str) -> Unsupported:
    """Return the error for a pod's second guest: ``first`` is the other's name, ``reason`` this one's."""
    return Unsupported(
        f"the pod's container '{first}' runs under Proxmox LXC already, and a pod has one such container; "
        f"this one would be the second, because {reason}",
        hint=f"Name the one that is meant in the pod's annotation {GUEST}, or let a rule of the policy "
        "choose crun for the others",
    )


def refuse_second(of_pod: t.Iterable[ContainerRecord], record: ContainerRecord) -> None:
    """Raise Unsupported when another guest of the pod was reserved first: both may have passed the check."""
    if not is_guest(record):
        return
    earlier = [each for each in of_pod if (each.created_at_ns, each.id) < (record.created_at_ns, record.id)]
    if other := other_guest(earlier, _name(record)):
        raise second_guest(other, str(record.selection.get("reason")))


def _name(record: ContainerRecord) -> str:
    return cri_pb2.ContainerConfig.FromString(record.config).metadata.name
