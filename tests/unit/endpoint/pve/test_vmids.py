# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers follow from the container's id, and nobody is given one that somebody has."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import ApiError, InvalidSpec
from pvecri.pve import vmids
from pvecri.pve.vmids import NoneFree, Vmids, candidates
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code

RANGE = (900_000, 900_099)


class Cluster:
    """Knows which numbers are in use."""

    def __init__(self, *used: int) -> None:
        self.used, self.asked, self.error = set(used), [], None

    def get(self, path, *, vmid):
        assert path == ("cluster", "nextid")
        self.asked.append(vmid)
        if self.error is not None:
            raise self.error
        if vmid in self.used:
            raise InvalidSpec("vmid", f"VM {vmid} already exists")
        return str(vmid)


def test_candidates_are_all_numbers_of_the_range_once() -> None:
    found = list(candidates("a" * 64, RANGE))
    assert sorted(found) == list(range(900_000, 900_100))
    assert found == list(candidates("a" * 64, RANGE))
    assert found != list(candidates("b" * 64, RANGE))


def test_candidates_of_many_containers_are_spread() -> None:
    firsts = {next(candidates(f"{number:064x}", (900_000, 999_999))) for number in range(200)}
    assert len(firsts) > 190


def test_claims_pass_over_what_the_cluster_has_and_what_is_claimed() -> None:
    first, second, third = itertools.islice(candidates("a", RANGE), 3)
    cluster, numbers = Cluster(second), Vmids(RANGE, [first])
    assert next(numbers.claims(cluster, "a")) == third
    assert cluster.asked == [second, third]


def test_claims_of_one_number_are_given_to_one_caller_until_it_is_released() -> None:
    numbers = Vmids(RANGE)
    first = next(numbers.claims(Cluster(), "a"))
    second = next(numbers.claims(Cluster(), "a"))
    assert first != second
    numbers.release(first)
    assert next(numbers.claims(Cluster(), "a")) == first


def test_claims_end_when_nothing_is_free() -> None:
    numbers = Vmids((100, 101))
    claims = numbers.claims(Cluster(100), "a")
    assert next(claims) == 101
    with pytest.raises(NoneFree, match=r"no number from 100 to 101 is free .* pve.vmid_range") as caught:
        next(claims)
    assert status_of(caught.value) is Code.RESOURCE_EXHAUSTED


def test_claims_do_not_ask_for_ever() -> None:
    cluster = Cluster(*range(900_000, 901_000))
    numbers = Vmids((900_000, 900_999))
    with pytest.raises(NoneFree):
        next(numbers.claims(cluster, "a"))
    assert len(cluster.asked) == vmids._TRIES
    cluster.used.clear()
    assert next(numbers.claims(cluster, "a")) == cluster.asked[0]


def test_claims_hold_nothing_when_nobody_answers() -> None:
    cluster, numbers = Cluster(), Vmids(RANGE)
    cluster.error = ApiError("no connection")
    with pytest.raises(ApiError):
        next(numbers.claims(cluster, "a"))
    cluster.error = None
    assert next(numbers.claims(cluster, "a")) == cluster.asked[0]
