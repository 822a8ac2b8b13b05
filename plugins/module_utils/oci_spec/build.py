# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a whole ``config.json`` from what is asked, what the image says and what the host can do.

    build_config ─ process        what runs, as whom, limits of the process
                 ├ mounts         usual mounts and those asked for
                 ├ linux          namespaces, cgroup, devices, seccomp, hidden paths
                 └ hooks, annotations

Everything here is pure: the same data in gives the same configuration out.  The
reference is the OCI runtime specification 1.2; fields that a newer version brought
are not written.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec, ImageConfig
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.annotations import build_annotations
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.capabilities import (
    effective_capabilities,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.hooks import build_hooks
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.linux import build_linux
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import (
    ResolvedMount,
    build_mounts,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.process import (
    build_process,
    hostname_of,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.users import ResolvedUser


def build_config(  # noqa: PLR0917 - in the order in which they come to be
    spec: ContainerSpec,
    image: ImageConfig,
    user: ResolvedUser,
    host: HostFacts,
    rootfs: str = "rootfs",
    mounts: t.Sequence[ResolvedMount] = (),
    *,
    warnings: list[str] | None = None,
) -> dict[str, t.Any]:
    """Return ``config.json`` as plain data.

    ``user`` is ``spec.user``, else the image's, looked up in the rootfs.  ``mounts``
    are ``spec.mounts`` in their order with the host path that each one shows, then
    those of the image's volumes.  Where the host forces something smaller than what
    was asked (a limit above its own), a sentence is appended to ``warnings``.

    Raises InvalidSpec with the option's path, Unsupported, NotFound or MissingDependency.
    """
    told: list[str] = [] if warnings is None else warnings
    granted = effective_capabilities(spec.security, host, told)
    config: dict[str, t.Any] = {
        "ociVersion": host.oci_version,
        "process": build_process(spec, image, user, host, granted=granted, warnings=told),
        "root": {"path": rootfs, "readonly": spec.security.read_only_rootfs},
    }
    hostname = hostname_of(spec)
    if hostname is not None:
        config["hostname"] = hostname
    config["mounts"] = build_mounts(spec, host, mounts)
    if spec.hooks:
        config["hooks"] = build_hooks(spec.hooks, host)
    if annotations := build_annotations(spec, image):
        config["annotations"] = annotations
    config["linux"] = build_linux(spec, host, granted, mounts)
    return config
