# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the limits of a container by themselves; pure."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import build_resources
from pvecri.api import cri_pb2
from pvecri.checks import resource_field
from pvecri.containers.spec.resources import in_core_terms

#: A host that has everything: what it refuses makes no sense anywhere.
_ANY_HOST: t.Final = HostFacts()

_NOT_NEGATIVE: t.Final = ("cpu_period", "cpu_shares")
_OOM_SCORE: t.Final = 1000
_HUGEPAGES_MAX: t.Final = 64
_UNIFIED_MAX: t.Final = 256


def validate_alone(resources: cri_pb2.LinuxContainerResources, field: str) -> None:
    """Raise InvalidSpec for a limit that is wrong whatever the others are."""
    for name in _NOT_NEGATIVE:
        if getattr(resources, name) < 0:
            raise InvalidSpec(f"{field}.{name}", f"{getattr(resources, name)} is negative")
    for name in ("cpu_quota", "memory_limit_in_bytes", "memory_swap_limit_in_bytes"):
        if getattr(resources, name) < -1:
            raise InvalidSpec(
                f"{field}.{name}", f"{getattr(resources, name)} is below -1, which is unlimited"
            )
    if not -_OOM_SCORE <= resources.oom_score_adj <= _OOM_SCORE:
        raise InvalidSpec(
            f"{field}.oom_score_adj",
            f"{resources.oom_score_adj} is not in the range {-_OOM_SCORE} to {_OOM_SCORE}",
        )
    if len(resources.hugepage_limits) > _HUGEPAGES_MAX:
        raise InvalidSpec(f"{field}.hugepage_limits", f"are more than {_HUGEPAGES_MAX}")
    if len(resources.unified) > _UNIFIED_MAX:
        raise InvalidSpec(f"{field}.unified", f"are more than {_UNIFIED_MAX}")
    sizes = [line.page_size for line in resources.hugepage_limits]
    for index, size in enumerate(sizes):
        if size in sizes[:index]:
            raise InvalidSpec(f"{field}.hugepage_limits[{index}].page_size", f"'{size}' is limited twice")


def validate(resources: cri_pb2.LinuxContainerResources, field: str) -> None:
    """Raise InvalidSpec for limits that contradict each other or that no kernel takes."""
    validate_alone(resources, field)
    try:
        build_resources(in_core_terms(resources, swap_follows=False), _ANY_HOST)
    except InvalidSpec as exc:
        raise InvalidSpec(resource_field(exc.field, field), exc.problem, hint=exc.hint) from exc
