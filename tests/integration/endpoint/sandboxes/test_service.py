# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run, stop and remove sandboxes with real CNI plugins, namespaces and mounts."""

from __future__ import annotations

import os
import pathlib
import socket
import typing as t

from pvecri.api import cri_pb2
from pvecri.state.records import Phase


def test_run_gives_a_network_and_remove_takes_everything(pods: t.Any) -> None:
    record = pods.run(pods.pod("web"))
    assert record.phase is Phase.READY
    assert record.ips == tuple(pods.leases())
    assert len(record.ips) == 1
    places = pods.places(record)
    assert pods.inside(record, socket.gethostname) == "web"
    assert pathlib.Path(places.hostname).read_text() == "web\n"
    assert f"{record.ips[0]}\tweb\n" in pathlib.Path(places.hosts).read_text()
    assert os.statvfs(places.shm).f_blocks * os.statvfs(places.shm).f_frsize == 64 << 20
    assert os.stat(places.shm).st_mode & 0o7777 == 0o1777
    pods.service.stop(record.id)
    stopped = pods.context.registry.sandbox(record.id)
    assert (stopped.phase, stopped.ips, pods.leases()) == (Phase.STOPPED, (), [])
    assert os.path.exists(places.hosts)
    pods.service.stop(record.id)
    pods.service.remove(record.id)
    pods.service.remove(record.id)
    pods.service.stop(record.id)
    assert pods.leftovers() == {}


def test_run_in_the_hosts_network(pods: t.Any) -> None:
    config = pods.pod("web")
    config.linux.security_context.namespace_options.network = cri_pb2.NODE
    config.hostname = ""
    record = pods.run(config)
    assert (record.netns, record.utsns, record.ips) == ("", "", ())
    assert record.ipcns
    assert pods.leases() == []
    places = pods.places(record)
    assert pathlib.Path(places.hosts).read_text() == pathlib.Path("/etc/hosts").read_text()
    pods.service.remove(record.id)
    assert pods.leftovers() == {}
