# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn the option ``resources`` into the model: texts with units become numbers."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import IoLimit, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.options.values import Params, pairs_of
from ansible_collections.pvecri.runtime.plugins.module_utils.units import parse_cpus, parse_size


def resources_from(given: Params | None) -> Resources:
    """Return the limits; raises InvalidSpec with the option's path.

    Whether the limits fit each other, the kernel and this host is checked where a
    configuration is built.
    """
    if not given:
        return Resources()
    quota, period = given.get("cpu_quota"), given.get("cpu_period")
    if given.get("cpus") is not None:
        quota, period = parse_cpus(given["cpus"], "resources.cpus")
    return Resources(
        cpu_shares=given.get("cpu_shares"),
        cpu_quota_us=quota,
        cpu_period_us=period,
        cpuset_cpus=given.get("cpuset_cpus"),
        cpuset_mems=given.get("cpuset_mems"),
        memory_bytes=_size(given, "memory"),
        memory_reservation_bytes=_size(given, "memory_reservation"),
        memory_swap_bytes=_size(given, "memory_swap"),
        pids_limit=given.get("pids_limit"),
        io_weight=given.get("io_weight"),
        io_limits=_io_limits(given.get("io_limits")),
        hugepages=tuple(
            (size, parse_size(limit, f"resources.hugepages.{size}"))
            for size, limit in pairs_of(given.get("hugepages"), "resources.hugepages")
        ),
        unified=pairs_of(given.get("unified"), "resources.unified"),
    )


def _size(given: Params, option: str) -> int | None:
    value = given.get(option)
    return None if value is None else parse_size(value, f"resources.{option}", allow_unlimited=True)


def _io_limits(items: t.Sequence[Params] | None) -> tuple[IoLimit, ...]:
    return tuple(
        IoLimit(
            device=item["device"],
            read_bps=_rate(item, "read_bps", f"resources.io_limits[{i}]"),
            write_bps=_rate(item, "write_bps", f"resources.io_limits[{i}]"),
            read_iops=item.get("read_iops"),
            write_iops=item.get("write_iops"),
        )
        for i, item in enumerate(items or ())
    )


def _rate(item: Params, option: str, field: str) -> int | None:
    value = item.get(option)
    return None if value is None else parse_size(value, f"{field}.{option}")
