# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let requests for streams through, or say what is wrong with them."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, NotFound, WrongState
from ansible_collections.pvecri.runtime.tests.support import records
from pvecri.api import cri_pb2 as pb
from pvecri.state.records import Phase
from pvecri.state.registry import Registry
from pvecri.streaming.requests import Grant, Kind, attach_grant, exec_grant, forward_grant

# The same in every process that collects these tests: they are in the tests' names.
POD, STOPPED, APP, CREATED, ENDED = (digits * 32 for digits in ("aa", "ab", "cc", "cd", "ce"))


@pytest.fixture
def registry(tmp_path):
    made = Registry.open(str(tmp_path / "db"))
    made.reserve_sandbox(records.sandbox(id=POD))
    made.reserve_sandbox(records.sandbox(id=STOPPED, phase=Phase.STOPPED))
    made.reserve_container(records.container(POD, id=APP, phase=Phase.RUNNING))
    made.reserve_container(records.container(POD, id=CREATED))
    made.reserve_container(records.container(POD, id=ENDED, phase=Phase.EXITED))
    yield made
    made.close()


def exec_request(**fields):
    return pb.ExecRequest(**{"container_id": APP, "cmd": ["true"], "stdout": True, **fields})


def attach_request(**fields):
    return pb.AttachRequest(**{"container_id": APP, "stdout": True, **fields})


def forward_request(**fields):
    return pb.PortForwardRequest(**{"pod_sandbox_id": POD, **fields})


GOOD = [
    (exec_grant, exec_request(), Kind.EXEC, APP),
    (exec_grant, exec_request(stdin=True, stdout=False), Kind.EXEC, APP),
    (exec_grant, exec_request(stdin=True, tty=True), Kind.EXEC, APP),
    (exec_grant, exec_request(stderr=True), Kind.EXEC, APP),
    (attach_grant, attach_request(stdin=True, stderr=True), Kind.ATTACH, APP),
    (attach_grant, attach_request(stdin=True, tty=True), Kind.ATTACH, APP),
    (attach_grant, attach_request(container_id=CREATED), Kind.ATTACH, CREATED),
    (forward_grant, forward_request(), Kind.FORWARD, POD),
    (forward_grant, forward_request(port=[1, 65535, 80]), Kind.FORWARD, POD),
    (forward_grant, forward_request(pod_sandbox_id=POD[:10]), Kind.FORWARD, POD),
]


@pytest.mark.parametrize(("make", "request_", "kind", "object_id"), GOOD)
def test_grants_name_the_object_by_its_whole_id(registry, make, request_, kind, object_id):
    assert make(registry, request_) == Grant(kind, object_id, request_)


BAD = [
    (exec_grant, exec_request(container_id=""), InvalidSpec, "container_id"),
    (exec_grant, exec_request(cmd=[]), InvalidSpec, "cmd"),
    (exec_grant, exec_request(cmd=["", "x"]), InvalidSpec, "cmd"),
    (exec_grant, exec_request(cmd=["a", "b\0c"]), InvalidSpec, r"cmd\[1\]"),
    (exec_grant, exec_request(stdout=False), InvalidSpec, "stdout"),
    (exec_grant, exec_request(tty=True, stderr=True), InvalidSpec, "stderr"),
    (exec_grant, exec_request(container_id="ffff"), NotFound, "ffff"),
    (exec_grant, exec_request(container_id=POD), NotFound, POD),
    (exec_grant, exec_request(container_id=CREATED), WrongState, "is created, not running"),
    (attach_grant, attach_request(container_id=""), InvalidSpec, "container_id"),
    (attach_grant, attach_request(stdout=False), InvalidSpec, "stdout"),
    (attach_grant, attach_request(tty=True, stderr=True), InvalidSpec, "stderr"),
    (attach_grant, attach_request(container_id="ffff"), NotFound, "ffff"),
    (attach_grant, attach_request(container_id=ENDED), WrongState, "is exited, not running"),
    (forward_grant, forward_request(pod_sandbox_id=""), InvalidSpec, "pod_sandbox_id"),
    (forward_grant, forward_request(port=[80, 0]), InvalidSpec, r"port\[1\]"),
    (forward_grant, forward_request(port=[65536]), InvalidSpec, r"port\[0\]"),
    (forward_grant, forward_request(port=[-1]), InvalidSpec, r"port\[0\]"),
    (forward_grant, forward_request(pod_sandbox_id="ffff"), NotFound, "ffff"),
    (forward_grant, forward_request(pod_sandbox_id=STOPPED), WrongState, "is stopped, not ready"),
]


@pytest.mark.parametrize(("make", "request_", "kind", "text"), BAD)
def test_grants_say_what_is_wrong(registry, make, request_, kind, text):
    with pytest.raises(kind, match=text):
        make(registry, request_)
