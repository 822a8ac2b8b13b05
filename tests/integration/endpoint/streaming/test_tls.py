# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve streams with TLS, and to clients with certificates alone."""

from __future__ import annotations

import pathlib
import shutil
import tempfile
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support import crictl
from ansible_collections.pvecri.runtime.tests.support.certificates import Authority
from ansible_collections.pvecri.runtime.tests.support.endpoint import Endpoint, running_endpoint
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.streams import TRANSPORTS

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def authority() -> t.Iterator[Authority]:
    directory = pathlib.Path(tempfile.mkdtemp(prefix="pt-"))
    yield Authority(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def endpoint(authority: Authority) -> t.Iterator[Endpoint]:
    """One that listens on all addresses and wants certificates of clients."""
    reason = crictl.missing()
    if reason:
        pytest.skip(reason)
    server = authority.server("node", "DNS:node1", "IP:127.0.0.1")
    settings = {
        "streaming": {
            "address": "0.0.0.0",
            "tls_cert": server.cert,
            "tls_key": server.key,
            "tls_client_ca": authority.ca,
        }
    }
    with running_endpoint(settings=settings) as made:
        yield made


@pytest.fixture(scope="module")
def options(authority: Authority) -> list[str]:
    """Return the options by which crictl is let in."""
    client = authority.client("operator")
    return ["--tls-ca", authority.ca, "--tls-cert", client.cert, "--tls-key", client.key]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_with_a_certificate_is_served(streams, container, authority, options, transport):
    name = ["--tls-server-name", "node1"]
    data = b"x" * 2_000_000
    done = streams.crictl("exec", "-i", "-r", transport, *options, *name, container, "cat", given=data)
    assert done == (0, data, b"")


def test_urls_are_https_and_name_an_address_of_the_node(streams, container):
    assert streams.exec_url(container, "true").startswith("https://127.0.0.1:")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_others_are_not(streams, container, authority, options, transport, tmp_path):
    name = ["--tls-server-name", "node1"]
    stranger = Authority(tmp_path, "stranger").client("visitor")
    for given in (
        options[:2],
        [*options[:2], "--tls-cert", stranger.cert, "--tls-key", stranger.key],
    ):
        done = streams.crictl("exec", "-r", transport, *given, *name, container, "echo", "in")
        assert done.code != 0
        assert done.out == b""


def test_ports_are_forwarded(streams, pod, options):
    argv = streams.crictl_argv("port-forward", *options, "--tls-server-name", "node1", pod[0], "0:8001")
    with streams.forwarded(argv) as forwarded, streams.connect(forwarded[1][0]) as connection:
        assert connection.makefile("rb").read() == b"hello\n"


def test_a_renewed_certificate_is_used_without_a_restart(streams, container, authority, options):
    authority.server("node", "DNS:node2", "IP:127.0.0.1")
    done = streams.crictl("exec", *options, "--tls-server-name", "node2", container, "echo", "fine")
    assert done == (0, b"fine\n", b"")


def test_files_that_are_no_certificate_are_told(streams, container, authority):
    path = pathlib.Path(authority.ca).parent / "node.pem"
    content = path.read_bytes()
    streams.endpoint.stop()
    path.write_bytes(b"nothing")
    streams.endpoint.start()
    with refused("FAILED_PRECONDITION", "streaming.tls_cert"):
        streams.exec_url(container, "true")
    path.write_bytes(content)
    assert streams.exec_url(container, "true").startswith("https://")
