# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the modules oci_bundle and oci_bundle_info on real images, through Ansible's own validation."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import ImageSource
from ansible_collections.pvecri.runtime.tests.support.host import CRUN
from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    tar_layer,
    write_rootfs,
)
from ansible_collections.pvecri.runtime.tests.unit.plugins.modules.conftest import run_module

__all__ = ["run_module"]


@pytest.fixture
def task(core, run_module, busybox_path):
    """Return a function that runs oci_bundle below the test's directories."""

    def run(check=False, **params):
        base = {"name": "web", "state_dir": core.paths.state_dir, "run_dir": core.paths.run_dir}
        if params.get("state") == "verified":
            base.pop("name")
        params = {key: value for key, value in {**base, **params}.items() if value is not None}
        return run_module("oci_bundle", params, check=check, diff=True)

    run.image = f"oci:{busybox_path}:latest"
    return run


@pytest.fixture
def info(core, run_module):
    def run(**params):
        base = {"state_dir": core.paths.state_dir, "run_dir": core.paths.run_dir}
        return run_module("oci_bundle_info", {**base, **params})

    return run


def both(task, **params):
    """Run in check mode, for real, and again; return the real result."""
    predicted = task(check=True, **params)
    done = task(**params)
    assert not done["failed"], done
    assert predicted["changed"] == done["changed"]
    assert done["changed"] is True
    again = task(**params)
    assert again["changed"] is False
    assert again["diff"] == {"before": {}, "after": {}}
    assert again["bundle"]["spec_hash"] == done["bundle"]["spec_hash"] if done["bundle"] else True
    return done


# ---- states ----------------------------------------------------------------------------------------------


def test_oci_bundle_present_twice(core, task):
    done = both(task, image=task.image, command=["/bin/echo", "up"], network_namespace="host")
    bundle = done["bundle"]
    assert bundle["mounted"] is True
    assert bundle["problems"] == []
    assert bundle["path"] == os.path.join(core.paths.bundles, "web")
    assert bundle["source"] == {"kind": "image", "reference": task.image}
    assert bundle["image"]["digest"].startswith("sha256:")
    assert core.run(bundle["path"]).stdout == "up\n"


def test_oci_bundle_check_mode_changes_nothing(core, task):
    result = task(check=True, image=task.image)
    assert result["changed"] is True
    assert result["bundle"] is None
    assert result["diff"]["before"] == {"state": "absent"}
    assert result["diff"]["after"]["state"] == "mounted"
    assert not os.path.exists(core.paths.state_dir)


@pytest.mark.parametrize("option", ["state_dir", "run_dir"])
def test_oci_bundle_directories_below_a_file_are_refused(task, info, tmp_path, option):
    (tmp_path / "file").write_bytes(b"")
    place = {option: str(tmp_path / "file" / "below")}
    for result in (task(image=task.image, **place), task(state="absent", **place), info(**place)):
        assert result["failed"] is True
        assert (result["error"], result["field"]) == ("invalid_spec", option)


def test_oci_bundle_a_file_in_place_of_its_directories(core, task):
    os.makedirs(core.paths.state_dir)
    pathlib.Path(core.paths.state_dir, "bundles").write_bytes(b"")
    result = task(image=task.image)
    assert result["failed"] is True
    assert "Not a directory" in result["msg"]


def test_oci_bundle_states_one_after_the_other(task):
    both(task, image=task.image)
    both(task, state="unmounted")
    assert task(state="present", image=task.image)["changed"] is False, "present leaves the mount alone"
    assert both(task, state="mounted")["bundle"]["mounted"] is True
    assert both(task, state="absent")["bundle"] is None
    assert task(state="absent", image=task.image)["changed"] is False


def test_oci_bundle_new_and_unmounted(task):
    done = both(task, image=task.image, state="unmounted")
    assert done["bundle"]["mounted"] is False


def test_oci_bundle_change_shows_what_and_makes_it_anew(task):
    task(image=task.image, env={"A": "1", "B": "2"}, resources={"memory": "64MiB"})
    done = both(task, image=task.image, env={"A": "1", "B": "3"}, resources={"memory": "65MiB"})
    assert done["diff"]["before"] == {"env.B": "2", "resources.memory_bytes": 64 << 20}
    assert done["diff"]["after"] == {"env.B": "3", "resources.memory_bytes": 65 << 20}


