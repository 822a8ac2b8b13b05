# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Meet bundles that are made to hurt, and deaths at bad moments."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.verify import verify_bundle
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.container import apply
from ansible_collections.pvecri.runtime.plugins.module_utils.container.engine import Engine
from ansible_collections.pvecri.runtime.plugins.module_utils.container.wrapper import (
    WrapperManager,
    read_given,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths

CONFIG = {
    "ociVersion": "1.0.2",
    "root": {"path": "rootfs"},
    "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}},
}


@pytest.fixture
def paths(tmp_path):
    return Paths(state_dir=str(tmp_path / "s"), run_dir=str(tmp_path / "r"))


@pytest.fixture
def given(tmp_path):
    """Write a bundle with a configuration and return its path."""

    def write(text: str) -> str:
        (tmp_path / "b" / "rootfs" / "etc").mkdir(parents=True)
        (tmp_path / "b" / "config.json").write_text(text)
        return str(tmp_path / "b")

    return write


def managers(paths):
    runner = SubprocessRunner()
    store = ImageStore(paths, runner)
    return BundleManager(paths, store, runner), WrapperManager(paths, store, runner)


def stage(wrappers, path):
    return wrappers.stage_wrapper("web", read_given(path), network_namespace=None, mounts={}, extra={})


def test_wrapper_leaves_the_secrets_of_the_bundle_that_it_stands_for(paths, given):
    _bundles, wrappers = managers(paths)
    secret = os.path.join(paths.run_dir, "secrets", paths.owner, "web.0123")
    os.makedirs(secret)
    wrappers.discard(stage(wrappers, given(json.dumps(CONFIG))))
    wrappers.repair("web")
    assert os.path.isdir(secret)


@pytest.mark.parametrize("part", [{"linux": []}, {"mounts": [3]}, {"root": []}, {"annotations": []}])
def test_wrapper_of_a_configuration_without_form(paths, given, part):
    _bundles, wrappers = managers(paths)
    with pytest.raises(InvalidSpec):
        stage(wrappers, given(json.dumps({**CONFIG, **part})))
    assert wrappers.names() == []


def test_given_bundle_nested_without_end(given):
    with pytest.raises(InvalidSpec, match="no JSON"):
        read_given(given("[" * 100_000))


@pytest.mark.parametrize("name", ["/a\0b", "/a\ud800b", "/nowhere"])
def test_verify_hook_with_a_name_that_no_file_has(given, name):
    path = given(json.dumps({**CONFIG, "hooks": {"prestart": [{"path": name}]}}))
    assert [problem.rule for problem in verify_bundle(path)] == ["bundle/hook"]


def test_removed_however_deep_a_container_wrote(paths):
    bundles, _wrappers = managers(paths)
    top = os.path.join(paths.bundles, ".new.web")
    os.makedirs(top)
    below = os.open(top, os.O_RDONLY)
    for _number in range(2500):
        os.mkdir("d", dir_fd=below)
        inner = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(below)
    assert bundles.sweep() == ["web"]
    assert os.listdir(paths.bundles) == []


KILLED = """
import sys, time
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import idmap
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap

def wait(*_args):
    print("there", flush=True)
    time.sleep(60)

idmap._write_map = wait
maps = [IdMap(container_id=0, host_id=100000, size=1)]
with locked(sys.argv[1]), idmap.user_namespace(maps, maps):
    pass
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_killed_while_a_user_namespace_is_made_keeps_no_lock(tmp_path):
    lock = str(tmp_path / "lock")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, lock],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"there\n"
        child.send_signal(signal.SIGKILL)
        # The end of the pipe says that nobody else has it, either.
        assert child.stdout.read() == b""
    with locked(lock, timeout_s=5):
        pass


def test_bundle_and_wrapper_of_one_name_have_one_lock(paths, given):
    engine = Engine(paths, SubprocessRunner())
    staged = stage(engine.wrappers, given(json.dumps(CONFIG)))
    assert engine.bundles.repair("web") is None
    assert engine.bundles.sweep() == []
    engine.wrappers.discard(staged)


def test_sweep_leaves_what_is_staged(paths, given):
    _bundles, wrappers = managers(paths)
    staged = stage(wrappers, given(json.dumps(CONFIG)))
    assert wrappers.sweep() == []
    assert os.path.isdir(staged.path)
    wrappers.discard(staged)


def test_logs_of_others_are_left(tmp_path):
    ours = ["web.log", "web.log.1", "web.log.12", "web.log.tmp", ".web.log.held"]
    others = ["web.log-2.log", "web.log.log", ".web.log.log.held", "web2.log", "web.log.1.log"]
    for name in (*ours, *others):
        (tmp_path / name).touch()
    found = apply._log_files(str(tmp_path / "web.log"))
    assert sorted(map(os.path.basename, found)) == sorted(ours)
    assert apply._log_files(str(tmp_path / "none" / "web.log")) == []
