# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a host can do."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.status import features
from pvecri.status.features import Features, features_of, limitations, missing_programs


def host(**facts: t.Any) -> HostFacts:
    return HostFacts(**{"kernel": (6, 1), "crun_version": (1, 8, 1), "seccomp_default": {}, **facts})


@pytest.mark.parametrize(
    ("facts", "namespaces", "expected"),
    [
        ({}, 1000, Features(True, True)),
        ({}, 0, Features(True, False)),
        ({"kernel": (5, 15)}, 1000, Features(True, False)),
        ({"kernel": (5, 10)}, 1000, Features(False, False)),
        ({"crun_version": (1, 3)}, 1000, Features(False, False)),
        ({"crun_version": ()}, 1000, Features(False, False)),
    ],
)
def test_features_follow_kernel_and_crun(
    facts: dict[str, t.Any], namespaces: int, expected: Features
) -> None:
    assert features_of(host(**facts), max_user_namespaces=namespaces) == expected


def test_read_max_user_namespaces(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "max"
    assert features.read_max_user_namespaces(str(path)) == 0
    path.write_text("123\n")
    assert features.read_max_user_namespaces(str(path)) == 123
    path.write_text("many\n")
    assert features.read_max_user_namespaces(str(path)) == 0


def test_limitations_of_a_whole_host_are_none() -> None:
    assert limitations(host()) == []


def test_limitations_name_what_is_missing() -> None:
    found = limitations(
        host(
            capabilities=frozenset({"CAP_CHOWN"}),
            oom_score_adj=-5,
            has_swap_accounting=False,
            seccomp_default=None,
        )
    )
    assert [text.partition(":")[0] for text in found] == [
        "CAP_SYS_RESOURCE is missing",
        "the kernel does not account swap",
        "there is no default seccomp profile",
    ]
    assert "below -5" in found[0]


def test_missing_programs(tmp_path: pathlib.Path) -> None:
    assert missing_programs("/bin/sh", str(tmp_path / "crun")) == [str(tmp_path / "crun")]
