# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.container import netfiles
from ansible_collections.pvecri.runtime.plugins.module_utils.container.request import NetworkRequest

OWN = NetworkRequest(mode="podman")
HOST = NetworkRequest(mode="host")


@pytest.mark.parametrize(
    ("addresses", "request_", "host_text", "last"),
    [
        (["10.88.0.2", "fd00::2"], OWN, "", ["10.88.0.2\tweb", "fd00::2\tweb"]),
        ([], NetworkRequest(mode="none"), "", ["127.0.1.1\tweb"]),
        (
            ["10.88.0.2"],
            NetworkRequest(mode="podman", hosts=(("db", "10.0.0.9"),)),
            "",
            ["10.88.0.2\tweb", "10.0.0.9\tdb"],
        ),
        ([], HOST, "127.0.0.1 localhost\n10.0.0.1 node", ["10.0.0.1 node", "127.0.1.1\tweb"]),
        # The host knows the name already: its own answer counts.
        ([], HOST, "10.0.0.1 node web # here\n", ["10.0.0.1 node web # here"]),
    ],
)
def test_hosts_text(addresses, request_, host_text, last):
    lines = netfiles.hosts_text("web", addresses, request_, host_text).splitlines()
    assert lines[-len(last) :] == last
    assert any("localhost" in line for line in lines) or host_text.startswith("10.")


HOST_RESOLV = """\
# made by hand
domain first.example
nameserver 127.0.0.53
nameserver 10.0.0.1 # good
nameserver ::1
nameserver odd
search a.example b.example
options edns0
options ndots:2
sortlist 1
"""


@pytest.mark.parametrize(
    ("request_", "dns", "text"),
    [
        (
            OWN,
            {},
            "nameserver 10.0.0.1\nnameserver odd\nsearch a.example b.example\noptions edns0 ndots:2\n",
        ),
        (
            HOST,
            {},
            "nameserver 127.0.0.53\nnameserver 10.0.0.1\nnameserver ::1\nnameserver odd\n"
            "search a.example b.example\noptions edns0 ndots:2\n",
        ),
        (
            OWN,
            {"nameservers": ["10.88.0.1"], "search": ["dns.podman"], "options": ["rotate"]},
            "nameserver 10.88.0.1\nsearch dns.podman\noptions rotate\n",
        ),
        (
            NetworkRequest(mode="podman", dns_servers=("9.9.9.9",), dns_search=("x",), dns_options=("y",)),
            {"nameservers": ["10.88.0.1"]},
            "nameserver 9.9.9.9\nsearch x\noptions y\n",
        ),
    ],
)
def test_resolv_text(request_, dns, text):
    assert netfiles.resolv_text(request_, dns, HOST_RESOLV) == text


def test_resolv_text_of_nothing():
    assert netfiles.resolv_text(OWN, {}, "") == ""
