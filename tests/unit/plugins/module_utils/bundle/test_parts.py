# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the small parts of bundles that need no real image."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import (
    bundle as bundles,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import (
    contents,
    idmap,
    mounting,
    rootfs,
    users,
    view,
    volumes,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import BundleRecord
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    Conflict,
    CoreError,
    InvalidSpec,
    MissingDependency,
    Unsupported,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Paths, to_plain

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def paths(tmp_path):
    return Paths(state_dir=str(tmp_path / "s"), run_dir=str(tmp_path / "r"))


# ---- ids -------------------------------------------------------------------------------------------------

MAPS = (
    IdMap(container_id=0, host_id=100000, size=1000),
    IdMap(container_id=1000, host_id=5000, size=1),
)


@pytest.mark.parametrize(
    ("inside", "maps", "outside"),
    [(0, (), 0), (77, (), 77), (0, MAPS, 100000), (999, MAPS, 100999), (1000, MAPS, 5000)],
)
def test_host_id(inside, maps, outside):
    assert idmap.host_id(inside, maps, "uid") == outside


def test_host_id_without_a_map():
    with pytest.raises(InvalidSpec, match="id 1001") as caught:
        idmap.host_id(1001, MAPS, "mounts[0].uid")
    assert caught.value.field == "mounts[0].uid"


@as_root
def test_user_namespace_refused_maps_are_told():
    twice = (IdMap(container_id=0, host_id=1, size=10), IdMap(container_id=5, host_id=100, size=10))
    with (
        pytest.raises(InvalidSpec, match="refuses these id maps") as caught,
        idmap.user_namespace(twice, MAPS),
    ):
        pytest.fail("the maps overlap")
    assert caught.value.field == "uid_maps"


@as_root
def test_user_namespace_leaves_no_process():
    with idmap.user_namespace(MAPS, MAPS) as handle:
        assert os.readlink(f"/proc/self/fd/{handle}").startswith("user:")
    children = subprocess.run(
        ["ps", "--no-headers", "--ppid", str(os.getpid()), "-o", "stat"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Z" not in children.stdout


@as_root
def test_user_namespace_forbidden(monkeypatch):
    def none(_handle, _count):
        return b""

    monkeypatch.setattr(idmap.os, "read", none)
    with pytest.raises(Unsupported, match="user namespace"), idmap.user_namespace(MAPS, MAPS):
        pytest.fail("there is none")


SAID = {"problem": "no namespace", "hint": "look"}


def test_namespace_holder_that_fails_tells_what_it_said():
    argv = ["sh", "-c", "echo no space for namespaces >&2; exit 1"]
    with (
        pytest.raises(Unsupported, match="no namespace: no space for namespaces"),
        idmap.namespace_holder(argv, **SAID),
    ):
        pytest.fail("there is none")


def test_namespace_holder_that_is_missing():
    with pytest.raises(MissingDependency, match="no-such"), idmap.namespace_holder(["/no-such"], **SAID):
        pytest.fail("there is none")


def test_namespace_holder_is_ended():
    with idmap.namespace_holder([], **SAID) as pid:
        assert os.path.exists(f"/proc/{pid}")
    assert not os.path.exists(f"/proc/{pid}")


@as_root
def test_mapped_layers_take_a_left_over_mount_away(tmp_path):
    (tmp_path / "layer").mkdir()
    place = str(tmp_path / "at.idmap")
    os.mkdir(f"{place}0")
    syscalls.mount(str(tmp_path / "layer"), f"{place}0", flags=syscalls.MS_BIND)
    with idmap.mapped_layers([str(tmp_path / "layer")], MAPS, MAPS, place) as mapped:
        assert mapped == [f"{place}0"]
        assert os.stat(mapped[0]).st_uid == 100000
    assert syscalls.mounts_below(str(tmp_path)) == []
    assert sorted(os.listdir(tmp_path)) == ["layer"]


@pytest.mark.parametrize(("number", "words"), [(38, "Linux 5.19"), (1, "Linux 5.19"), (22, "ext4")])
@as_root
def test_mapped_layers_unsupported(tmp_path, monkeypatch, number, words):
    def refuse(*_args, **_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(idmap.syscalls, "mount_setattr", refuse)
    with (
        pytest.raises(Unsupported) as caught,
        idmap.mapped_layers([str(tmp_path)], MAPS, MAPS, str(tmp_path / "x")),
    ):
        pytest.fail("mapped")
    assert words in caught.value.hint
    assert os.listdir(tmp_path) == []


# ---- who runs --------------------------------------------------------------------------------------------


def status(root, name, bundle, pid, started=None):
    folder = root / name
    folder.mkdir(parents=True)
    document = {"bundle": str(bundle), "pid": pid}
    if started is not None:
        document["process-start-time"] = started
    (folder / "status").write_text(json.dumps(document))


def start_time(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_running_containers(tmp_path):
    root, mine = tmp_path / "crun", tmp_path / "bundle"
    mine.mkdir()
    assert users.running_containers(str(root), str(mine)) == []
    me = os.getpid()
    status(root, "alive", mine, me, start_time(me))
    status(root, "unknown-start", mine, me)
    status(root, "reused-pid", mine, me, start_time(me) - 1)
    status(root, "dead", mine, 2**22 - 1)
    status(root, "other", tmp_path / "x", me)
    (root / "none").mkdir()
    (root / "damaged").mkdir()
    (root / "damaged/status").write_text("{")
    (root / "file").touch()
    assert users.running_containers(str(root), str(mine)) == ["alive", "unknown-start"]
    assert users.running_containers(str(root), str(mine), only=["alive", "other", "gone"]) == ["alive"]
    (tmp_path / "link").symlink_to(mine)
    assert users.running_containers(str(root), str(tmp_path / "link")) == ["alive", "unknown-start"]


def test_running_containers_passes_over_a_zombie(tmp_path):
    child = subprocess.Popen(["/bin/true"])
    try:
        for _unused in range(2000):
            if pathlib.Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                break
            os.sched_yield()
        status(tmp_path / "crun", "a", tmp_path, child.pid)
        # Whether it has ended already or runs on, it is not reported once it is a zombie.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert users.running_containers(str(tmp_path / "crun"), str(tmp_path)) == []
    finally:
        child.wait()


# ---- looking in ------------------------------------------------------------------------------------------


def test_read_text(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"root:x:0\n\xff")
    root = os.open(tmp_path, os.O_PATH)
    try:
        assert view.read_text(root, "etc/passwd") == "root:x:0\n\udcff"
        assert view.read_text(root, "etc/none") == ""
        assert view.read_text(root, "etc/passwd/x") == ""
        with pytest.raises(InvalidSpec, match="no regular file"):
            view.read_text(root, "etc")
        (tmp_path / "loop").symlink_to("loop")
        with pytest.raises(InvalidSpec, match="cannot be read"):
            view.read_text(root, "loop")
        assert view.open_directory(root, "none") is None
        assert view.open_directory(root, "etc/passwd") is None
        handle = view.open_directory(root, "etc")
        assert os.listdir(handle) == ["passwd"]
        os.close(handle)
    finally:
        os.close(root)


def test_read_text_of_an_absurd_file(tmp_path, monkeypatch):
    monkeypatch.setattr(view, "_TEXT_MAX", 100_000)
    (tmp_path / "big").write_bytes(b"x" * 300_000)
    root = os.open(tmp_path, os.O_PATH)
    assert view.read_text(root, "big") == "x" * 100_000
    os.close(root)


# ---- volumes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "A-b_c.1", "0" * 128])
def test_volume_name(name):
    assert volumes.check_volume_name(name, "f") == name


@pytest.mark.parametrize("name", ["", ".a", "-a", "a/b", "..", "a" * 129, "a b", ".new.x"])
def test_volume_name_refused(name):
    with pytest.raises(InvalidSpec) as caught:
        volumes.check_volume_name(name, "mounts[0].source")
    assert caught.value.field == "mounts[0].source"


@as_root
def test_named_volume_is_made_once(paths, tmp_path):
    (tmp_path / "content").mkdir()
    (tmp_path / "content/x").write_text("1")
    leftover = pathlib.Path(paths.volumes, ".new.v")
    leftover.mkdir(parents=True)
    (leftover / "half").touch()
    content = os.open(tmp_path / "content", os.O_RDONLY)
    path = volumes.named_volume(paths, "v", content)
    os.close(content)
    assert os.listdir(paths.volumes) == ["v"]
    assert os.listdir(path) == ["x"]
    pathlib.Path(path, "x").unlink()
    assert volumes.named_volume(paths, "v", None) == path
    assert os.listdir(path) == []
    empty = volumes.named_volume(paths, "w", None, owner=(12, 34))
    assert (os.stat(empty).st_uid, os.stat(empty).st_gid) == (12, 34)


def test_fill_leaves_nothing_when_it_fails(tmp_path, monkeypatch):
    content = os.open(tmp_path, os.O_RDONLY)

    def full(*_args):
        raise OSError(28, "No space left on device")

    def crash(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(volumes, "copy_tree", full)
    with pytest.raises(CoreError, match="No space left") as caught:
        volumes.fill(str(tmp_path / "v"), content)
    assert "Make room" in caught.value.hint
    monkeypatch.setattr(volumes, "copy_tree", crash)
    with pytest.raises(KeyboardInterrupt):
        volumes.fill(str(tmp_path / "v"), content)
    assert os.listdir(tmp_path) == []
    os.close(content)


# ---- secrets ---------------------------------------------------------------------------------------------


def test_forget_secrets_keeps_the_others(paths):
    root = pathlib.Path(contents.secrets_root(paths))
    contents.forget_secrets(paths, "a")
    for name in ("a.1", "a.2", "a.b.1", "b.1"):
        (root / name).mkdir(parents=True)
    contents.forget_secrets(paths, "a", keep=["2"])
    assert sorted(os.listdir(root)) == ["a.2", "a.b.1", "b.1"]


@as_root
@pytest.mark.parametrize("refused", [0, 1])
def test_ensure_memory(paths, monkeypatch, refused):
    """Without «noswap» on an older kernel; not mounted twice."""
    real, calls = syscalls.mount, []

    def mount(source, target, fstype="", flags=0, data=""):
        calls.append(data)
        if len(calls) <= refused:
            raise OSError(22, "Invalid argument")
        real(source, target, fstype, flags, data)

    monkeypatch.setattr(contents.syscalls, "mount", mount)
    monkeypatch.setattr(contents.syscalls, "is_in_memory", syscalls.is_mount_point)
    contents.ensure_memory(paths)
    contents.ensure_memory(paths)
    assert [("noswap" in data) for data in calls] == [True, False][: refused + 1]
    assert rootfs.unmount(os.path.join(paths.run_dir, "secrets"))


def test_ensure_memory_refused(paths, monkeypatch):
    def refuse(*_args):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(contents.syscalls, "mount", refuse)
    monkeypatch.setattr(contents.syscalls, "is_in_memory", lambda _path: False)
    with pytest.raises(CoreError, match="file system in memory"):
        contents.ensure_memory(paths)


def test_ensure_memory_made_by_another_meanwhile(paths, monkeypatch):
    answers = iter([False, True])
    monkeypatch.setattr(contents.syscalls, "is_in_memory", lambda _path: next(answers))
    monkeypatch.setattr(contents.syscalls, "mount", lambda *_args: pytest.fail("mounted twice"))
    contents.ensure_memory(paths)


# ---- mounts ----------------------------------------------------------------------------------------------


def record(**more):
    values = {"name": "a", "instance": "i", "created": 0.0, "spec_hash": "h", "request": {}, "source": {}}
    return BundleRecord(**{**values, "identity": {}, **more})


def test_id_maps_only_with_a_user_namespace():
    plain = [to_plain(item) for item in MAPS]
    request = {"uid_maps": plain, "gid_maps": plain[:1]}
    assert mounting.id_maps(record(request=request)) == ([], [])
    request["namespaces"] = {"user": "private"}
    assert mounting.id_maps(record(request=request)) == (list(MAPS), list(MAPS[:1]))


def test_is_mount_of_a_plain_directory(tmp_path):
    assert bundles.is_mount("/proc")
    assert not bundles.is_mount(str(tmp_path))
    assert not bundles.is_mount(str(tmp_path / "none"))


def test_bundle_without_a_record_is_not_mounted(tmp_path):
    made = bundles.Bundle(name="a", path=str(tmp_path), record=None)
    assert not made.is_mounted
    assert not made.needs_mounts
    assert made.rootfs_path == str(tmp_path / "rootfs")


def test_problems_name_what_is_gone(tmp_path):
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.record import HostMount

    made = record(
        rootfs="/nonexistent/root",
        mounts=(HostMount(target="mounts/0", source="/nonexistent/volume", sub_path="x"),),
        volatile=("/nonexistent/secret",),
    )
    made.write(str(tmp_path))
    problems = bundles.load_bundle("a", str(tmp_path)).problems
    assert problems == [
        "its config.json is missing",
        "the root file system /nonexistent/root is missing",
        "/nonexistent/volume, of which a part is mounted, is missing",
        "secrets are gone, as after a reboot: /nonexistent/secret",
    ]


@pytest.mark.parametrize(
    ("number", "words"), [(5, "cannot be mounted"), (95, "cannot hold the writable part")]
)
def test_overlay_explains(tmp_path, monkeypatch, number, words):
    def refuse(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(rootfs.syscalls, "mount", refuse)
    with pytest.raises(CoreError, match=words):
        rootfs.mount_overlay([str(tmp_path)], str(tmp_path), upper=str(tmp_path), work=str(tmp_path))


@as_root
def test_overlay_of_one_layer_is_read_only_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "layer").mkdir()
    (tmp_path / "target").mkdir()

    def refuse(_handle, attributes=0, **_options):
        assert attributes == syscalls.MOUNT_ATTR_RDONLY
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(rootfs.syscalls, "mount_setattr", refuse)
    with pytest.raises(CoreError, match="not permitted"):
        rootfs.mount_overlay([str(tmp_path / "layer")], str(tmp_path / "target"))
    assert syscalls.mounts_below(str(tmp_path)) == []


def test_overlay_short_link_must_lead_to_the_layer(tmp_path):
    layer = tmp_path / "overlay/abc/diff"
    layer.mkdir(parents=True)
    assert rootfs._short(str(layer)) == str(layer)
    (layer.parent / "link").write_text("XYZ")
    assert rootfs._short(str(layer)) == str(layer)
    (tmp_path / "overlay/l").mkdir()
    (tmp_path / "overlay/l/XYZ").symlink_to("../abc/diff")
    assert rootfs._short(str(layer)) == str(tmp_path / "overlay/l/XYZ")
    (tmp_path / "overlay/l/XYZ").unlink()
    (tmp_path / "overlay/l/XYZ").symlink_to("..")
    assert rootfs._short(str(layer)) == str(layer)


# ---- the manager -----------------------------------------------------------------------------------------


@pytest.fixture
def manager(paths):
    return BundleManager(paths, None, None)


def test_manager_of_nothing(manager, paths):
    assert manager.names() == []
    assert manager.load("a") is None
    assert manager.sweep() == []
    assert manager.repair("a") is None
    assert manager.remove("a") is False


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".new.a", "-a", "a" * 129, "a\n"])
def test_manager_refuses_names(manager, name):
    for act in (manager.load, manager.remove, manager.path_of):
        with pytest.raises(InvalidSpec) as caught:
            act(name)
        assert caught.value.field == "name"


def test_manager_sweeps_what_nobody_holds(manager, paths):
    for name in ("dead", "alive"):
        os.makedirs(os.path.join(paths.bundles, f".new.{name}", "upper"))
    os.makedirs(os.path.join(paths.bundles, "whole"))
    with locked(os.path.join(paths.locks, "bundle-alive.lock")):
        assert manager.sweep() == ["dead"]
        with pytest.raises(Conflict), manager._locked("alive", timeout_s=0):
            pytest.fail("locked twice")
    assert sorted(os.listdir(paths.bundles)) == [".new.alive", "whole"]
    assert manager.names() == ["whole"]
    assert manager.sweep() == ["alive"]


def test_manager_clear_follows_no_link(manager, paths, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    staging = os.path.join(paths.bundles, ".new.a")
    os.makedirs(staging)
    os.symlink(tmp_path / "precious", os.path.join(staging, "upper"))
    manager.sweep()
    assert (tmp_path / "precious/file").exists()
    os.symlink(tmp_path / "precious", os.path.join(paths.bundles, ".new.b"))
    pathlib.Path(paths.bundles, ".new.c").touch()
    assert manager.sweep() == ["b", "c"]
    assert os.listdir(paths.bundles) == []
    assert (tmp_path / "precious/file").exists()


def test_manager_says_what_cannot_be_removed(manager, paths, monkeypatch):
    os.makedirs(os.path.join(paths.bundles, ".new.a"))

    def refuse(path):
        raise PermissionError(1, "Operation not permitted", path)

    with monkeypatch.context() as patched:
        patched.setattr(f"{rootfs.__name__}.remove_tree", refuse)
        with pytest.raises(CoreError, match=r"\.new\.a cannot be removed") as caught:
            manager.repair("a")
        assert "lsattr" in caught.value.hint
        assert manager.sweep() == []
    assert manager.sweep() == ["a"]
