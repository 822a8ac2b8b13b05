# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in containers by ExecSync."""

from __future__ import annotations

import threading
import time

import grpc
import pytest

from ansible_collections.pvecri.runtime.tests.integration.endpoint.containers.conftest import Lab
from ansible_collections.pvecri.runtime.tests.support.endpoint import running_endpoint
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

LIMIT = 64 << 10


@pytest.fixture(scope="module")
def module_lab():
    with running_endpoint(settings={"runtime": {"exec_output_max_bytes": LIMIT}}) as endpoint:
        yield Lab(endpoint)


def processes(lab, container, word):
    return [line for line in lab.sh(container, "ps -o args").splitlines() if word in line]


def test_streams_code_environment_and_user(lab):
    container = lab.run(env={"GIVEN": "value"}, working_dir="/tmp")
    done = lab.cri.exec_sync(container, ["sh", "-c", "echo $GIVEN; pwd; echo err >&2; exit 7"], 10)
    assert (done.stdout, done.stderr, done.exit_code) == (b"value\n/tmp\n", b"err\n", 7)
    binary = lab.cri.exec_sync(container, ["printf", "\\377\\000\\n"], 10)
    assert binary.stdout == b"\xff\x00\n"
    assert lab.cri.exec_sync(container, ["sh", "-c", "kill -9 $$"], 10).exit_code == 137


def test_time_out_kills_all_descendants(lab):
    container = lab.run()
    started = time.monotonic()
    with lab.refused("DEADLINE_EXCEEDED"):
        lab.cri.exec_sync(container, ["sh", "-c", "(sleep 4711 & sleep 4711) & sleep 4711"], 1)
    assert time.monotonic() - started < 15
    assert processes(lab, container, "4711") == []
    with lab.refused("DEADLINE_EXCEEDED"):
        lab.cri.exec_sync(container, ["sh", "-c", "while :; do echo yes; done"], 1)


def test_output_has_a_limit(lab):
    container = lab.run()
    done = lab.cri.exec_sync(container, ["sh", "-c", f"head -c {LIMIT * 4} /dev/zero; echo ok >&2"], 20)
    assert (len(done.stdout), done.stderr, done.exit_code) == (LIMIT, b"ok\n", 0)


def test_refusals(lab):
    container = lab.run()
    for command, words in (
        ([], ["cmd", "no program"]),
        ([""], ["cmd"]),
        (["a\0"], ["cmd[0]"]),
        (["no-such-program"], ["cmd", "no-such-program"]),
    ):
        with lab.refused("INVALID_ARGUMENT", *words):
            lab.cri.exec_sync(container, command, 5)
    with lab.refused("INVALID_ARGUMENT", "timeout"):
        lab.cri.exec_sync(container, ["true"], -1)
    assert lab.cri.exec_sync(container, ["true"], (1 << 63) - 1).exit_code == 0
    with lab.refused("NOT_FOUND"):
        lab.cri.exec_sync("f" * 64, ["true"], 5)
    lab.cri.stop(container)
    with lab.refused("FAILED_PRECONDITION", "exited"):
        lab.cri.exec_sync(container, ["true"], 5)


def test_many_at_once_and_beside_a_slow_stop(lab):
    container = lab.run(script="trap '' TERM; while :; do sleep 0.1; done")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(lab.cri.exec_sync(container, ["id", "-u"], 30).stdout))
        for _number in range(20)
    ]
    stopper = threading.Thread(target=lab.cri.stop, args=(container, 30))
    stopper.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stopper.is_alive()
    assert found == [b"0\n"] * 20
    lab.cri.stop(container, 0)
    stopper.join()


def test_client_that_goes_away_takes_its_command_along(lab):
    container = lab.run()
    with pytest.raises(grpc.RpcError):
        lab.cri.exec_sync(container, ["sleep", "8642"], 0, timeout_s=1)
    eventually(lambda: not processes(lab, container, "8642"))


def test_command_ends_with_its_container(lab):
    container = lab.run()
    codes = []

    def work():
        try:
            codes.append(lab.cri.exec_sync(container, ["sleep", "1000"], 0).exit_code)
        except grpc.RpcError as exc:
            codes.append(exc.code())

    thread = threading.Thread(target=work)
    thread.start()
    while not processes(lab, container, "sleep 1000"):
        time.sleep(0.02)
    time.sleep(0.3)
    lab.cri.stop(container)
    thread.join(20)
    assert codes == [137]
