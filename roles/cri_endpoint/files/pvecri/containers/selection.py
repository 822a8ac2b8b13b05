# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the runtime of a container, and keep why."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    Policy,
    Request,
    Selection,
)
from pvecri.api import cri_pb2
from pvecri.images.names import is_id_of, public_names

#: Stands for an image that has no name, so that rules about names do not match it.
_UNNAMED: t.Final = "localhost/unnamed"


def select(
    policy: Policy, config: cri_pb2.ContainerConfig, pod: cri_pb2.PodSandboxConfig, handler: str, image: Image
) -> Selection:
    """Return what the policy says of a container; raises InvalidSpec for an unknown handler."""
    return policy.select(
        Request(
            image=image_name(config.image, image),
            namespace=pod.metadata.namespace or None,
            labels={**pod.labels, **config.labels},
            annotations={**pod.annotations, **config.annotations},
            runtime_handler=handler or None,
        )
    )


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
