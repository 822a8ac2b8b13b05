# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which limits of a running container can be changed in place, and with what.

The answer goes to ``crun update``, which takes ``linux.resources``.  A limit that is
lifted needs a value that says so: a key that is absent would leave it as it was.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.model import IoLimit, Json, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.resources import (
    DEFAULT_CPU_PERIOD_US,
    MAX_CPU_QUOTA_US,
    MAX_PIDS,
    UNLIMITED,
    build_resources,
)

#: cpu.shares of v1 and cpu.weight of v2 when nobody sets them (cgroups v1 and v2, «cpu»).
_DEFAULT_CPU_SHARES: t.Final = 1024
_DEFAULT_CPU_WEIGHT: t.Final = "100"

_RATES: t.Final = ("read_bps", "write_bps", "read_iops", "write_iops")

#: Settings of which the kernel reads one in the light of the other: changing one writes both.
_PAIRED: t.Final = ({"cpu_quota_us", "cpu_period_us"}, {"memory_bytes", "memory_swap_bytes"})


def live_resources(old: Resources, new: Resources, host: HostFacts) -> Json | None:
    """Return ``linux.resources`` that turns ``old`` into ``new``; ``{}`` when nothing changes.

    None means that a new container is needed: something was lifted for which the
    kernel has no word that ``crun update`` can pass on (a weight of I/O, huge pages, a
    raw cgroup file, a throttle).  ``host`` holds the devices that the new
    limits name.  Raises InvalidSpec and Unsupported as a new container would.
    """
    changed = {
        field.name
        for field in dataclasses.fields(Resources)
        if _meaning(old, field.name) != _meaning(new, field.name)
    }
    if not changed:
        return {}
    # The whole request has to make sense, not only what changes.
    build_resources(new, host)
    if not _can_lift(old, new, host):
        return None
    names = changed.union(*(pair for pair in _PAIRED if pair & changed))
    result = build_resources(_only(new, names), host)
    for name in sorted(names):
        if _meaning(new, name) is None:
            _lift(name, host, result)
    return result


def _meaning(resources: Resources, name: str) -> t.Any:
    """Return a value so that two which mean the same are equal."""
    value = getattr(resources, name)
    if name in ("pids_limit", "cpu_quota_us") and value in (0, UNLIMITED):
        return None
    if name.startswith("memory") and value == UNLIMITED:
        return None
    if name == "cpu_period_us" and value == DEFAULT_CPU_PERIOD_US:
        return None
    return sorted(value, key=repr) if isinstance(value, tuple) else value


def _only(resources: Resources, names: t.Collection[str]) -> Resources:
    return Resources(**{name: getattr(resources, name) for name in names})


def _can_lift(old: Resources, new: Resources, host: HostFacts) -> bool:
    if old.io_weight is not None and new.io_weight is None:
        return False
    for name in ("hugepages", "unified"):
        if dict(getattr(old, name)).keys() - dict(getattr(new, name)).keys():
            return False
    if _rates(old.io_limits) - _rates(new.io_limits):
        return False
    for name, online in (("cpuset_cpus", host.cpus), ("cpuset_mems", host.memory_nodes)):
        if getattr(old, name) is not None and getattr(new, name) is None and not online:
            return False
    return True


def _rates(limits: t.Sequence[IoLimit]) -> set[tuple[str, str]]:
    return {(limit.device, rate) for limit in limits for rate in _RATES if getattr(limit, rate) is not None}


def _lift(name: str, host: HostFacts, result: Json) -> None:
    """Add to ``result`` the value that means «no limit» for one name."""
    if name == "cpu_shares":
        if host.cgroup_version == 2:
            # crun versions translate shares into weights differently; the weight itself is clear.
            result.setdefault("unified", {})["cpu.weight"] = _DEFAULT_CPU_WEIGHT
        else:
            result.setdefault("cpu", {})["shares"] = _DEFAULT_CPU_SHARES
    elif name == "cpu_quota_us":
        # Old versions of crun cannot write -1 on cgroup v1.
        result.setdefault("cpu", {})["quota"] = UNLIMITED if host.cgroup_version == 2 else MAX_CPU_QUOTA_US
        result["cpu"].setdefault("period", DEFAULT_CPU_PERIOD_US)
    elif name == "pids_limit":
        result["pids"] = {"limit": MAX_PIDS}
    elif name == "cpuset_cpus" and host.cpus:
        result.setdefault("cpu", {})["cpus"] = _number_list(host.cpus)
    elif name == "cpuset_mems" and host.memory_nodes:
        result.setdefault("cpu", {})["mems"] = _number_list(host.memory_nodes)
    elif name == "memory_swap_bytes":
        # Without swap accounting there is no such file, and no limit that could be lifted.
        if host.has_swap_accounting:
            result.setdefault("memory", {})["swap"] = UNLIMITED
    elif name == "memory_bytes":
        result.setdefault("memory", {})["limit"] = UNLIMITED
    elif name == "memory_reservation_bytes":
        # v1's soft limit is one from above, v2's protection one from below.
        lifted = 0 if host.cgroup_version == 2 else UNLIMITED
        result.setdefault("memory", {})["reservation"] = lifted


def _number_list(numbers: t.Collection[int]) -> str:
    return ",".join(str(number) for number in sorted(numbers))
