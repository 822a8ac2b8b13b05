# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every field of the CRI definition is decided on for Proxmox LXC, and the guide says how."""

from __future__ import annotations

import pathlib
import re

import pytest

from pvecri.api import cri_pb2 as pb
from pvecri.pve.fields import CONFIG, SANDBOX, Kind

GUIDE = pathlib.Path(__file__).parents[4] / "docs/lxc-pods.md"

#: Messages whose fields are of one kind: a table says what becomes of the whole.
WHOLE = {
    "ContainerMetadata",
    "PodSandboxMetadata",
    "KeyValue",
    "IDMapping",
    "CDIDevice",
    "HugepageLimit",
    "Int64Value",
    "SELinuxOption",
    "SecurityProfile",
    "UserNamespace",
    "DNSConfig",
    "PortMapping",
    "WindowsContainerConfig",
    "WindowsPodSandboxConfig",
}


def leaves(descriptor, prefix="", whole=frozenset()):
    """Yield the paths of all fields of a message that are decided on one by one."""
    for field in descriptor.fields:
        path = prefix + field.name
        below = field.message_type
        is_map = below is not None and below.GetOptions().map_entry
        if below is None or is_map or below.name in WHOLE or path in whole:
            yield path
            continue
        is_list = field.label == field.LABEL_REPEATED
        yield from leaves(below, f"{path}[]." if is_list else f"{path}.", whole)


#: What a pod's limits are has no effect at all; of a mount's image the name alone counts.
TABLES = {
    "config": (CONFIG, pb.ContainerConfig.DESCRIPTOR, {"mounts[].image"}),
    "sandbox_config": (SANDBOX, pb.PodSandboxConfig.DESCRIPTOR, {"linux.overhead", "linux.resources"}),
}


@pytest.mark.parametrize("name", TABLES)
def test_every_field_of_the_definition_is_decided_on_once(name):
    table, descriptor, whole = TABLES[name]
    assert sorted(field.path for field in table) == sorted(leaves(descriptor, whole=whole))


def test_what_is_taken_as_a_whole_is_in_the_definition():
    assert {name for name in WHOLE if name not in pb.DESCRIPTOR.message_types_by_name} == set()


@pytest.mark.parametrize(
    "field", [*CONFIG, *SANDBOX], ids=[*(f.path for f in CONFIG), *(f"pod.{f.path}" for f in SANDBOX)]
)
def test_every_decision_has_its_reason(field):
    if field.kind is Kind.REFUSED:
        assert field.refused
    else:
        assert field.words


def lines(table):
    """Return the lines that the guide has for a table."""
    for field in table:
        becomes = {Kind.MAPPED: field.words, Kind.IGNORED: f"no effect: {field.words}", Kind.REFUSED: "–"}
        yield f"| `{field.path}` | {becomes[field.kind]} | {field.refused or '–'} |"


@pytest.mark.parametrize("name", TABLES)
def test_guide_has_the_table_as_it_is(name):
    found = re.search(
        rf"^\| field of `{name}` \|.*\n\|---\|---\|---\|\n((?:\|.*\n)+)", GUIDE.read_text(), re.MULTILINE
    )
    assert found, f"no table of {name}"
    assert found[1].splitlines() == list(lines(TABLES[name][0]))
