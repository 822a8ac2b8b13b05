# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attach to a container's own process with crictl, over both transports."""

from __future__ import annotations

import time

import pytest

from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS, Terminal
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = [pytest.mark.host, pytest.mark.parametrize("transport", TRANSPORTS)]

ECHO = "while read line; do echo got $line; echo bad $line >&2; done; echo over; exit 3"


def test_input_and_output_are_the_container_s(streams, transport):
    _pod, container = streams.endpoint.run_container(["sh", "-c", ECHO], stdin=True)
    with streams.running(streams.crictl_argv("attach", "-i", "-r", transport, container)) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got one\n"
        assert process.stderr.readline() == b"bad one\n"
    # It goes on for the next one.
    with streams.running(streams.crictl_argv("attach", "-i", "-r", transport, container)) as process:
        process.stdin.write(b"two\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got two\n"
        process.stdin.close()
        assert process.wait(20) == 0
    assert streams.cri.container_status(container).state == 1


def test_who_attaches_before_the_start_misses_nothing(streams, transport):
    endpoint = streams.endpoint
    config = endpoint.pod()
    pod = endpoint.cri.run_pod(config)
    container = endpoint.cri.create(pod, endpoint.container(command=["echo", "first words"]), config)
    with streams.running(streams.crictl_argv("attach", "-r", transport, container)) as process:
        eventually(lambda: f"stream opened kind=attach id={container}" in endpoint.log_text())
        time.sleep(0.2)
        endpoint.cri.start(container)
        assert process.stdout.read() == b"first words\n"
        assert process.wait(20) == 0


def test_the_end_of_input_ends_a_container_that_has_it_once(streams, transport):
    _pod, container = streams.endpoint.run_container(["sh", "-c", ECHO], stdin=True, stdin_once=True)
    done = streams.crictl("attach", "-i", "-r", transport, container, given=b"one\n")
    assert b"got one\nover\n" in done.out
    eventually(lambda: streams.cri.container_status(container).exit_code == 3, what="the container's end")


def test_output_goes_to_all_who_are_attached(streams, transport):
    _pod, container = streams.endpoint.run_container(["sh", "-c", "while :; do echo tick; sleep 0.1; done"])
    argv = streams.crictl_argv("attach", "-r", transport, container)
    with streams.running(argv) as first, streams.running(argv) as second:
        for process in (first, second):
            assert [process.stdout.readline() for _unused in range(3)] == [b"tick\n"] * 3
        streams.cri.stop(container)
        for process in (first, second):
            assert process.wait(20) == 0


def test_a_terminal_is_shared_and_resized(streams, transport):
    _pod, container = streams.endpoint.run_container(["sh"], stdin=True, tty=True)
    argv = streams.crictl_argv("attach", "-it", "-r", transport, container)
    with Terminal(argv, columns=99, rows=33) as terminal:

        def has(size: bytes) -> bool:
            terminal.type(b"stty size; echo do''ne\n")
            return size in terminal.see(b"\ndone")

        eventually(lambda: has(b"33 99"), what="the window's size")
        terminal.resize(77, 22)
        eventually(lambda: has(b"22 77"), what="the new size")
    assert streams.cri.container_status(container).state == 1