def test_oci_bundle_order_of_pairs_means_nothing(task):
    task(image=task.image, labels={"a": "1", "b": "2"})
    assert task(image=task.image, labels={"b": "2", "a": "1"})["changed"] is False


def test_oci_bundle_another_image_under_the_same_name(core, task, tmp_path):
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("v", [busybox_layer()], {"Cmd": ["sh"]})
    image = f"oci:{layout.path}:v"
    task(image=image)
    layout.add_image("v", [busybox_layer(), tar_layer([File("new")])], {"Cmd": ["sh"]})
    done = both(task, image=image)
    assert sorted(done["diff"]["after"]) == ["digest", "image"]
    assert os.path.exists(os.path.join(done["bundle"]["rootfs"], "new"))


def test_oci_bundle_image_that_left_the_store_is_no_change(core, task, make_registry, busybox_path):
    registry = make_registry()
    registry.push(f"oci:{busybox_path}:latest", "app:1")
    registry.push(f"oci:{busybox_path}:latest", "app:2")
    params = {"image": f"{registry.address}/app:1", "pull": {"tls_verify": False}}
    task(**params)
    # Another name keeps the image itself.
    core.store.ensure(ImageSource(reference=f"{registry.address}/app:2", tls_verify=False))
    assert core.store.remove(f"{registry.address}/app:1")
    assert task(check=True, **params)["changed"] is False
    assert task(**params)["changed"] is False


def test_oci_bundle_policy_newer_follows_the_registry(task, make_registry, tmp_path):
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("1", [busybox_layer()], {"Cmd": ["sh"]})
    layout.add_image("2", [busybox_layer(), tar_layer([File("two")])], {"Cmd": ["sh"]})
    registry = make_registry()
    registry.push(f"oci:{layout.path}:1", "app:latest")
    pull = {"tls_verify": False, "policy": "newer", "retries": 0}
    image = f"{registry.address}/app"
    assert both(task, image=image, pull=pull)["bundle"]["image"]["reference"] == f"{image}:latest"
    registry.push(f"oci:{layout.path}:2", "app:latest")
    assert task(check=True, image=image, pull=pull)["changed"] is False, "check mode goes by what is here"
    done = task(image=image, pull=pull)
    assert done["changed"] is True
    assert os.path.exists(os.path.join(done["bundle"]["rootfs"], "two"))
    registry.stop()
    done = task(image=image, pull=pull)
    assert done["changed"] is False
    assert "was not asked for a newer image" in done["warnings"][0]


@pytest.mark.parametrize("mode", ["overlay", "direct"])
def test_oci_bundle_directory(core, task, tmp_path, mode):
    path = write_rootfs(tmp_path / "root")
    params = {"directory": path, "directory_mode": mode, "command": "/bin/true", "network_namespace": "host"}
    done = both(task, **params)
    assert done["bundle"]["image"] is None
    assert core.run(done["bundle"]["path"]).rc == 0
    assert task(state="unmounted", **params)["changed"] is (mode == "overlay")
    assert task(state="mounted", **params)["changed"] is (mode == "overlay")


def test_oci_bundle_tarball(core, task, tmp_path):
    path = tmp_path / "rootfs.tar"
    path.write_bytes(busybox_layer())
    done = both(task, tarball=str(path), command="/bin/echo it works", network_namespace="host")
    assert core.run(done["bundle"]["path"]).stdout == "it works\n"
    os.utime(path)
    assert task(tarball=str(path), command="/bin/echo it works", network_namespace="host")["changed"] is False


def test_oci_bundle_pipes_in_place_of_files_are_refused_at_once(task, tmp_path):
    (tmp_path / "bundle").mkdir()
    os.mkfifo(tmp_path / "bundle" / "config.json")
    result = task(state="verified", path=str(tmp_path / "bundle"))
    assert result["problems"][0]["rule"] == "bundle/config"
    assert "no regular file" in result["msg"]
    os.mkfifo(tmp_path / "index.json")
    result = task(image=f"oci:{tmp_path}:latest")
    assert (result["error"], result["field"]) == ("invalid_spec", "image")
    assert "no regular file" in result["msg"]


