# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold sizes, durations, CPUs and modes to what people write."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils import units
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1024, 1024),
        ("1024", 1024),
        (" 1024 ", 1024),
        ("1b", 1),
        ("1B", 1),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64Mi", 64 << 20),
        ("64MiB", 64 << 20),
        ("64 mib", 64 << 20),
        ("64MB", 64_000_000),
        ("64kB", 64_000),
        ("1.5G", 3 << 29),
        ("1.5GB", 1_500_000_000),
        (".5k", 512),
        ("0.3", 0),
        (1.5, 1),
        ("2T", 2 << 40),
        ("1P", 1 << 50),
        ("7E", 7 << 60),
        ("9223372036854775807", (1 << 63) - 1),
    ],
)
def test_parse_size(value, expected):
    assert units.parse_size(value, "memory") == expected


@pytest.mark.parametrize(
    "value",
    [
        "",
        "m",
        "-5",
        "1,5G",
        "5 apples",
        "5MBB",
        "5ib",
        "0x10",
        "1e9",
        "8EiB",
        "9" * 100,
        True,
        None,
        [],
        "-1",
        "unlimited",
        "٥",
        float("nan"),
    ],
)
def test_parse_size_refuses(value):
    with pytest.raises(InvalidSpec) as caught:
        units.parse_size(value, "resources.memory")
    assert caught.value.field == "resources.memory"


@pytest.mark.parametrize("value", [-1, "-1", "unlimited", "MAX"])
def test_parse_size_unlimited(value):
    assert units.parse_size(value, "memory", allow_unlimited=True) == -1


@given(st.integers(0, (1 << 63) - 1))
def test_parse_size_of_bytes_is_itself(number):
    assert units.parse_size(number, "x") == units.parse_size(f"{number}B", "x") == number


@given(st.text(max_size=60))
def test_parse_size_answers_or_refuses(text):
    with contextlib.suppress(InvalidSpec):
        assert 0 <= units.parse_size(text, "x") <= units.MAX_BYTES


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (30, 30.0),
        (0, 0.0),
        (1.5, 1.5),
        ("30", 30.0),
        ("30s", 30.0),
        ("1m30s", 90.0),
        ("1m 30s", 90.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("500ms", 0.5),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("1.5h", 5400.0),
        ("1h0.5s", 3600.5),
    ],
)
def test_parse_duration(value, expected):
    assert units.parse_duration(value, "timeout") == expected


@pytest.mark.parametrize("value", ["", "s", "-1", "5x", "1m30", "ten", True, None, "1s" * 50, "٣s", "1e3"])
def test_parse_duration_refuses(value):
    with pytest.raises(InvalidSpec) as caught:
        units.parse_duration(value, "pull.timeout")
    assert caught.value.field == "pull.timeout"


@pytest.mark.parametrize(
    ("value", "quota"),
    [("1.5", 150_000), ("2", 200_000), (2, 200_000), (0.5, 50_000), ("0.01", 1000), (".1", 10_000)],
)
def test_parse_cpus(value, quota):
    assert units.parse_cpus(value, "cpus") == (quota, 100_000)


@pytest.mark.parametrize("value", ["", "0", "0.001", "-1", "two", "1e1", True, None, "9" * 30, "9" * 50])
def test_parse_cpus_refuses(value):
    with pytest.raises(InvalidSpec) as caught:
        units.parse_cpus(value, "resources.cpus")
    assert caught.value.field == "resources.cpus"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0640", 0o640),
        ("640", 0o640),
        ("0o640", 0o640),
        ("1777", 0o1777),
        (416, 0o640),
        (0, 0),
        (" 0600 ", 0o600),
    ],
)
def test_parse_mode(value, expected):
    assert units.parse_mode(value, "mode") == expected


@pytest.mark.parametrize("value", ["", "888", "0x1", "u=rw", 4096, -1, True, None, "000000", 1.5])
def test_parse_mode_refuses(value):
    with pytest.raises(InvalidSpec) as caught:
        units.parse_mode(value, "mounts[0].mode")
    assert caught.value.field == "mounts[0].mode"
