# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Two requests or two failures at one pod: neither works on, or hides, what the other is at."""

from __future__ import annotations

import concurrent.futures
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import manager
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from ansible_collections.pvecri.runtime.tests.support.node import Node
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.sandboxes import files
from pvecri.state.records import Phase

LIMIT_S = 60


@pytest.mark.parametrize(("owner", "step"), [(manager.BundleManager, "commit"), (CrunRuntime, "create")])
def test_pod_removed_while_a_container_is_made(
    node: Node, monkeypatch: pytest.MonkeyPatch, owner: type[t.Any], step: str
) -> None:
    pod = node.run_pod(host_network=True)
    real = getattr(owner, step)
    removals: list[concurrent.futures.Future[None]] = []
    seen: list[bool] = []

    def meanwhile(self: t.Any, *args: t.Any, **options: t.Any) -> t.Any:
        if removals:
            return real(self, *args, **options)
        removals.append(pool.submit(node.services.sandboxes.remove, pod))
        eventually(lambda: node.context.registry.flags(pod), timeout_s=LIMIT_S)
        # Long enough for a removal that does not wait.
        concurrent.futures.wait(removals, timeout=1)
        seen.append(removals[0].done())
        return real(self, *args, **options)

    monkeypatch.setattr(owner, step, meanwhile)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        # Whichever finds it out first: crun, for want of a namespace, or the last look at the pod.
        with pytest.raises(CoreError):
            node.create(pod)
        removals[0].result(LIMIT_S)
    assert seen == [False]
    assert node.leftovers() == {}


def test_pod_that_cannot_be_undone_is_shown_with_the_first_failure(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: t.Any) -> None:
        raise CoreError("no files today")

    def crash(*_args: t.Any) -> None:
        raise KeyError("nobody thought of this")

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", fail)
        patch.setattr(files, "unmount_shm", crash)
        with pytest.raises(CoreError, match="no files today"):
            node.run_pod(host_network=True)
    (left,) = node.context.registry.sandboxes()
    assert left.phase is Phase.STOPPED
    assert "no files today" in left.message
    node.services.sandboxes.remove(left.id)
    assert node.leftovers() == {}
