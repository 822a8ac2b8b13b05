# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the network of the node's range of pods."""

from __future__ import annotations

import json
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.status.pod_cidr import keep, kept, parse_ranges, write_network

TEMPLATE = json.dumps(
    {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "ipam": {"subnet": "{pod_cidr}"}}]}
)


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("10.1.0.0/24", {4: "10.1.0.0/24"}),
        ("fd00::/64, 10.1.0.0/24", {6: "fd00::/64", 4: "10.1.0.0/24"}),
    ],
)
def test_parse_ranges(text: str, ranges: dict[int, str]) -> None:
    assert parse_ranges(text) == ranges
    assert list(parse_ranges(text)) == list(ranges)


@pytest.mark.parametrize(
    "text", ["x", "10.1.0.1/24", "10.1.0.0/24,", "10.1.0.0/24,10.2.0.0/24", "10.0.0.0/33"]
)
def test_parse_ranges_refuses(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"^runtime_config.network_config.pod_cidr: "):
        parse_ranges(text)


def test_write_network_fills_in_the_template(tmp_path: pathlib.Path) -> None:
    template, conf = tmp_path / "t", tmp_path / "net.d"
    template.write_text(TEMPLATE)
    path = write_network({4: "10.1.0.0/24"}, str(template), str(conf))
    assert path == str(conf / "10-pvecri.conflist")
    assert json.loads(pathlib.Path(path).read_text())["plugins"][0]["ipam"] == {"subnet": "10.1.0.0/24"}
    # The node's range may change: our own file is no obstacle.
    assert write_network({4: "10.2.0.0/24"}, str(template), str(conf)) == path
    assert "10.2.0.0/24" in pathlib.Path(path).read_text()


def test_write_network_leaves_the_field_to_others(tmp_path: pathlib.Path) -> None:
    template, conf = tmp_path / "t", tmp_path / "net.d"
    template.write_text(TEMPLATE)
    conf.mkdir()
    (conf / "05-cilium.conflist").write_text("{}")
    assert write_network({4: "10.1.0.0/24"}, str(template), str(conf)) is None
    assert write_network({4: "10.1.0.0/24"}, "", str(tmp_path / "other")) is None
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, "cannot be read"),
        ('{"range": "{pod_cidr_6}"}', "no IPv6 range"),
        ("{pod_cidr}", "is no JSON"),
        ('{"name": "x"}', "plugins"),
    ],
)
def test_write_network_refuses_bad_templates(
    tmp_path: pathlib.Path, template: str | None, problem: str
) -> None:
    path = tmp_path / "t"
    if template is not None:
        path.write_text(template)
    with pytest.raises(InvalidSpec, match=problem):
        write_network({4: "10.1.0.0/24"}, str(path), str(tmp_path / "net.d"))
    assert not (tmp_path / "net.d").exists()


def test_ranges_are_kept_over_a_restart(tmp_path: pathlib.Path) -> None:
    assert kept(str(tmp_path)) == ()
    keep(str(tmp_path), "10.1.0.0/24,fd00::/64")
    assert kept(str(tmp_path)) == ("10.1.0.0/24", "fd00::/64")


@pytest.mark.parametrize("data", [b"", b"x", b"\xff"])
def test_ranges_that_make_no_sense_are_none(tmp_path: pathlib.Path, data: bytes) -> None:
    (tmp_path / "pod-cidr").write_bytes(data)
    assert kept(str(tmp_path)) == ()
