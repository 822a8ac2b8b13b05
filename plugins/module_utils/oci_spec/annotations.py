# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``annotations`` from labels and annotations of request and image."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, ImageConfig
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.paths import check_text

#: Annotations by which a runtime is steered: handlers, files on the host to write hook output to,
#: properties of systemd units.  Whoever makes an image must not have that power over the host.
_STEERING: t.Final = ("run.oci.", "org.systemd.property.", "org.criu.", "io.podman.", "module.wasm.")


def build_annotations(spec: ContainerSpec, image: ImageConfig) -> dict[str, str]:
    """Return ``annotations``: what the image says of itself, labels, then annotations asked for.

    Labels become annotations of the same name, and what the image's configuration says
    otherwise has names of the specification's own (OCI image specification,
    conversion.md, «Annotation Fields»).  An image's labels cannot steer the runtime.
    """
    result: dict[str, str] = {}
    for key, value in _of_image(image):
        if value:
            result[f"org.opencontainers.image.{key}"] = value
    for key, value in image.labels:
        if key and "\0" not in key + value and not key.startswith(_STEERING):
            result[key] = value
    for field, pairs in (("labels", spec.labels), ("annotations", spec.annotations)):
        for key, value in pairs:
            if not key:
                raise InvalidSpec(field, "has an empty name")
            result[check_text(key, field)] = check_text(value, f"{field}.{key}")
    return result


def _of_image(image: ImageConfig) -> list[tuple[str, str]]:
    return [
        ("os", image.os if image.architecture else ""),
        ("architecture", image.architecture),
        ("variant", image.variant),
        ("stopSignal", image.stop_signal or ""),
        ("exposedPorts", ",".join(image.exposed_ports)),
    ]
