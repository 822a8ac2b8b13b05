# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build ``linux.resources.blockIO``: weight and throttles."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IoLimit, Json, Resources
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.devices import find_device
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostDevice, HostFacts

MIN_WEIGHT: t.Final = 10
MAX_WEIGHT: t.Final = 1000

#: Option of ours → key of the specification.
_THROTTLES: t.Final = (
    ("read_bps", "throttleReadBpsDevice"),
    ("write_bps", "throttleWriteBpsDevice"),
    ("read_iops", "throttleReadIOPSDevice"),
    ("write_iops", "throttleWriteIOPSDevice"),
)


def build_block_io(resources: Resources, host: HostFacts) -> Json:
    """Return ``blockIO``; empty when nothing is asked for."""
    result: Json = {}
    if resources.io_weight is not None:
        result["weight"] = _weight(resources.io_weight, host)
    seen: set[tuple[int, int]] = set()
    for i, limit in enumerate(resources.io_limits):
        field = f"resources.io_limits[{i}]"
        node = _block_device(limit, host, field)
        if (node.major, node.minor) in seen:
            raise InvalidSpec(f"{field}.device", f"'{limit.device}' is limited twice")
        seen.add((node.major, node.minor))
        rates = [(option, key, getattr(limit, option)) for option, key in _THROTTLES]
        if all(rate is None for _option, _key, rate in rates):
            raise InvalidSpec(
                field, "limits nothing", hint="Set read_bps, write_bps, read_iops or write_iops"
            )
        for option, key, rate in rates:
            if rate is None:
                continue
            if rate < 1:
                raise InvalidSpec(
                    f"{field}.{option}", f"{rate} is out of range", hint="It must be at least 1"
                )
            result.setdefault(key, []).append({"major": node.major, "minor": node.minor, "rate": rate})
    return result


def _controller_missing(host: HostFacts) -> bool:
    return host.controllers is not None and host.controllers.isdisjoint({"io", "blkio"})


def _weight(weight: int, host: HostFacts) -> int:
    if not MIN_WEIGHT <= weight <= MAX_WEIGHT:
        raise InvalidSpec(
            "resources.io_weight",
            f"{weight} is out of range",
            hint=f"It must be {MIN_WEIGHT} to {MAX_WEIGHT}",
        )
    if _controller_missing(host) or not host.has_io_weight:
        raise Unsupported(
            "resources.io_weight: this host's kernel cannot weigh I/O",
            hint="It needs the scheduler BFQ or io.cost; leave the limit out, or use resources.io_limits",
        )
    return weight


def _block_device(limit: IoLimit, host: HostFacts, field: str) -> HostDevice:
    if _controller_missing(host):
        raise Unsupported(
            f"{field}: the cgroup controller 'io' is not available on this host", hint="Leave the limit out"
        )
    node = find_device(limit.device, host)
    if node is None or node.kind != "b":
        raise InvalidSpec(f"{field}.device", f"'{limit.device}' is no block device of this host")
    return node
