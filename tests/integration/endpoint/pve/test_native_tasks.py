# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End pulls of templates whose task fails, stands still or takes too long."""

from __future__ import annotations

import hashlib
import os
import threading

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    TaskFailed,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import images, spec
from ansible_collections.pvecri.runtime.tests.support.template_lab import (
    DEBIAN,
    OLD,
    lab,
)
from pvecri.images.errors import RegistryUnavailable
from pvecri.pve import native_index
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code

# The fixtures of this file.
__all__ = ["images", "lab"]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_pull_of_a_failed_task_tells_the_end_of_its_log(lab):
    async def fails(*_unused):
        from fakepve import TaskError

        async def body():
            raise TaskError("checksum mismatch: got 'abc' != expected 'def'")

        return str(await lab.cluster.pve.task("pve1", "download", "local", "root@pam", body))

    lab.cluster.call(_rewired(lab, fails))
    with pytest.raises(TaskFailed, match="checksum mismatch"):
        lab.service().pull(spec(DEBIAN))
    assert lab.files() == []
    listed_file = os.path.join(lab.images.paths.state_dir, "lxc", "native.json")
    assert native_index.load(listed_file) == native_index.Listed()


async def _rewired(lab, handler):
    from ansible_collections.pvecri.runtime.tests.support.pve_lxc import rewire

    rewire(lab.cluster, "POST", "/nodes/{node}/aplinfo", handler)


def _hang(lab):
    """Let downloads begin and go on for ever."""
    begun = threading.Event()

    async def hangs(values, user):
        import asyncio

        async def body():
            (lab.cache / f"{OLD}.tmp_dwnl.1").write_bytes(b"part")
            begun.set()
            await asyncio.sleep(3600)

        return str(await lab.cluster.pve.task("pve1", "download", "local", user, body))

    lab.cluster.call(_rewired(lab, hangs))
    return begun


def test_pull_in_which_nothing_moves_is_given_up_and_its_task_ended(lab):
    _hang(lab)
    service = lab.service(no_progress_timeout_s=1.0)
    with pytest.raises(RegistryUnavailable, match="nothing has come"):
        service.pull(spec(DEBIAN))
    deleted = [path for method, path in lab.cluster.requests_seen() if method == "DELETE"]
    assert len(deleted) == 1
    assert "/tasks/UPID:pve1:" in deleted[0]


def test_pull_that_takes_too_long_is_ended(lab):
    _hang(lab)
    with pytest.raises(CoreError) as caught:
        lab.service(pull_timeout_s=1.0).pull(spec(DEBIAN))
    assert status_of(caught.value) is Code.DEADLINE_EXCEEDED


def test_pull_ends_with_the_endpoint(lab):
    begun = _hang(lab)
    service = lab.service()
    future = service.begin_pull(spec(DEBIAN))
    assert begun.wait(30)
    service.close()
    with pytest.raises(WrongState, match="the endpoint stops"):
        future.result(30)
