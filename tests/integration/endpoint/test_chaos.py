# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A short run of what scripts/chaos does for as long as one likes."""

from __future__ import annotations

import os

import pytest

from ansible_collections.pvecri.runtime.tests.chaos.chaos import chaos
from ansible_collections.pvecri.runtime.tests.support import pve_machine
from ansible_collections.pvecri.runtime.tests.support.endpoint import missing

SECONDS = 25
#: Another one each time would find more and could not be repeated.
SEED = int(os.environ.get("PVECRI_TEST_SEED", "1"))


def test_nothing_is_lost_or_left_when_the_endpoint_is_killed_again_and_again() -> None:
    reason = missing()
    if reason:
        pytest.skip(reason)
    outcome = chaos(SECONDS, SEED)
    assert outcome.problems == [], outcome.report()
    assert outcome.kills >= 3


def test_nothing_is_lost_or_left_when_guests_of_proxmox_are_among_the_containers() -> None:
    reason = missing() or pve_machine.missing()
    if reason:
        pytest.skip(reason)
    outcome = chaos(SECONDS, SEED, guests=True)
    assert outcome.problems == [], outcome.report()
    assert outcome.kills >= 3
