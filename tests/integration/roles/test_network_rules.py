# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make, check and remove the rules by which pods reach other networks, in network namespaces of its own."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

PROGRAM = pathlib.Path(__file__).parents[3] / "roles/cri_endpoint/files/bin/pvecri-network.sh"
pytestmark = pytest.mark.host

V4, OTHER, V6 = "10.88.0.0/16", "10.99.0.0/24", "fd00:88::/64"


def inside(script: str) -> str:
    """Run a script in a new network namespace; return what it prints."""
    done = subprocess.run(
        ["unshare", "--net", "sh", "-eu", "-c", script, "sh", str(PROGRAM)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_made_once_replaced_and_removed():
    said = inside(
        f"""
        iptables -t nat -A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE
        sh "$1" up {V4} {V6}; sh "$1" up {V4} {V6}
        sh "$1" check {V4} {V6}; echo checked
        iptables -t nat -S; ip6tables -t nat -S PVECRI-MASQUERADE
        sh "$1" up {OTHER}; iptables -t nat -S PVECRI-MASQUERADE
        ! ip6tables -t nat -S PVECRI-MASQUERADE 2>/dev/null
        sh "$1" down; sh "$1" down; echo down; iptables -t nat -S
        """
    )
    made, _unused, removed = said.partition("down\n")
    assert made.startswith("checked\n")
    assert made.count("-A POSTROUTING -j PVECRI-MASQUERADE") == 1
    assert f"-A PVECRI-MASQUERADE -s {V4} ! -d 224.0.0.0/4 -j MASQUERADE" in made
    assert f"-A PVECRI-MASQUERADE -s {V6} ! -d ff00::/8 -j MASQUERADE" in made
    assert f"-A PVECRI-MASQUERADE -d {OTHER} -j RETURN" in made.splitlines()[-2]
    assert "PVECRI" not in removed
    assert "-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE" in removed


@pytest.mark.parametrize(
    "damage",
    [
        "iptables -t nat -F PVECRI-MASQUERADE",
        "iptables -t nat -D POSTROUTING -j PVECRI-MASQUERADE",
        "iptables -t nat -A PVECRI-MASQUERADE -j ACCEPT",
        "ip6tables -t nat -F",
        'sh "$1" down',
    ],
)
def test_check_sees_rules_that_somebody_changed(damage):
    said = inside(
        f"""
        sh "$1" up {V4} {V6}
        {damage}
        if sh "$1" check {V4} {V6}; then echo same; else echo differs; fi
        sh "$1" up {V4} {V6}; sh "$1" check {V4} {V6}
        """
    )
    assert said == "differs\n"


def test_pods_reach_each_other_by_their_own_addresses():
    rules = inside(f'sh "$1" up {V4} {OTHER}; iptables -t nat -S PVECRI-MASQUERADE').splitlines()
    kinds = [rule.rpartition(" ")[2] for rule in rules if rule.startswith("-A")]
    assert kinds == ["RETURN", "RETURN", "MASQUERADE", "MASQUERADE"]


def test_wrong_use_is_told():
    done = subprocess.run(["sh", str(PROGRAM), "sideways"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr[:6]) == (2, "usage:")