# ---- secrets ---------------------------------------------------------------------------------------------

SECRET = "opensesame-42"


def test_oci_bundle_secrets_show_nowhere(core, task, info):
    def params(secret):
        mounts = [{"type": "secret", "destination": "/run/key", "secret": secret}]
        return {"image": task.image, "secret_env": {"KEY": secret, "OTHER": "x1y2z3"}, "mounts": mounts}

    results = [task(**params("old-secret-7")), task(check=True, **params(SECRET)), task(**params(SECRET))]
    results.append(info(with_config=True, with_images=True))
    assert [result["changed"] for result in results] == [True, True, True, False]
    assert results[2]["diff"]["after"] == {
        "secret_env.KEY": "VALUE HIDDEN (changed)",
        "mounts./run/key": "VALUE HIDDEN (changed)",
    }
    config = results[3]["bundles"][0]["config"]
    assert "KEY=VALUE HIDDEN" in config["process"]["env"]
    assert SECRET not in json.dumps(results)
    assert "old-secret-7" not in json.dumps(results)
    found = subprocess.run(
        ["grep", "-rlF", SECRET, core.paths.state_dir], capture_output=True, text=True, check=False
    ).stdout.split()
    assert found == [os.path.join(core.paths.bundles, "web", "config.json")], "root's file has the variable"


def test_oci_bundle_secret_comes_back_after_a_reboot(core, task):
    mounts = [{"type": "secret", "destination": "/key", "secret": SECRET}]
    params = {"image": task.image, "mounts": mounts, "state": "mounted"}
    first = task(**params)["bundle"]
    pathlib.Path(first["rootfs"], "written").touch()
    rootfs.unmount_below(str(core.top))
    shutil.rmtree(core.paths.run_dir)
    done = both(task, **params)
    assert "secrets are gone" in done["diff"]["before"]["problems"][0]
    assert done["bundle"]["created"] == first["created"], "brought back, not made anew"
    assert os.path.exists(os.path.join(done["bundle"]["rootfs"], "written"))
    shutil.rmtree(os.path.join(core.paths.run_dir, "secrets", "play"))
    failed = task(state="mounted")
    assert failed["failed"]
    assert failed["error"] == "wrong_state"
    assert "secrets are gone" in failed["msg"]


# ---- refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "field", "words"),
    [
        ({}, "image", "does not exist yet"),
        ({"state": "mounted"}, "image", "does not exist yet"),
        ({"image": "Not/An:Image"}, "image", "lower case"),
        ({"directory": "/", "command": "x"}, "directory", "own root"),
        ({"name": "../x", "image": "a"}, "name", "is not a name"),
        ({"state_dir": "/a b", "image": "a"}, "state_dir", "cannot be used"),
        ({"run_dir": "/", "image": "a"}, "run_dir", "cannot be used"),
        ({"image": "oci:relative"}, "image", "no absolute path"),
    ],
)
def test_oci_bundle_refused_with_the_option(task, params, field, words):
    for check in (True, False):
        result = task(check=check, **params)
        assert result["failed"] is True
        assert (result["error"], result["field"]) == ("invalid_spec", field)
        assert words in result["msg"]


def test_oci_bundle_options_without_a_source_are_not_ignored(task):
    task(image=task.image)
    result = task(env={"A": "1"})
    assert result["failed"] is True
    assert result["field"] == "image"
    assert task()["changed"] is False


def test_oci_bundle_two_sources(task, tmp_path):
    result = task(image=task.image, directory=str(tmp_path))
    assert result["failed"]
    assert "mutually exclusive" in result["msg"]


def test_oci_bundle_fetch_that_fails(task):
    result = task(image="127.0.0.1:1/app:1", pull={"retries": 0})
    assert result["failed"] is True
    assert result["error"] == "command_failed"
    assert "connection refused" in result["msg"]
    assert result["rc"] == 1
    assert result["cmd"].startswith("skopeo ")


