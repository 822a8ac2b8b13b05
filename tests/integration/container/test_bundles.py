# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run containers from bundles that something else has made."""

from __future__ import annotations

import json
import os

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import DirectorySource
from ansible_collections.pvecri.runtime.plugins.module_utils.model import ContainerSpec
from ansible_collections.pvecri.runtime.tests.support import bundles

LOOP = ["sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"]


@pytest.fixture
def given(box):
    """A bundle that was written by hand, with a root file system of its own."""
    path = str(box.top / "given")
    root = bundles.make_rootfs(os.path.join(path, "rootfs"))
    bundles.make_bundle(path, root, LOOP, cgroup="/pvecri-test/given")
    with open(os.path.join(path, "config.json"), encoding="utf-8") as stream:
        config = json.load(stream)
    config["root"]["path"] = "rootfs"
    write(path, config)
    return path


def write(path, config):
    with open(os.path.join(path, "config.json"), "w", encoding="utf-8") as stream:
        json.dump(config, stream)


def read(path):
    with open(os.path.join(path, "config.json"), encoding="utf-8") as stream:
        return json.load(stream)


def test_bundle_is_run_and_not_touched(box, given):
    before = read(given)
    done = box.ensure(bundle=given)
    assert done["container"]["state"] == "running"
    assert done["container"]["network"] is None
    assert done["container"]["rootfs"] == os.path.join(given, "rootfs")
    box.execute("touch", "/made-inside")
    assert os.path.exists(os.path.join(given, "rootfs/made-inside"))
    assert box.ensure(bundle=given)["changed"] is False
    for state in ("paused", "stopped", "started"):
        assert box.ensure(bundle=given, state=state)["changed"] is True
    box.change("absent")
    assert read(given) == before
    assert set(os.listdir(given)) == {"config.json", "rootfs"}
    assert [path for path in box.leftovers() if given not in path] == []


def test_changed_bundle_is_a_changed_container(box, given):
    pid = box.ensure(bundle=given)["container"]["pid"]
    config = read(given)
    config["process"]["env"].append("MORE=1")
    write(given, config)
    done = box.ensure(bundle=given)
    assert done["diff"]["after"].keys() == {"bundle.config"}
    assert done["container"]["pid"] != pid
    assert "MORE=1" in box.execute("env")


def test_bundle_with_a_network_of_its_own(box, given):
    done = box.ensure(bundle=given, network="none", etc_hosts={"db": "10.0.0.1"})
    assert done["container"]["network"] == "none"
    assert "10.0.0.1\tdb" in box.execute("cat", "/etc/hosts")
    assert "127.0.0.1" in box.execute("ip", "address")
    host = box.ensure(bundle=given, network="host")
    assert os.stat(f"/proc/{host['container']['pid']}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino


def test_bundle_with_stop_signal_log_and_health(box, given):
    config = read(given)
    config["annotations"] = {"org.opencontainers.image.stopSignal": "SIGINT"}
    config["process"]["args"] = ["sh", "-c", "trap 'exit 6' INT; while :; do sleep 0.05; done"]
    write(given, config)
    log = str(box.top / "bundle.log")
    done = box.ensure(bundle=given, state="healthy", log={"path": log}, health_check={"command": ["true"]})
    assert done["health"]["status"] == "healthy"
    assert done["container"]["log_path"] == log
    assert box.change("stopped")["container"]["exit_code"] == 6


def test_job_from_a_bundle(box, given):
    config = read(given)
    config["process"]["args"] = ["echo", "from a bundle"]
    write(given, config)
    assert box.ensure(bundle=given, detach=False)["stdout"] == "from a bundle\n"
    assert box.ensure(bundle=given, detach=False)["changed"] is False


@pytest.mark.parametrize(
    ("params", "field", "text"),
    [
        ({"command": ["true"]}, "command", "does not go with 'bundle'"),
        ({"env": {"A": "1"}}, "env", "does not go with 'bundle'"),
        ({"resources": {"memory": "64MiB"}}, "resources", "does not go with 'bundle'"),
        ({"published_ports": ["80:80"]}, "published_ports", "needs 'network'"),
        ({"state": "healthy"}, "health_check", "needs a check"),
    ],
)
def test_options_that_the_bundle_decides(box, given, params, field, text):
    refused = box.refuse(bundle=given, **params)
    assert refused["field"] == field
    assert text in refused["msg"]


@pytest.mark.parametrize(
    ("break_it", "text"),
    [
        (lambda path: os.unlink(os.path.join(path, "config.json")), "is no bundle"),
        (lambda path: write(path, [1]), "no JSON object"),
        (lambda path: open(os.path.join(path, "config.json"), "w").close(), "is no JSON"),
        (lambda path: write(path, {**read(path), "root": {}}), "'path' is missing"),
        (lambda path: write(path, {k: v for k, v in read(path).items() if k != "root"}), "root"),
        (lambda path: write(path, {**read(path), "process": {"args": "text"}}), "process"),
        (lambda path: write(path, {**read(path), "root": {"path": "elsewhere"}}), "does not exist"),
    ],
)
def test_bad_bundles(box, given, break_it, text):
    break_it(given)
    refused = box.refuse(bundle=given)
    assert text in refused["msg"]
    assert [path for path in box.leftovers() if given not in path] == []


def test_bundle_of_this_collection_by_the_same_name(box):
    spec = ContainerSpec(name="c", command=tuple(LOOP))
    made = box.engine.bundles.create(spec, DirectorySource(path=box.rootfs))
    refused = box.refuse()
    assert refused["error"] == "conflict"
    assert f"bundle: {made.path}" in refused["msg"]
    assert box.look() == []
    done = box.ensure(bundle=made.path)
    assert done["container"]["state"] == "running"
    # Its root file system is mounted when it is needed, also after a reboot.
    box.reboot()
    assert box.change("started")["container"]["state"] == "running"
    assert box.execute("ls", "/bin/sh") == "/bin/sh\n"
    box.change("absent")
    assert box.engine.bundles.load("c") is not None


def test_from_bundle_to_directory_and_back(box, given):
    box.ensure(bundle=given)
    assert box.ensure()["container"]["rootfs"] != os.path.join(given, "rootfs")
    assert box.ensure()["changed"] is False
    assert box.ensure(bundle=given)["container"]["rootfs"] == os.path.join(given, "rootfs")
    assert box.ensure(bundle=given)["changed"] is False
    box.change("absent")
    assert box.look() == []
