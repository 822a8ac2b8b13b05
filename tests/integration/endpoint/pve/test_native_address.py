# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Pull templates of Proxmox LXC from addresses that the configuration names."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import lzma
import os
import pathlib

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    NotFound,
    WrongState,
)
from ansible_collections.pvecri.runtime.tests.support.image_service import images, spec
from ansible_collections.pvecri.runtime.tests.support.images import File, tar_layer
from ansible_collections.pvecri.runtime.tests.support.template_lab import (
    lab,
    serve,
)
from ansible_collections.pvecri.runtime.tests.support.template_server import TemplateServer
from ansible_collections.pvecri.runtime.tests.support.templates import (
    GROUP,
    PASSWD,
    packed_template,
)
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.images.errors import RegistryUnavailable
from pvecri.pve.templates import Templates
from pvecri.rpc.errors import status_of
from pvecri.rpc.status import Code

# The fixtures of this file.
__all__ = ["images", "lab", "serve"]


def sha256(content):
    return hashlib.sha256(content).hexdigest()


BASE = "lxc/base"


@pytest.fixture
def web():
    """A server of templates."""
    with TemplateServer() as made:
        yield made


def source(web, content=None, name="base.tar.zst"):
    """Return the section [pve.templates] that names a file of the server."""
    sha512 = hashlib.sha512(web.content if content is None else content).hexdigest()
    return {BASE: {"url": f"{web.url}/{name}", "sha512": sha512}}


def test_pull_from_an_address_checks_it_and_needs_no_node(lab, web):
    lab.cluster.stop()
    web.content = packed_template("base", dotted=False)
    service = lab.service(source(web))
    found = service.pull(spec(BASE))
    assert found == f"sha256:{sha256(web.content)}"
    (file,) = lab.files()
    assert file.startswith("pvecri_base-latest_")
    assert file.endswith(".tar.zst")
    service.pull(spec(BASE))
    lab.service(source(web)).pull(spec(f"{BASE}:latest"))
    assert web.count == 1
    service.remove(spec(BASE))
    assert lab.files() == []


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("xz", lzma.compress)])
def test_pull_from_an_address_of_another_packing(lab, web, images, suffix, pack):
    web.content = pack(tar_layer([File("etc/passwd", PASSWD), File("etc/group", GROUP)]))
    service = lab.service(source(web, name=f"base.tar.{suffix}"))
    service.pull(spec(BASE))
    image = service.resolve(BASE)
    assert image.volid.endswith(f".tar.{suffix}")
    assert pathlib.Path(image.layer_dirs[0], "etc/passwd").read_bytes() == PASSWD
    os.unlink(image.path)
    archives = Templates(lab.node, images.store, images.paths, images.log)
    with pytest.raises(NotFound, match="gone from its storage"):
        archives.place(image)


def test_pull_from_an_address_that_proxmox_takes_for_no_template(lab, web):
    with pytest.raises(NotFound, match=r"end in \.tar\.zst"):
        lab.service(source(web, name="base.iso")).pull(spec(BASE))


def test_pull_from_an_address_onto_a_full_disk_leaves_nothing(lab, web):
    web.content = os.urandom(1 << 20)
    service = lab.service(source(web))
    with contextlib.ExitStack() as held:
        syscalls.mount("tmpfs", str(lab.cache), "tmpfs", 0, "size=256k")
        held.callback(syscalls.umount2, str(lab.cache), syscalls.MNT_DETACH)
        with pytest.raises(CoreError) as caught:
            service.pull(spec(BASE))
        assert lab.files() == []
    assert status_of(caught.value) is Code.RESOURCE_EXHAUSTED


def test_pull_from_an_address_of_another_content_is_refused_and_leaves_nothing(lab, web):
    web.content = packed_template("base")
    with pytest.raises(CoreError, match="SHA-512"):
        lab.service(source(web, b"another")).pull(spec(BASE))
    assert lab.files() == []


def test_pull_from_an_address_of_what_is_no_template_is_refused(lab, web):
    web.content = b"no archive"
    with pytest.raises(WrongState, match="cannot be read as a template"):
        lab.service(source(web)).pull(spec(BASE))


@pytest.mark.parametrize(
    ("status_code", "error"), [(404, NotFound), (403, CoreError), (503, RegistryUnavailable)]
)
def test_pull_from_an_address_that_refuses(lab, web, status_code, error):
    web.status = status_code
    with pytest.raises(error, match=r"base\.tar\.zst"):
        lab.service(source(web)).pull(spec(BASE))
    assert lab.files() == []


@pytest.mark.parametrize(
    ("location", "error"), [("http://ü\u00a0/", RegistryUnavailable), ("file:///etc/passwd", CoreError)]
)
def test_pull_from_an_address_that_sends_elsewhere(lab, web, location, error):
    web.status, web.location = 302, location
    with pytest.raises(error, match=r"base\.tar\.zst"):
        lab.service(source(web)).pull(spec(BASE))
    assert lab.files() == []


def test_pull_from_an_address_that_nobody_listens_on(lab, web):
    sources = source(web)
    web.close()
    with pytest.raises(RegistryUnavailable, match="cannot be reached"):
        lab.service(sources).pull(spec(BASE))


@pytest.mark.parametrize("breaks", [True, False])
def test_pull_from_an_address_that_stops_in_the_middle(lab, web, breaks):
    web.content = packed_template("base")
    web.stops_after = 100
    web.breaks = breaks
    with pytest.raises(RegistryUnavailable):
        lab.service(source(web), no_progress_timeout_s=1.0).pull(spec(BASE))
    assert lab.files() == []


def test_start_removes_what_a_killed_daemon_fetched_by_half(lab, web):
    endpoint = lab.node.endpoint_id[:8]
    names = [
        f".pvecri_base-latest_{'0' * 24}_{endpoint}.tar.zst.0123abcd",
        f"pvecri_base-latest_{'1' * 24}_{endpoint}.tar.zst",
    ]
    other = f"pvecri_base-latest_{'1' * 24}_{'f' * 8}.tar.zst"
    for name in (*names, other):
        (lab.cache / name).touch()
    service = lab.service(source(web))
    service.start()
    eventually(lambda: lab.files() == [other], what="the left-overs to go")
