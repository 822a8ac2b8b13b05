# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve kubectl's client library through kubelet's proxy, and every version of its protocols."""

from __future__ import annotations

import hashlib
import os

import pytest

from ansible_collections.pvecri.runtime.tests.support import kubelet
from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(kubelet.missing() is not None, reason=kubelet.missing() or ""),
    pytest.mark.parametrize("way", [[], ["-proxy"]], ids=["direct", "proxied"]),
]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_output_and_exit_code_come_back(streams, container, way, transport):
    url = streams.exec_url(container, "sh", "-c", "echo out; echo bad >&2; exit 7", stderr=True)
    assert streams.kubelet("exec", *way, "-transport", transport, url) == (7, b"out\n", b"bad\n")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_input_is_passed_on_to_its_end(streams, container, way, transport):
    data = os.urandom(3_000_000)
    url = streams.exec_url(container, "sha256sum", stdin=True, stderr=True)
    done = streams.kubelet("exec", *way, "-transport", transport, "-stdin", url, given=data)
    assert done == (0, f"{hashlib.sha256(data).hexdigest()}  -\n".encode(), b"")


@pytest.mark.parametrize(
    ("transport", "version"),
    [
        ("spdy", "v4"),
        ("spdy", "v3"),
        ("spdy", "v2"),
        ("spdy", "v1"),
        ("websocket", "v5"),
        ("websocket", "v4"),
    ],
)
def test_every_version_tells_output_and_failure(streams, container, way, transport, version):
    url = streams.exec_url(container, "sh", "-c", "echo out; echo bad >&2; exit 7", stderr=True)
    done = streams.kubelet("exec", *way, "-transport", transport, "-protocols", version, url)
    assert done.out == b"out\n"
    assert done.err.startswith(b"bad\n")
    # Before v4 there is a text, and no code; clients of v1 do not wait for it.
    assert (done.code == 7) is (version in ("v4", "v5"))
    assert done.code != 0 or version == "v1"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_terminal_follows_its_sizes(streams, container, way, transport):
    # crun gives the terminal its first size while it lets the program run.
    script = (
        "until stty size 2>/dev/null | grep ' [1-9]'; do sleep 0.02; done; "
        "until stty size 2>/dev/null | grep '20 90'; do sleep 0.02; done"
    )
    url = streams.exec_url(container, "sh", "-c", script, tty=True)
    sizes = "100x40,120x50,90x20"
    done = streams.kubelet("exec", *way, "-transport", transport, "-tty", "-sizes", sizes, url)
    first, last = done.out.split()[:2], done.out.split()[2:]
    assert (done.code, last) == (0, [b"20", b"90"])
    # Never that of a terminal nobody has told anything.
    assert first in ([b"40", b"100"], [b"50", b"120"], [b"20", b"90"])


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_attach_is_served(streams, way, transport):
    script = "read line; echo got $line; echo bad >&2; exit 4"
    _pod, container = streams.endpoint.run_container(["sh", "-c", script], stdin=True, stdin_once=True)
    url = streams.attach_url(container, stdin=True, stderr=True)
    done = streams.kubelet("exec", *way, "-transport", transport, "-stdin", url, given=b"one\n")
    assert done == (0, b"got one\n", b"bad\n")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ports_are_forwarded(streams, pod, way, transport):
    url = streams.forward_url(pod[0], 8001)
    argv = streams.kubelet_argv("forward", *way, "-transport", transport, url, "0:8001")
    with streams.forwarded(argv) as (process, (port,)):
        for _unused in range(20):
            with streams.connect(port) as connection:
                assert connection.makefile("rb").read() == b"hello\n"
        assert process.poll() is None


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_errors_are_shown_to_the_user(streams, container, way, transport):
    url = streams.exec_url(container, "/no/such/program", stderr=True)
    done = streams.kubelet("exec", *way, "-transport", transport, url)
    assert done.code != 0
    assert b"/no/such/program" in done.err
    # The URL is used up.
    done = streams.kubelet("exec", *way, "-transport", transport, url)
    assert (done.code, done.out) == (125, b"")
    assert b"there is no such stream" in done.err