def test_oci_bundle_running_is_left_alone(core, task):
    made = task(image=task.image, command=["sleep", "1000"], network_namespace="host")["bundle"]
    argv = [CRUN, "--root", core.paths.runtime_root]
    subprocess.run([*argv, "run", "--detach", "--bundle", made["path"], "web"], check=True, timeout=30)
    try:
        for params in ({"state": "absent"}, {"state": "unmounted"}, {"image": task.image, "env": {"A": "1"}}):
            result = task(**params)
            assert result["failed"] is True
            assert result["error"] == "wrong_state"
            assert "Stop and delete the container first" in result["msg"]
    finally:
        subprocess.run([*argv, "delete", "--force", "web"], check=True, timeout=30)
    assert task(state="absent")["changed"] is True


def test_oci_bundle_damaged(core, task):
    made = task(image=task.image)["bundle"]
    pathlib.Path(made["path"], "pvecri.json").unlink()
    result = task(state="mounted")
    assert result["error"] == "wrong_state"
    assert "have it made anew" in result["msg"]
    done = both(task, image=task.image, state="mounted")
    assert "pvecri.json is missing" in done["diff"]["before"]["problems"][0]
    os.unlink(os.path.join(made["path"], "config.json"))
    assert both(task, image=task.image)["bundle"]["problems"] == []


def test_modules_need_root(task, info, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for result in (task(image=task.image), task(check=True, state="absent"), info()):
        assert result["failed"] is True
        assert result["error"] == "missing_dependency"
        assert "become: true" in result["msg"]


# ---- verified --------------------------------------------------------------------------------------------


def test_oci_bundle_verified(core, task):
    made = task(image=task.image)["bundle"]
    result = task(state="verified", path=made["path"])
    assert (result["changed"], result["bundle"], result["problems"]) == (False, None, [])
    config = pathlib.Path(made["path"], "config.json")
    document = json.loads(config.read_text())
    document["process"]["cwd"] = "relative"
    config.write_text(json.dumps(document))
    result = task(state="verified", path=made["path"])
    assert result["failed"] is True
    assert result["field"] == "$.process.cwd"
    assert [problem["path"] for problem in result["problems"]] == ["$.process.cwd"]
    assert set(result["problems"][0]) == {"path", "rule", "message"}


def test_oci_bundle_verified_needs_a_path(task):
    assert "path" in task(state="verified")["msg"]


# ---- info ------------------------------------------------------------------------------------------------


def test_oci_bundle_info_empty(core, info):
    result = info(with_images=True)
    assert (result["changed"], result["bundles"], result["images"], result["checked"]) == (False, [], [], [])
    assert not os.path.exists(core.paths.state_dir)


def test_oci_bundle_info_lists_and_filters(core, task, info):
    task(image=task.image, mounts=[{"type": "volume", "source": "v", "destination": "/v"}])
    task(name="db", image=task.image, state="unmounted")
    result = info(with_images=True)
    assert [(b["name"], b["mounted"], b["volumes"]) for b in result["bundles"]] == [
        ("db", False, []),
        ("web", True, ["v"]),
    ]
    assert "config" not in result["bundles"][0]
    image = result["images"][0]
    assert image["used_by"] == ["play/db", "play/web"]
    assert image["layers"] == 1
    assert image["size_bytes"] > 500_000
    assert image["platform"].startswith("linux/")
    only = info(name=["web", "none"], with_config=True)["bundles"]
    assert [bundle["name"] for bundle in only] == ["web"]
    assert only[0]["config"]["process"]["args"] == ["/bin/sh"]


def test_oci_bundle_info_checks_paths(task, info, tmp_path):
    made = task(image=task.image)["bundle"]
    checked = info(path=[made["path"], str(tmp_path)])["checked"]
    assert [item["valid"] for item in checked] == [True, False]
    assert checked[1]["problems"][0]["rule"] == "bundle/config"


def test_oci_bundle_info_damaged(task, info):
    made = task(image=task.image)["bundle"]
    for name in ("config.json", "pvecri.json"):
        pathlib.Path(made["path"], name).write_text("{")
    bundle = info(with_config=True)["bundles"][0]
    assert "is damaged" in bundle["problems"][0]
    assert (bundle["mounted"], bundle["source"], bundle["config"], bundle["created"]) == (
        False,
        None,
        None,
        None,
    )
