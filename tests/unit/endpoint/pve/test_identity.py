# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A container is known as ours by tags and notes together, and by nothing less."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.lxc.record import LxcRecord
from pvecri.pve import identity
from pvecri.pve.identity import Identity

OURS = Identity(endpoint="e" * 16, container="c" * 64, sandbox="5" * 64)
TAGS = "pvecri;pvecri-cri"
NOTES = identity.description(OURS, pod="web", namespace="shop", container="app", image="registry.test/db:1")


def record(**changes):
    fields = {
        "name": OURS.container,
        "endpoint": OURS.endpoint,
        "vmid": 900001,
        "node": "pve1",
        "sandbox_id": OURS.sandbox,
        "bundle": "/b",
        "log_path": "",
        "boot_id": "x",
        "created_at": 1.0,
        "lxc_path": "/var/lib/lxc",
    }
    return LxcRecord(**{**fields, **changes})


def test_description_names_the_pod_for_people_and_the_ids_for_us() -> None:
    assert NOTES.startswith("Container app of pod shop/web, image registry.test/db:1. ")
    assert identity.identity_in(NOTES) == OURS


@pytest.mark.parametrize(
    "notes", [NOTES, NOTES + "\n", NOTES.replace("\n", "\r\n"), f"Mine.\n{NOTES}\nAs well."]
)
@pytest.mark.parametrize("tags", [TAGS, "pvecri-cri;pvecri", "a;pvecri;pvecri-cri;z", "pvecri pvecri-cri"])
def test_identity_is_found_however_the_server_writes_it(notes: str, tags: str) -> None:
    config = {"tags": tags, "description": notes}
    assert identity.identity_of(config) == OURS
    assert identity.is_ours(config, record())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"tags": TAGS},
        {"description": NOTES},
        {"tags": "pvecri", "description": NOTES},
        {"tags": "pvecri-cri", "description": NOTES},
        {"tags": "pvecri-crib;pvecri", "description": NOTES},
        {"tags": TAGS, "description": "pvecri-cri: {}"},
        {"tags": TAGS, "description": "pvecri-cri: {broken}"},
        {"tags": TAGS, "description": 'pvecri-cri: {"endpoint": [[['},
        {
            "tags": TAGS,
            "description": 'pvecri-cri: {"endpoint":"e","container":"c","sandbox":"s","vmid":Infinity}',
        },
        {"tags": TAGS, "description": None},
        {"tags": TAGS, "description": "text pvecri-cri: " + NOTES.split("pvecri-cri: ")[1]},
    ],
)
def test_identity_of_anything_less_is_none(config: dict) -> None:
    assert identity.identity_of(config) is None
    assert not identity.is_ours(config, record())


@pytest.mark.parametrize("changes", [{"name": "d" * 64}, {"endpoint": "f" * 16}, {"endpoint": ""}])
def test_what_another_made_is_not_ours(changes: dict) -> None:
    assert not identity.is_ours({"tags": TAGS, "description": NOTES}, record(**changes))


@given(*[st.text()] * 4)
def test_no_name_can_look_like_our_line(pod: str, namespace: str, container: str, image: str) -> None:
    notes = identity.description(OURS, pod=pod, namespace=namespace, container=container, image=image)
    assert identity.identity_in(notes) == OURS
    assert len(notes.splitlines()) == 3


def test_a_name_that_is_our_line_does_not_count() -> None:
    fake = 'x\npvecri-cri: {"endpoint":"a","container":"b","sandbox":"c"}\n'
    notes = identity.description(OURS, pod=fake, namespace="n", container=fake, image=fake)
    assert identity.identity_in(notes) == OURS


@pytest.mark.parametrize(
    ("pod", "container", "name"),
    [
        ("web-0", "app", "web-0-app"),
        ("Web.0", "My_App", "web-0-my-app"),
        ("-", "-", "pod"),
        ("", "", "pod"),
        ("é", "ü", "pod"),
        ("a" * 62, "b", "a" * 62),
        ("a" * 99, "b", "a" * 63),
    ],
)
def test_hostname_is_one_that_proxmox_takes(pod: str, container: str, name: str) -> None:
    assert identity.hostname(pod, container) == name
