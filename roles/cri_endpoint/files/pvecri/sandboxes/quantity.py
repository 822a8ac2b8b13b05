# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read numbers as Kubernetes writes them: ``10M``, ``1.5Gi``, ``2e6``; pure."""

from __future__ import annotations

import decimal
import re

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

_NUMBER = r"[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}"
_QUANTITY = re.compile(rf"\+?({_NUMBER})(?:([eE][+-]?[0-9]{{1,2}})|([A-Za-z]{{0,2}}))")

_SUFFIXES = {
    "n": decimal.Decimal("1e-9"),
    "u": decimal.Decimal("1e-6"),
    "m": decimal.Decimal("1e-3"),
    "": decimal.Decimal(1),
    **{letter: decimal.Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": decimal.Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}

#: What a rate may be, in bits per second; the bounds are Kubernetes's own.
_RATE_MIN, _RATE_MAX = 1000, 10**15

#: Bits that may pass at once; the plugin wants less than 2^32 bytes, and this hinders nobody.
_BURST = 2**32 - 1

INGRESS = "kubernetes.io/ingress-bandwidth"
EGRESS = "kubernetes.io/egress-bandwidth"


def parse_quantity(text: str, field: str) -> int:
    """Return a quantity rounded up to a whole number; raises InvalidSpec for ``field``."""
    found = _QUANTITY.fullmatch(text.strip())
    if found is None or (found[3] or "") not in _SUFFIXES:
        raise InvalidSpec(field, f"'{text[:40]}' is no quantity", hint="For example '10M' or '1Gi'")
    number = decimal.Decimal(found[1] + (found[2] or "")) * _SUFFIXES[found[3] or ""]
    return int(number.to_integral_value(decimal.ROUND_CEILING))


def bandwidth(annotations: dict[str, str]) -> dict[str, int]:
    """Return CNI's capability ``bandwidth`` of a pod's annotations; empty when it is not limited."""
    found = {}
    for key, way in ((INGRESS, "ingress"), (EGRESS, "egress")):
        text = annotations.get(key)
        if text is None:
            continue
        field = f"config.annotations[{key}]"
        rate = parse_quantity(text, field)
        if not _RATE_MIN <= rate <= _RATE_MAX:
            raise InvalidSpec(field, f"'{text[:40]}' is out of range", hint="From 1k to 1P bits per second")
        found[f"{way}Rate"] = rate
        found[f"{way}Burst"] = _BURST
    return found
