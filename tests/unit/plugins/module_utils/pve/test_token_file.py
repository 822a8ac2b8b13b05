# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the file of a token's secret to what it is read as, and the default server of a node."""

from __future__ import annotations

import hashlib
import json
import ssl

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import errors
from ansible_collections.pvecri.runtime.plugins.module_utils.pve import token_file
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.session import Connection
from ansible_collections.pvecri.runtime.plugins.module_utils.pve.token_file import Credentials, Server
from ansible_collections.pvecri.runtime.tests.support.certificates import Authority

MINE = Credentials(Server("pve1", 8006, "/ca.pem"), "a@pve", "t", "s3cret")


def test_write_and_read_back(tmp_path):
    path = str(tmp_path / "pve.json")
    token_file.write(path, MINE)
    assert token_file.read(path) == token_file.Found(True, MINE, True)
    assert "s3cret" not in repr(token_file.read(path))
    (tmp_path / ".pve.json.abcdefgh").write_text("half")
    token_file.remove(path)
    assert list(tmp_path.iterdir()) == []
    token_file.remove(path)
    assert token_file.read(path) == token_file.Found()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "null",
        "[]",
        "{}",
        json.dumps({"host": "a", "port": "x", "user": "u", "token_id": "t", "secret": "s"}),
        json.dumps({"host": "a", "port": 1, "user": "u", "token_id": "t", "secret": None}),
        json.dumps({"host": "a", "port": 1, "user": "u", "token_id": "t", "secret": ""}),
        json.dumps({"host": "a", "port": 1, "user": "u", "token_id": "t", "secret": "a\r\nHost: b"}),
        "[" * 100000,
        *(
            json.dumps({"host": "a", "port": 1, "user": "u", "token_id": "t", "secret": "s", **wrong})
            for wrong in (
                *({"port": port} for port in (float("inf"), float("nan"), 0, -1, 65536)),
                *({"host": host} for host in (5, ["a"], "", "a\nb")),
                *({key: wrong} for key in ("ca_path", "fingerprint") for wrong in (5, ["x"])),
            )
        ),
    ],
)
def test_read_of_something_else_is_no_credentials(tmp_path, content):
    (tmp_path / "f").write_text(content)
    assert token_file.read(str(tmp_path / "f")) == token_file.Found(True, None, False)


def test_read_refuses_what_is_no_file(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "f")
    for path in (tmp_path, tmp_path / "link"):
        with pytest.raises(errors.InvalidSpec, match="no regular file"):
            token_file.read(str(path))


@pytest.fixture
def certificate(tmp_path):
    return Authority(tmp_path / "pki").server("node", "DNS:node").cert


def sha256(path):
    with open(path) as stream:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(stream.read())).hexdigest()


def test_server_of_node_trusts_the_cluster_unless_it_has_a_certificate_of_its_own(
    certificate, tmp_path, monkeypatch
):
    monkeypatch.setattr(token_file, "CUSTOM_CERTIFICATE", str(tmp_path / "none"))
    assert token_file.server_of_node() == Server(ca_path="/etc/pve/pve-root-ca.pem")
    chain = tmp_path / "chain.pem"
    with open(certificate) as stream:
        text = stream.read()
    chain.write_text(f"# first\n{text}{text[:60]}")
    monkeypatch.setattr(token_file, "CUSTOM_CERTIFICATE", str(chain))
    assert token_file.server_of_node() == Server(fingerprint=sha256(certificate))
    assert token_file.server_of_node({"ca_path": "x"}) == Server()


@pytest.mark.parametrize(
    "content", [None, "nothing", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----"]
)
def test_fingerprint_of_something_else_says_what_to_give(tmp_path, content):
    if content is not None:
        (tmp_path / "x.pem").write_text(content)
    with pytest.raises(errors.InvalidSpec, match=r"Give server\.fingerprint"):
        token_file.fingerprint_of(str(tmp_path / "x.pem"))


@pytest.mark.parametrize(
    ("given", "server"),
    [
        ({}, Server("a", 1, "/ca", None)),
        ({"host": "b"}, Server("b", 1, "/ca", None)),
        ({"fingerprint": "AB:" * 31 + "AB"}, Server("a", 1, None, "ab" * 32)),
        ({"ca_path": "/other"}, Server("a", 1, "/other", None)),
    ],
)
def test_merged(given, server):
    assert token_file.merged(Server("a", 1, "/ca", None), given) == server


def test_is_accepted_reads_a_directory_of_authorities(tmp_path):
    # Nothing listens there: what counts is that the directory was taken.
    server = Server("127.0.0.1", 1, str(tmp_path))
    with pytest.raises(errors.ApiError, match=r"could not be tried at 127\.0\.0\.1:1"):
        token_file.is_accepted(Credentials(server, "a@pve", "t", "s"))


def test_certificates_of_the_cluster_are_trusted_where_python_is_strict(tmp_path, certificate, monkeypatch):
    # As Python 3.13 does by itself: it refuses the certificates of Proxmox VE's authority, which have no
    # authority key identifier.
    usual = ssl.create_default_context

    def strict(**options):
        context = usual(**options)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr(ssl, "create_default_context", strict)
    context = token_file._tls_context(Server(ca_path=certificate))
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_server_of_connection():
    connection = Connection("h", "u@pve", 8007, ca_path="/ca", fingerprint="f")
    assert token_file.server_of_connection(connection) == Server("h", 8007, "/ca", "f")
