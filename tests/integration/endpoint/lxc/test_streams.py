# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Exec, attach and port-forward with guests: as people use them, with and without a terminal."""

from __future__ import annotations

import hashlib
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.tests.support import crictl
from ansible_collections.pvecri.runtime.tests.support.streams import Streams, Terminal
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

pytestmark = pytest.mark.host

ECHO = "while read line; do echo got $line; echo bad $line >&2; done; echo over; exit 3"


@pytest.fixture
def streams(lab):
    reason = crictl.missing()
    if reason:
        pytest.skip(reason)
    return Streams(lab.endpoint)


def test_exec_sync(lab):
    container = lab.run(env={"FROM": "the container"})
    done = lab.cri.exec_sync(container, ["sh", "-c", "echo $FROM; echo bad >&2; pwd; exit 7"])
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"the container\n/\n", b"bad\n")
    assert lab.cri.exec_sync(container, ["sh", "-c", "kill -9 $$"]).exit_code == 137
    large = lab.cri.exec_sync(container, ["sh", "-c", "head -c 3000000 /dev/zero"]).stdout
    assert large == bytes(3_000_000)
    with lab.refused("DEADLINE_EXCEEDED"):
        lab.cri.exec_sync(container, ["sleep", "1000"], 1)
    eventually(lambda: "sleep 1000" not in processes(lab, container).replace("sh -c sleep 1000", ""))
    missing = lab.cri.exec_sync
    with pytest.raises(Exception, match="/no/such"):
        missing(container, ["/no/such"])


def processes(lab, container):
    """Return the command lines of a guest's processes but the first."""
    found = []
    vmid = lab.vmid(container)
    init = lab.node.machine.init_pid(vmid)
    space = os.readlink(f"/proc/{init}/ns/pid")
    for path in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if path.name != str(init) and os.readlink(path / "ns/pid") == space:
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
        except OSError:
            continue
    return "\n".join(found)


def test_exec_with_input_and_output(lab, streams):
    container = lab.run()
    data = os.urandom(2_000_000)
    done = streams.crictl("exec", "-i", container, "sha256sum", given=data)
    assert done == (0, f"{hashlib.sha256(data).hexdigest()}  -\n".encode(), b"")
    done = streams.crictl("exec", container, "sh", "-c", "echo out; echo bad >&2; exit 7")
    assert done.out == b"out\n"
    assert b"exit code 7" in done.err
    assert b"/no/such" in streams.crictl("exec", container, "/no/such").err


def test_exec_with_a_terminal_that_is_resized(lab, streams):
    container = lab.run()
    argv = streams.crictl_argv("exec", "-it", container, "sh")
    with Terminal(argv, columns=101, rows=31) as terminal:
        terminal.type(b"stty size; echo do''ne\n")
        assert b"31 101" in terminal.see(b"\ndone")
        terminal.resize(133, 44)

        def resized():
            terminal.type(b"stty size; echo do''ne\n")
            return b"44 133" in terminal.see(b"\ndone")

        eventually(resized, what="the new size")
        terminal.type(b'sh -c \'trap "echo inter""rupted; exit" INT; echo re""ady; sleep 1000\'\n')
        terminal.see(b"\nready")
        terminal.type(b"\x03")
        terminal.see(b"interrupted")
        terminal.type(b"exit 5\n")
        assert terminal.wait() != 0
        assert b"exit code 5" in terminal.seen


def test_a_client_that_leaves_ends_its_command(lab, streams):
    container = lab.run()
    argv = streams.crictl_argv("exec", "-it", container, "sh", "-c", "echo up; exec sleep 4321")
    with Terminal(argv) as terminal:
        terminal.see(b"up")
    eventually(lambda: "sleep 4321" not in processes(lab, container))


def test_attach_to_input_and_output(lab, streams):
    container = lab.run(script=ECHO, stdin=True, stdin_once=True)
    with streams.running(streams.crictl_argv("attach", "-i", container)) as process:
        process.stdin.write(b"one\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"got one\n"
        assert process.stderr.readline() == b"bad one\n"
        process.stdin.close()
        assert process.stdout.read() == b"over\n"
    assert lab.ended(container).exit_code == 3
    assert lab.log(container).count("got one") == 1


def test_attach_to_a_terminal(lab, streams):
    container = lab.run(command=["sh"], tty=True, stdin=True)
    with Terminal(streams.crictl_argv("attach", "-it", container), columns=97, rows=33) as terminal:

        def sized():
            terminal.type(b"stty size; echo do''ne\n")
            return b"33 97" in terminal.see(b"\ndone")

        eventually(sized, what="the terminal's size")
        terminal.type(b"tty; echo do''ne\n")
        assert b"/dev/console" in terminal.see(b"\ndone")
        terminal.type(b"exit 6\n")
        terminal.wait()
    assert lab.ended(container).exit_code == 6


def test_port_forward(lab, streams):
    pod = lab.pod()
    script = "mkdir -p /tmp/w; echo hi >/tmp/w/index.html; exec httpd -f -p 127.0.0.1:8000 -h /tmp/w"
    container = lab.run(pod, script)
    eventually(
        lambda: lab.cri.exec_sync(container, ["wget", "-qO-", "http://127.0.0.1:8000/"]).exit_code == 0
    )
    with streams.forwarded(streams.crictl_argv("port-forward", pod, "0:8000")) as (_process, (port,)):
        assert b"hi" in streams.ask(f"http://127.0.0.1:{port}/", "Connection: close\r\n")


def test_exec_has_what_the_container_has(lab):
    context = {"run_as_user": {"value": 1000}, "no_new_privs": True}
    context["capabilities"] = {"drop_capabilities": ["ALL"]}
    container = lab.run(linux={"security_context": {"namespace_options": {"pid": 1}, **context}})
    lines = lab.sh(
        container, "id -u; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/self/cgroup"
    )
    words = lines.split()
    assert words[0] == "1000"
    assert words[words.index("CapBnd:") + 1] == "0" * 16
    assert words[words.index("NoNewPrivs:") + 1] == "1"
    assert words[words.index("Seccomp:") + 1] == "2"
