# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read sizes, durations and CPU counts as people write them.

Units are never guessed: ``MiB`` and ``m`` are 1024², ``MB`` is 1000².
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec

#: The kernel counts bytes in signed 64 bits.
MAX_BYTES: t.Final = (1 << 63) - 1

_SIZE: t.Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(?P<unit>[A-Za-z]*)")
_DURATION_PART: t.Final = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)(h|ms|us|µs|m|s|d)")
#: Microseconds of each unit.
_MICROSECONDS: t.Final = {
    "d": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1000,
    "us": 1,
    "µs": 1,
}

_PREFIXES: t.Final = "kmgtpe"

#: Period, in µs, that a number of CPUs is turned into a quota of.
CPU_PERIOD_US: t.Final = 100_000
_MIN_CPU_QUOTA_US: t.Final = 1000

_SIZE_HINT: t.Final = "Write bytes, or a number with B, KiB, MiB, GiB, TiB (1024) or kB, MB, GB, TB (1000)"
_UNLIMITED_WORDS: t.Final = ("-1", "unlimited", "max")

#: More digits than any size has; what is longer is no number that anybody meant.
_MAX_LENGTH: t.Final = 40


def _times(number: str, factor: int) -> int:
    """Return ``1.5`` times ``factor`` without rounding errors; what is left below one is cut off."""
    whole, _dot, fraction = number.partition(".")
    scale: int = 10 ** len(fraction)
    return int(whole + fraction) * factor // scale


def _unit_factor(unit: str) -> int | None:
    """Return how many bytes a unit has; a lone letter is binary, as docker and podman read it."""
    lower = unit.lower()
    if lower in ("", "b"):
        return 1
    exponent = _PREFIXES.find(lower[0]) + 1
    if not exponent:
        return None
    if lower[1:] in ("", "i", "ib"):
        return int(1024**exponent)
    return int(1000**exponent) if lower[1:] == "b" else None


def parse_size(value: t.Any, field: str, *, allow_unlimited: bool = False) -> int:
    """Return bytes from ``64MiB``, ``64m`` (both 1024²), ``64MB`` (1000²), ``1.5G`` or a number.

    ``-1``, ``unlimited`` and ``max`` are -1 if ``allow_unlimited``.  Fractions of a
    byte are cut off.  Raises InvalidSpec for ``field``.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidSpec(field, f"{value!r} is not a size", hint=_SIZE_HINT)
    text = str(value).strip()
    if text.lower() in _UNLIMITED_WORDS:
        if allow_unlimited:
            return -1
        raise InvalidSpec(field, "cannot be unlimited", hint=_SIZE_HINT)
    found = _SIZE.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    factor = _unit_factor(found["unit"]) if found else None
    if not found or factor is None:
        raise InvalidSpec(field, f"'{text[:_MAX_LENGTH]}' is not a size", hint=_SIZE_HINT)
    size = _times(found["number"], factor)
    if size > MAX_BYTES:
        raise InvalidSpec(field, f"'{text}' is more than 8 EiB")
    return size


def parse_duration(value: t.Any, field: str) -> float:
    """Return seconds from ``30s``, ``1m30s``, ``500ms``, ``2h`` or a number of seconds.

    Raises InvalidSpec for ``field``.
    """
    text = "" if isinstance(value, bool) else re.sub(r"\s+", "", str(value))
    total = 0
    if len(text) <= _MAX_LENGTH and re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text):
        total = _times(text, _MICROSECONDS["s"])
    elif text and len(text) <= _MAX_LENGTH and re.fullmatch(f"(?:{_DURATION_PART.pattern})+", text):
        for number, unit in _DURATION_PART.findall(text):
            total += _times(number, _MICROSECONDS[unit])
    else:
        raise InvalidSpec(
            field,
            f"'{text[:_MAX_LENGTH]}' is not a duration",
            hint="Write seconds, or as 500ms, 30s, 1m30s, 2h",
        )
    return total / _MICROSECONDS["s"]


def parse_cpus(value: t.Any, field: str) -> tuple[int, int]:
    """Return quota and period in µs from a number of CPUs such as ``1.5``.

    Raises InvalidSpec for ``field``, also below a hundredth of a CPU, which the kernel refuses.
    """
    text = "" if isinstance(value, bool) else str(value).strip()
    if len(text) > _MAX_LENGTH or not re.fullmatch(r"[0-9]+(\.[0-9]+)?|\.[0-9]+", text):
        raise InvalidSpec(field, f"'{text[:_MAX_LENGTH]}' is not a number of CPUs", hint="Write '0.5' or '2'")
    quota = _times(text, CPU_PERIOD_US)
    if not _MIN_CPU_QUOTA_US <= quota <= MAX_BYTES // 1000:
        raise InvalidSpec(field, f"'{text}' is out of range", hint="It must be at least 0.01")
    return quota, CPU_PERIOD_US


def parse_mode(value: t.Any, field: str) -> int:
    """Return permission bits from an octal text such as ``0640``, or from a number as it is.

    YAML reads an unquoted ``0640`` as the number 416, whose value is right already.
    Raises InvalidSpec for ``field``.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        mode = value
    else:
        text = str(value).strip()
        if not re.fullmatch(r"(0o?)?[0-7]{1,4}", text):
            raise InvalidSpec(field, f"'{text[:_MAX_LENGTH]}' is not octal", hint="Write '0640', in quotes")
        mode = int(text.lower().replace("o", ""), 8)
    if not 0 <= mode <= 0o7777:
        raise InvalidSpec(field, f"{mode} is not a set of permission bits", hint="Write '0640', in quotes")
    return mode
