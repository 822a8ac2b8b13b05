# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restores that wait, fail, outlive the daemon, come from images, or mean harm."""

from __future__ import annotations

import os
import pathlib
import tarfile
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.tests.support.checkpoints import (
    checkpoint,
    count_of,
    counter,
    restored,
    state,
)
from ansible_collections.pvecri.runtime.tests.support.endpoint import IMAGE, Endpoint
from ansible_collections.pvecri.runtime.tests.support.images import OciLayout
from ansible_collections.pvecri.runtime.tests.support.refusal import refused
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually
from pvecri.api import cri_pb2 as pb


def test_a_restore_survives_the_daemon(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    os.unlink(tmp_path / "c.tar")
    endpoint.kill()
    endpoint.start()
    assert state(endpoint, copy) == pb.CONTAINER_CREATED
    endpoint.cri.start(copy)
    eventually(lambda: count_of(endpoint, second) > 4)
    endpoint.kill()
    endpoint.start()
    begin = count_of(endpoint, second)
    assert state(endpoint, copy) == pb.CONTAINER_RUNNING
    eventually(lambda: count_of(endpoint, second) > begin + 2)


def test_a_restore_survives_the_daemon_that_was_at_it(
    endpoint: Endpoint, tmp_path: pathlib.Path, gate: pathlib.Path
) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    gate.touch()
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(endpoint.cri.start, copy)
        eventually(lambda: procfs.belonging_to(None, f"--cid={copy}"))
        endpoint.kill()
        with pytest.raises(grpc.RpcError):
            call.result()
    gate.unlink()
    # Nobody hears that it is done.
    eventually(lambda: count_of(endpoint, second) > 4)
    endpoint.start()
    begin = count_of(endpoint, second)
    assert state(endpoint, copy) == pb.CONTAINER_RUNNING
    eventually(lambda: count_of(endpoint, second) > begin + 2)


def test_a_container_that_awaits_its_restore_can_be_stopped_and_removed(
    endpoint: Endpoint, tmp_path: pathlib.Path
) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    _second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    endpoint.cri.stop(copy, 5)
    assert (state(endpoint, copy), endpoint.cri.container_status(copy).exit_code) == (
        pb.CONTAINER_EXITED,
        137,
    )
    _third, other = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    endpoint.cri.remove(other)


def test_a_root_directory_of_another_mode_is_no_hindrance(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    # containerd gives it 0755, whatever the image says.
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    root = endpoint.host.path(f"{endpoint.paths.bundles}/{copy}/rootfs")
    os.chmod(root, os.stat(root).st_mode & 0o7777 ^ 0o022)
    endpoint.cri.start(copy)
    begin = count_of(endpoint, second)
    eventually(lambda: count_of(endpoint, second) > begin + 2)


def test_a_restore_that_fails_has_ended(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    _second, copy = restored(endpoint, f"{tmp_path}/c.tar", start=False)
    images = pathlib.Path(endpoint.paths.bundles, copy, "restore", "checkpoint")
    (images / "inventory.img").write_bytes(b"")
    with refused("INTERNAL", "cannot be restored: "):
        endpoint.cri.start(copy)
    found = endpoint.cri.container_status(copy)
    assert (found.state, found.exit_code, found.reason) == (pb.CONTAINER_EXITED, 128, "StartError")


def test_an_image_is_a_checkpoint_only_if_it_is_trusted(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    layer = (tmp_path / "c.tar").read_bytes()
    for name, key in (
        ("trusted", "org.criu.checkpoint.container.name"),
        ("other", "io.kubernetes.cri-o.annotations.checkpoint.name"),
    ):
        layout = OciLayout(tmp_path / name)
        # Different content, that is two images.
        layout.add_image("latest", [layer], {"Cmd": [name]}, annotations={key: "app"})
        endpoint.load_image(f"registry.test/{name}:1", f"oci:{layout.path}:latest")
    with refused("FAILED_PRECONDITION", "none that this host trusts", "checkpoints.trusted_images"):
        restored(endpoint, "registry.test/other:1")
    second, copy = restored(endpoint, "registry.test/trusted:1")
    eventually(lambda: count_of(endpoint, second) > 4)
    assert endpoint.cri.container_status(copy).image.image == IMAGE


def test_hostile_archives(endpoint: Endpoint, tmp_path: pathlib.Path) -> None:
    _pod, _pod_id, container_id = counter(endpoint)
    checkpoint(endpoint, container_id, f"{tmp_path}/c.tar")
    before = len(endpoint.cri.list_containers())
    for path, message in (
        (f"{tmp_path}/none.tar", "cannot be read"),
        ("/dev/zero", "no regular file"),
        ("/etc/hostname", "no tar file"),
        (str(tmp_path), "no regular file"),
    ):
        with refused("INVALID_ARGUMENT", message):
            restored(endpoint, path, start=False)
    with tarfile.open(tmp_path / "c.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("../escape"))
    with refused("INVALID_ARGUMENT", "leads out of it"):
        restored(endpoint, f"{tmp_path}/c.tar", start=False)
    assert len(endpoint.cri.list_containers()) == before
