# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands in a container with crictl, over both transports, as a person does."""

from __future__ import annotations

import hashlib
import os

import pytest

from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS, Terminal
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = [pytest.mark.host, pytest.mark.parametrize("transport", TRANSPORTS)]


def test_output_and_exit_code_come_back(streams, container, transport):
    script = "echo out; echo bad >&2; exit 7"
    done = streams.crictl("exec", "-r", transport, container, "sh", "-c", script)
    assert done.out == b"out\n"
    assert done.err.startswith(b"bad\n")
    assert b"exit code 7" in done.err
    assert done.code != 0
    assert streams.crictl("exec", "-r", transport, container, "true") == (0, b"", b"")


def test_input_is_passed_on_to_its_end(streams, container, transport):
    data = os.urandom(5_000_000)
    done = streams.crictl("exec", "-i", "-r", transport, container, "sha256sum", given=data)
    assert done == (0, f"{hashlib.sha256(data).hexdigest()}  -\n".encode(), b"")


def test_output_comes_whole_while_input_goes_in(streams, container, transport):
    data = os.urandom(3_000_000)
    assert streams.crictl("exec", "-i", "-r", transport, container, "cat", given=data) == (0, data, b"")


def test_input_that_ends_at_once_ends_cat(streams, container, transport):
    assert streams.crictl("exec", "-i", "-r", transport, container, "cat") == (0, b"", b"")


def test_the_end_of_output_is_not_lost(streams, container, transport):
    script = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    done = streams.crictl("exec", "-r", transport, container, "sh", "-c", script)
    assert done.code == 0
    assert done.out.splitlines() == [b"line %d" % number for number in range(20000)]


def test_a_program_that_is_missing_is_named(streams, container, transport):
    done = streams.crictl("exec", "-r", transport, container, "/no/such/program")
    assert done.code != 0
    assert b"/no/such/program" in done.err


def test_a_terminal_has_the_window_s_size_and_follows_it(streams, container, transport):
    argv = streams.crictl_argv("exec", "-it", "-r", transport, container, "sh")
    with Terminal(argv, columns=101, rows=31) as terminal:
        terminal.type(b"stty size; echo do''ne\n")
        assert b"31 101" in terminal.see(b"\ndone")
        terminal.resize(133, 44)

        def resized() -> bool:
            terminal.type(b"stty size; echo do''ne\n")
            return b"44 133" in terminal.see(b"\ndone")

        eventually(resized, what="the new size")
        terminal.type(b"tty; echo do''ne\n")
        assert b"/dev/pts/" in terminal.see(b"\ndone")
        terminal.type(b"exit 5\n")
        assert terminal.wait() != 0
        assert b"exit code 5" in terminal.seen


def test_a_terminal_takes_keys_that_interrupt(streams, container, transport):
    argv = streams.crictl_argv("exec", "-it", "-r", transport, container, "sh")
    with Terminal(argv) as terminal:
        # Said by the program that is interrupted, when the terminal is its own.
        terminal.type(b"sh -c 'echo be''gin; exec sleep 1000'\n")
        terminal.see(b"\nbegin")
        terminal.type(b"\x03")
        terminal.type(b"echo go''es on\n")
        # Before its prompt the shell has not got the terminal to itself, and this key means something else.
        terminal.see(b"\ngoes on")
        terminal.see(b"# ")
        terminal.type(b"\x04")
        terminal.wait()


def test_a_command_ends_when_its_client_is_killed(streams, container, transport):
    argv = streams.crictl_argv(
        "exec", "-i", "-r", transport, container, "sh", "-c", "echo $$; exec sleep 4321"
    )
    with streams.running(argv) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip().isdigit()
        process.kill()

    def is_gone() -> bool:
        return b"sleep 4321" not in streams.cri.exec_sync(container, ["ps"]).stdout

    eventually(is_gone, what="the command's end")


def test_the_url_is_for_one_client(streams, container, transport):
    with refused("NOT_FOUND", "ffff"):
        streams.exec_url("ffff", "true")
    with refused("INVALID_ARGUMENT", "stderr"):
        streams.exec_url(container, "true", tty=True, stderr=True)
    assert streams.exec_url(container, "true") != streams.exec_url(container, "true")
