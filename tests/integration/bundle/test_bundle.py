# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make bundles of real images, run them with crun, change and remove them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import rootfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CoreError,
    InvalidSpec,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectoryMode,
    DirectorySource,
    ImageSource,
    TarballSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    ContainerSpec,
    IdMap,
    Mount,
    MountKind,
    Namespaces,
    Owner,
    Resources,
    Security,
    to_plain,
)
from ansible_collections.pvecri.runtime.tests.support.host import CRUN
from ansible_collections.pvecri.runtime.tests.support.images import (
    File,
    OciLayout,
    busybox_layer,
    directory,
    tar_layer,
    write_rootfs,
)

HOST_NETWORK = Namespaces(network="host")
MAPS = (IdMap(container_id=0, host_id=100000, size=65536),)


def spec(*command, name="test", **more):
    """Return a container of the host's network that runs ``command`` in a shell."""
    more.setdefault("namespaces", HOST_NETWORK)
    return ContainerSpec(
        name=name, command=("/bin/sh", "-c", "; ".join(command)) if command else None, **more
    )


def mapped(*command, **more):
    namespaces = Namespaces(network="host", user="private")
    return spec(*command, namespaces=namespaces, uid_maps=MAPS, gid_maps=MAPS, **more)


def lines(core, bundle):
    done = core.run(bundle.path)
    assert done.rc == 0, done.stderr
    return done.stdout.splitlines()


def image(tmp_path, *layers, **config):
    layout = OciLayout(tmp_path / "layout")
    layout.add_image("latest", [busybox_layer(), *layers], {"Cmd": ["sh"], "Env": ["PATH=/bin"], **config})
    return ImageSource(reference=f"oci:{layout.path}:latest")


# ---- life ------------------------------------------------------------------------------------------------


def test_bundle_life(core, busybox):
    created = core.manager.create(spec("echo $GREETING; id -u", env=(("GREETING", "hello"),)), busybox)
    assert created.problems == []
    assert created.is_mounted
    assert core.manager.verify(created.path) == []
    assert lines(core, created) == ["hello", "0"]
    loaded = core.fresh().manager.load("test")
    assert loaded.record == created.record
    assert loaded.config["process"]["args"][0] == "/bin/sh"
    assert core.manager.names() == ["test"]
    assert core.manager.unmount(loaded) is True
    assert core.manager.unmount(loaded) is False
    assert not loaded.is_mounted
    assert os.listdir(loaded.rootfs_path) == []
    assert core.manager.mount(loaded) is True
    assert core.manager.mount(loaded) is False
    assert lines(core, loaded) == ["hello", "0"]
    assert core.manager.remove("test") is True
    assert core.manager.remove("test") is False
    assert core.manager.load("test") is None
    assert syscalls.mounts_below(core.paths.bundles) == []
    assert os.listdir(core.paths.bundles) == []


def test_bundle_files_are_for_root_alone(core, busybox):
    bundle = core.manager.create(spec("true", env=(("A", "b"),)), busybox)
    assert stat.S_IMODE(os.stat(bundle.path).st_mode) == 0o700
    for name in ("config.json", "pvecri.json"):
        assert stat.S_IMODE(os.stat(os.path.join(bundle.path, name)).st_mode) == 0o600


def test_bundle_warm_needs_no_process_but_crun_version(core, busybox):
    core.store.ensure(busybox)
    fresh = core.fresh()
    fresh.manager.create(spec("true"), busybox)
    # crun is asked once what it can do; newer versions have a second word for it.
    assert fresh.runner.calls in ([["crun", "--version"]], [["crun", "--version"], ["crun", "features"]])
    fresh.runner.calls.clear()
    fresh.manager.create(spec("true", name="two"), busybox)
    loaded = fresh.manager.load("two")
    fresh.manager.desired(spec("true", name="two"), busybox)
    fresh.manager.unmount(loaded)
    fresh.manager.mount(loaded)
    fresh.manager.remove("two")
    assert fresh.runner.calls == []


def test_bundle_writes_stay_over_a_remount(core, busybox):
    bundle = core.manager.create(spec("echo kept > /file"), busybox)
    lines(core, bundle)
    core.manager.unmount(bundle)
    core.manager.mount(bundle)
    assert pathlib.Path(bundle.rootfs_path, "file").read_text() == "kept\n"


def test_bundle_owners_do_not_see_each_other(core, busybox):
    core.manager.create(spec("true"), busybox)
    other = dataclasses.replace(core.paths, owner=Owner.CRI)
    kubelet = dataclasses.replace(core, paths=other).fresh()
    assert kubelet.manager.names() == []
    assert kubelet.manager.load("test") is None
    kubelet.manager.create(spec("true"), busybox)
    assert kubelet.manager.remove("test")
    assert core.manager.names() == ["test"]


def test_bundle_cgroups_of_one_name_differ(core, busybox, tmp_path):
    """What ends one container ends all that is in its cgroup, so nobody else may be in it."""

    def cgroup(paths, **more):
        other = dataclasses.replace(core, paths=paths).fresh()
        try:
            bundle = other.manager.create(spec("true", **more), busybox)
            other.manager.unmount(bundle)
            return bundle.config["linux"]["cgroupsPath"]
        finally:
            rootfs.unmount_below(paths.state_dir)

    elsewhere = dataclasses.replace(core.paths, state_dir=str(core.top / "s2"))
    found = [
        cgroup(core.paths),
        cgroup(dataclasses.replace(core.paths, owner=Owner.CRI)),
        cgroup(elsewhere),
    ]
    assert len(set(found)) == 3, found
    assert cgroup(core.paths, cgroups_path="/mine") == "/mine"
    record = core.manager.load("test").record
    assert record.request["cgroups_path"] == "/mine"
    assert cgroup(core.paths) == found[0]
    assert "cgroups_path" not in core.manager.load("test").record.request


# ---- the same or another ---------------------------------------------------------------------------------


def test_desired_equal_means_nothing_to_do(core, busybox):
    wanted = spec("true", env=(("A", "1"),))
    bundle = core.manager.create(wanted, busybox)
    assert core.manager.desired(wanted, busybox).spec_hash == bundle.record.spec_hash
    changed = dataclasses.replace(wanted, env=(("A", "2"),))
    assert core.manager.desired(changed, busybox).spec_hash != bundle.record.spec_hash
    elsewhere = core.manager.desired(wanted, busybox, network_namespace="/run/netns/x")
    assert elsewhere.spec_hash != bundle.record.spec_hash


def test_desired_tag_digest_and_archive_of_one_image_are_the_same(
    core, busybox_path, make_registry, tmp_path
):
    registry = make_registry()
    digest = registry.push(f"oci:{busybox_path}:latest", "app:1")
    names = ["app:1", f"app@{digest}", f"app:1@{digest}", f"app:other@{digest}"]
    sources = [ImageSource(reference=f"{registry.address}/{name}", tls_verify=False) for name in names]
    archive = f"docker-archive:{tmp_path}/app.tar"
    subprocess.run(["skopeo", "copy", "-q", f"oci:{busybox_path}:latest", archive], check=True, timeout=60)
    core.store.ensure(ImageSource(reference=archive))
    bundle = core.manager.create(spec("true"), sources[0])
    for source in [*sources, ImageSource(reference=archive)]:
        assert core.manager.desired(spec("true"), source).spec_hash == bundle.record.spec_hash, source


def test_desired_touched_tarball_is_the_same(core, tmp_path):
    path = tmp_path / "rootfs.tar"
    path.write_bytes(busybox_layer())
    source = TarballSource(path=str(path))
    bundle = core.manager.create(spec("true"), source)
    os.utime(path)
    assert core.manager.desired(spec("true"), source).identity is None
    core.store.ensure(source)
    assert core.manager.desired(spec("true"), source).spec_hash == bundle.record.spec_hash


def test_create_replaces_the_old_one(core, busybox):
    first = core.manager.create(spec("echo one"), busybox)
    pathlib.Path(first.rootfs_path, "written").touch()
    second = core.manager.create(spec("echo two"), busybox)
    assert lines(core, second) == ["two"]
    assert not os.path.exists(os.path.join(second.rootfs_path, "written"))
    assert first.record.instance != second.record.instance
    assert os.listdir(core.paths.bundles) == ["test"]
    assert len(syscalls.mounts_below(core.paths.bundles)) == 1


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"user": "nobody-here"}, "user"),
        (
            {"mounts": (Mount(kind=MountKind.BIND, destination="/x", source="/nonexistent"),)},
            "mounts[0].source",
        ),
        ({"mounts": (Mount(kind=MountKind.BIND, destination="/x", source="relative"),)}, "mounts[0].source"),
        ({"mounts": (Mount(kind=MountKind.VOLUME, destination="/x", source="../v"),)}, "mounts[0].source"),
        ({"mounts": (Mount(kind=MountKind.IMAGE, destination="/x"),)}, "mounts[0].source"),
        ({"mounts": (Mount(kind=MountKind.SECRET, destination="/x"),)}, "mounts[0].content"),
        ({"mounts": (Mount(kind=MountKind.TMPFS, destination="/"),)}, "mounts[0].destination"),
        ({"resources": Resources(memory_swap_bytes=1 << 30)}, "resources.memory_swap"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_create_refused_leaves_the_old_one_and_nothing_else(core, busybox, wrong, field):
    old = core.manager.create(spec("echo old"), busybox)
    volume = Mount(kind=MountKind.VOLUME, destination="/v", source="fresh")
    secret = Mount(kind=MountKind.SECRET, destination="/s", content=b"s")
    file = Mount(kind=MountKind.FILE, destination="/f", content=b"f")
    wrong = {**wrong, "mounts": (*wrong.get("mounts", ()), volume, secret, file)}
    with pytest.raises(InvalidSpec) as caught:
        core.manager.create(spec("echo new", **wrong), busybox)
    assert caught.value.field.startswith(field)
    assert core.manager.load("test").record == old.record
    assert lines(core, old) == ["old"]
    assert os.listdir(core.paths.bundles) == ["test"]
    assert not os.path.exists(core.paths.volumes) or os.listdir(core.paths.volumes) == []
    assert not os.path.exists(os.path.join(core.paths.run_dir, "secrets", "play"))


def test_stage_commit_and_discard(core, busybox):
    old = core.manager.create(spec("echo old"), busybox)
    staged = core.manager.stage(spec("echo new"), busybox, extra={"k": [1]})
    assert lines(core, old) == ["old"]
    # Whoever staged may still work on the old one; others may not.
    assert core.manager.unmount(old)
    assert core.manager.mount(old)
    core.manager.discard(staged)
    assert lines(core, core.manager.load("test")) == ["old"]
    assert os.listdir(core.paths.bundles) == ["test"]
    staged = core.manager.stage(spec("echo new"), busybox, extra={"k": [1]})
    bundle = core.manager.commit(staged)
    assert lines(core, bundle) == ["new"]
    assert core.manager.load("test").record.extra == {"k": [1]}
    # The lock is free again.
    assert core.fresh().manager.remove("test")


def test_update_config_request_and_extra(core, busybox):
    bundle = core.manager.create(spec("true"), busybox)
    config = {**bundle.config, "annotations": {"a": "b"}}
    request = to_plain(spec("true", annotations=(("a", "b"),)))
    core.manager.update(bundle, config=config, request=request, extra={"x": 1})
    loaded = core.manager.load("test")
    assert loaded.config["annotations"] == {"a": "b"}
    assert loaded.record.extra == {"x": 1}
    desired = core.manager.desired(spec("true", annotations=(("a", "b"),)), busybox)
    assert loaded.record.spec_hash == desired.spec_hash
    with pytest.raises(InvalidSpec):
        core.manager.update(loaded, config={**config, "process": {}})
    assert core.manager.load("test").config == config


def test_network_namespace_is_joined(core, busybox, tmp_path):
    bundle = core.manager.create(
        spec("true", namespaces=Namespaces()), busybox, network_namespace="/proc/1/ns/net"
    )
    namespaces = {item["type"]: item.get("path") for item in bundle.config["linux"]["namespaces"]}
    assert namespaces["network"] == "/proc/1/ns/net"
    assert bundle.record.network_namespace == "/proc/1/ns/net"


# ---- running ---------------------------------------------------------------------------------------------


@pytest.fixture
def running(core, busybox):
    """A bundle from which a container runs."""
    bundle = core.manager.create(spec("sleep 1000"), busybox)
    argv = [CRUN, "--root", core.paths.runtime_root]
    subprocess.run([*argv, "run", "--detach", "--bundle", bundle.path, "box"], check=True, timeout=30)
    yield bundle
    subprocess.run([*argv, "delete", "--force", "box"], check=False, timeout=30)


def test_running_is_not_touched(core, busybox, running):
    for act in (
        lambda: core.manager.remove("test"),
        lambda: core.manager.unmount(running),
        lambda: core.manager.create(spec("true"), busybox),
    ):
        with pytest.raises(WrongState, match="container box runs from bundle test"):
            act()
    assert running.is_mounted
    assert os.listdir(core.paths.bundles) == ["test"]
    argv = [CRUN, "--root", core.paths.runtime_root]
    subprocess.run([*argv, "kill", "box", "KILL"], check=True, timeout=30)
    subprocess.run([*argv, "delete", "--force", "box"], check=True, timeout=30)
    assert core.manager.remove("test")


# ---- mounts ----------------------------------------------------------------------------------------------


def test_volume_named_begins_with_the_images_content_and_is_shared(core, tmp_path):
    layer = tar_layer(
        [directory("data", 0o750, uid=1000, gid=1000), File("data/seed", b"s", uid=1000), directory("data/d")]
    )
    source = image(tmp_path, layer)
    volume = Mount(kind=MountKind.VOLUME, destination="/data", source="shared")
    one = core.manager.create(spec("ls -n /data; echo 1 > /data/new", mounts=(volume,)), source)
    assert [line.split()[-1] for line in lines(core, one)[1:]] == ["d", "seed"]
    two = core.manager.create(
        spec("cat /data/new; stat -c %u:%a /data", name="two", mounts=(volume,)), source
    )
    assert lines(core, two) == ["1", "1000:750"]
    assert one.record.volumes == ("shared",)
    core.manager.remove("test")
    core.manager.remove("two")
    assert os.path.exists(os.path.join(core.paths.volumes, "shared", "new"))


def test_volume_named_sub_path_and_read_only(core, tmp_path):
    source = image(tmp_path, tar_layer([directory("data"), directory("data/a"), File("data/a/x", b"1")]))
    whole = Mount(kind=MountKind.VOLUME, destination="/data", source="v")
    part = Mount(kind=MountKind.VOLUME, destination="/part", source="v", sub_path="a", read_only=True)
    bundle = core.manager.create(
        spec("cat /part/x; echo; touch /part/no 2>/dev/null || echo ro", mounts=(whole, part)), source
    )
    assert lines(core, bundle) == ["1", "ro"]


def test_volume_sub_path_that_leads_out_stays_inside(core, busybox, tmp_path):
    (tmp_path / "secret").write_text("host")
    volume = pathlib.Path(core.paths.volumes, "v")
    (volume / "inside").mkdir(parents=True)
    (volume / "link").symlink_to(tmp_path)
    part = Mount(kind=MountKind.VOLUME, destination="/part", source="v", sub_path="link")
    with pytest.raises(InvalidSpec, match=r"mounts\[0\].sub_path"):
        core.manager.create(spec("ls /part", mounts=(part,)), busybox)


def test_volume_of_the_image_is_made_and_goes_with_the_bundle(core, tmp_path):
    source = image(
        tmp_path, tar_layer([directory("d"), File("d/x", b"1")]), Volumes={"/d": {}, "/e/f": {}, "/": {}}
    )
    bundle = core.manager.create(
        spec("cat /d/x; echo; touch /e/f/y; mount | grep -c -E ' /(d|e/f) '"), source
    )
    assert lines(core, bundle) == ["1", "2"]
    assert not os.path.exists(os.path.join(bundle.rootfs_path, "e/f/y"))
    core.manager.remove("test")
    assert os.listdir(core.paths.bundles) == []


def test_volume_of_the_image_gives_way_to_a_mount(core, tmp_path):
    source = image(tmp_path, Volumes={"/d/": {}})
    tmpfs = Mount(kind=MountKind.TMPFS, destination="/d", size_bytes=1 << 20)
    bundle = core.manager.create(spec("mount | grep ' /d '", mounts=(tmpfs,)), source)
    assert "tmpfs" in lines(core, bundle)[0]
    assert not os.path.exists(os.path.join(bundle.path, "volumes"))


def test_volume_without_a_name_is_anonymous(core, busybox):
    mount = Mount(kind=MountKind.VOLUME, destination="/etc")
    bundle = core.manager.create(spec("ls /etc", mounts=(mount,)), busybox)
    assert lines(core, bundle) == ["group", "hostname", "hosts", "passwd"] or "passwd" in lines(core, bundle)


def test_image_mount_whole_part_and_file(core, busybox, tmp_path):
    layout = OciLayout(tmp_path / "other")
    layout.add_image("x", [tar_layer([directory("d"), File("d/f", b"one")]), tar_layer([File("g", b"two")])])
    reference = f"oci:{layout.path}:x"
    mounts = (
        Mount(kind=MountKind.IMAGE, destination="/whole", source=reference),
        Mount(kind=MountKind.IMAGE, destination="/part", source=reference, sub_path="d"),
        Mount(kind=MountKind.IMAGE, destination="/file", source=reference, sub_path="g"),
    )
    script = ("ls /whole", "cat /part/f; echo", "cat /file; echo", "touch /whole/x 2>/dev/null || echo ro")
    bundle = core.manager.create(spec(*script, mounts=mounts), busybox)
    assert lines(core, bundle) == ["d", "g", "one", "two", "ro"]
    assert len(bundle.record.images) == 2
    core.manager.unmount(bundle)
    assert syscalls.mounts_below(bundle.path) == []
    core.manager.mount(bundle)
    assert lines(core, bundle)[:2] == ["d", "g"]


def test_image_mount_sub_path_missing(core, busybox):
    mount = Mount(kind=MountKind.IMAGE, destination="/x", source=busybox.reference, sub_path="none")
    with pytest.raises(InvalidSpec, match="none does not exist there"):
        core.manager.create(spec("true", mounts=(mount,)), busybox)


def test_sub_path_missing_leaves_the_old_bundle_alone(core, busybox):
    old = core.manager.create(spec("cat /kept"), busybox)
    pathlib.Path(old.path, "upper", "kept").write_text("mine")
    mount = Mount(kind=MountKind.IMAGE, destination="/x", source=busybox.reference, sub_path="none")
    with pytest.raises(InvalidSpec, match="none does not exist there"):
        core.manager.create(spec("true", mounts=(mount,)), busybox)
    assert pathlib.Path(old.path, "upper", "kept").read_text() == "mine"
    assert core.manager.load("test").record == old.record


def test_secret_lies_in_memory_and_in_no_file(core, busybox):
    secret = Mount(kind=MountKind.SECRET, destination="/run/key", content=b"geheimnis", read_only=True)
    bundle = core.manager.create(
        spec("cat /run/key; echo; stat -c '%a %u' /run/key", user="web", mounts=(secret,)), busybox
    )
    assert lines(core, bundle) == ["geheimnis", "400 1000"]
    path = bundle.record.volatile[0]
    assert syscalls.is_in_memory(path)
    found = subprocess.run(
        ["grep", "-rlF", "geheimnis", core.paths.state_dir], capture_output=True, text=True, check=False
    )
    assert found.stdout == ""
    core.manager.remove("test")
    assert not os.path.exists(os.path.dirname(path))


def test_secret_of_the_old_bundle_goes_when_it_is_replaced(core, busybox):
    def one(content):
        secret = Mount(kind=MountKind.SECRET, destination="/key", content=content, mode=0o444, uid=7, gid=8)
        return spec("cat /key; echo; stat -c %u:%g:%a /key", mounts=(secret,))

    old = core.manager.create(one(b"old"), busybox)
    new = core.manager.create(one(b"new"), busybox)
    assert lines(core, new) == ["new", "7:8:444"]
    assert not os.path.exists(old.record.volatile[0])
    assert old.record.spec_hash != new.record.spec_hash


def test_secret_after_a_reboot(core, busybox):
    """A reboot empties the run directory and takes all mounts."""
    secret = Mount(kind=MountKind.SECRET, destination="/key", content=b"text", mode=0o404)
    other = Mount(kind=MountKind.SECRET, destination="/other", content=b"2")
    wanted = spec("cat /key; stat -c %u:%g:%a /key", user="web:extra", mounts=(secret, other))
    bundle = core.manager.create(wanted, busybox)
    rootfs.unmount_below(core.paths.bundles)
    shutil.rmtree(os.path.join(core.paths.run_dir, "secrets", "play"))
    fresh = core.fresh().manager
    bundle = fresh.load("test")
    assert not bundle.is_mounted
    assert len(bundle.problems) == 1
    assert "secrets are gone" in bundle.problems[0]
    assert fresh.repair("test").problems == bundle.problems
    changed = dataclasses.replace(wanted, mounts=(secret, dataclasses.replace(other, content=b"3")))
    assert fresh.repair("test", changed).problems != [], "another secret does not make the bundle whole"
    repaired = fresh.repair("test", dataclasses.replace(wanted, mounts=(other, secret)))
    assert repaired.problems == []
    fresh.mount(repaired)
    assert lines(core, repaired) == ["text1000:2000:404"]


def test_file_has_content_mode_and_owner(core, busybox):
    mounts = (
        Mount(kind=MountKind.FILE, destination="/etc/motd", content="grüß\n".encode()),
        Mount(kind=MountKind.FILE, destination="/bin/tool", content=b"#!/bin/sh\necho run\n", mode=0o755),
    )
    bundle = core.manager.create(spec("cat /etc/motd", "tool", mounts=mounts), busybox)
    assert lines(core, bundle) == ["grüß", "run"]


def test_bind_source_is_made_when_asked(core, busybox, tmp_path):
    mount = Mount(kind=MountKind.BIND, destination="/b", source=str(tmp_path / "new/dir"), create_source=True)
    bundle = core.manager.create(spec("touch /b/x", mounts=(mount,)), busybox)
    lines(core, bundle)
    assert (tmp_path / "new/dir/x").exists()


def test_bind_source_that_cannot_be_made_is_named(core, busybox, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for source in (tmp_path / "file/below", tmp_path / "dangling"):
        mount = Mount(kind=MountKind.BIND, destination="/b", source=str(source), create_source=True)
        with pytest.raises(InvalidSpec, match="cannot be made") as caught:
            core.manager.create(spec("true", mounts=(mount,)), busybox)
        assert caught.value.field == "mounts[0].source"


def test_tmpfs_and_read_only_rootfs(core, busybox):
    mounts = (Mount(kind=MountKind.TMPFS, destination="/scratch", size_bytes=1 << 20, mode=0o700),)
    security = Security(read_only_rootfs=True)
    script = ("touch /no 2>/dev/null || echo ro", "touch /scratch/yes && echo rw")
    bundle = core.manager.create(spec(*script, mounts=mounts, security=security), busybox)
    assert lines(core, bundle) == ["ro", "rw"]


# ---- user namespaces -------------------------------------------------------------------------------------


def test_user_namespace_shows_shifted_owners(core, tmp_path):
    source = image(
        tmp_path, tar_layer([File("web", b"", uid=1000, gid=1000), directory("d", uid=33, gid=33)])
    )
    script = ("id -u", "stat -c %u:%g /web /d /etc/passwd", "touch /d/new", "cat /proc/self/uid_map")
    bundle = core.manager.create(mapped(*script), source)
    out = lines(core, bundle)
    assert out[:4] == ["0", "1000:1000", "33:33", "0:0"]
    assert out[4].split() == ["0", "100000", "65536"]
    assert os.stat(os.path.join(bundle.path, "upper/d/new")).st_uid == 100000
    assert stat.S_IMODE(os.stat(bundle.path).st_mode) == 0o710
    assert os.stat(bundle.path).st_gid == 100000
    assert sorted(os.listdir(bundle.path)) == ["config.json", "pvecri.json", "rootfs", "upper", "work"]


def test_user_namespace_mounts(core, busybox):
    mounts = (
        Mount(kind=MountKind.VOLUME, destination="/home", source="homes"),
        Mount(kind=MountKind.SECRET, destination="/key", content=b"k"),
        Mount(kind=MountKind.IMAGE, destination="/img", source=busybox.reference),
    )
    script = ("stat -c %u /home /home/web /key /img/home/web", "touch /home/x", "cat /key")
    bundle = core.manager.create(mapped(*script, mounts=mounts), busybox)
    assert lines(core, bundle) == ["0", "1000", "0", "1000", "k"]
    assert os.stat(os.path.join(core.paths.volumes, "homes/web")).st_uid == 101000


def test_user_namespace_of_an_id_without_map(core, tmp_path):
    source = image(tmp_path)
    small = (IdMap(container_id=0, host_id=100000, size=10),)
    wanted = dataclasses.replace(mapped("true", user="web"), uid_maps=small, gid_maps=small)
    with pytest.raises(InvalidSpec):
        core.manager.create(wanted, source)
    assert core.manager.names() == []


def test_user_namespace_on_a_file_system_without_it(core, busybox, monkeypatch):
    from ansible_collections.pvecri.runtime.plugins.module_utils.bundle import idmap

    def refuse(*_args, **_options):
        raise OSError(22, "Invalid argument")

    core.store.ensure(busybox)
    monkeypatch.setattr(idmap.syscalls, "mount_setattr", refuse)
    with pytest.raises(Unsupported, match="cannot show files with mapped ids") as caught:
        core.manager.create(mapped("true"), busybox)
    assert "ext4" in caught.value.hint
    assert core.manager.names() == []
    assert [path for path in syscalls.mounts_below(str(core.top)) if "idmap" in path] == []


# ---- directories -----------------------------------------------------------------------------------------


def test_directory_overlay_leaves_it_alone(core, tmp_path):
    path = write_rootfs(tmp_path / "root")
    source = DirectorySource(path=path)
    bundle = core.manager.create(spec("touch /new && echo done"), source)
    assert lines(core, bundle) == ["done"]
    assert not os.path.exists(os.path.join(path, "new"))
    core.manager.remove("test")
    assert os.path.exists(os.path.join(path, "bin/busybox"))
    assert set(core.runner.programs()) == {"crun"}


def test_directory_direct_writes_into_it_and_survives_removal(core, tmp_path):
    path = write_rootfs(tmp_path / "root")
    source = DirectorySource(path=path, mode=DirectoryMode.DIRECT)
    bundle = core.manager.create(spec("touch /new && echo done"), source)
    assert bundle.is_mounted
    assert not bundle.needs_mounts
    assert bundle.rootfs_path == path
    assert lines(core, bundle) == ["done"]
    assert core.manager.unmount(bundle) is False
    core.manager.remove("test")
    assert os.path.exists(os.path.join(path, "new"))
    assert os.path.exists(os.path.join(path, "bin/busybox"))


@pytest.mark.parametrize("mode", list(DirectoryMode))
def test_directory_that_cannot_be_one(core, mode):
    with pytest.raises(NotFound):
        core.manager.create(spec("true"), DirectorySource(path="/nonexistent", mode=mode))
    with pytest.raises(InvalidSpec, match="no absolute path"):
        core.manager.create(spec("true"), DirectorySource(path="relative", mode=mode))
    with pytest.raises(InvalidSpec, match="host's own root"):
        core.manager.create(spec("true"), DirectorySource(path="/", mode=mode))
    os.makedirs(core.paths.state_dir)
    with pytest.raises(InvalidSpec, match="contains the bundles"):
        core.manager.create(spec("true"), DirectorySource(path=str(core.top), mode=mode))


def test_directory_gone_after_the_bundle_was_made(core, tmp_path):
    path = write_rootfs(tmp_path / "root")
    for mode in DirectoryMode:
        core.manager.create(spec("true", name=mode), DirectorySource(path=path, mode=mode))
        core.manager.unmount(core.manager.load(mode))
    shutil.rmtree(path)
    assert core.manager.load("overlay").problems == [f"the layer {path} is missing"]
    assert core.manager.load("direct").problems == [f"the root file system {path} is missing"]
    with pytest.raises(WrongState, match="is missing"):
        core.manager.mount(core.manager.load("overlay"))


# ---- damaged ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: (path / "pvecri.json").unlink(), "pvecri.json is missing"),
        (lambda path: (path / "pvecri.json").write_text(""), "is damaged"),
        (lambda path: (path / "pvecri.json").write_text("[]"), "is damaged"),
        (lambda path: (path / "pvecri.json").write_text('{"schema": 99}'), "newer version"),
        (lambda path: (path / "config.json").unlink(), "config.json is missing"),
    ],
)
def test_damaged_bundle_is_told_and_made_again(core, busybox, damage, words):
    bundle = core.manager.create(spec("echo up"), busybox)
    damage(pathlib.Path(bundle.path))
    loaded = core.manager.load("test")
    assert words in loaded.problems[0]
    if loaded.record is None:
        with pytest.raises(WrongState, match="is damaged"):
            core.manager.mount(loaded)
    again = core.manager.create(spec("echo up"), busybox)
    assert again.problems == []
    assert lines(core, again) == ["up"]


def test_damaged_bundle_can_be_removed(core, busybox):
    bundle = core.manager.create(spec("true"), busybox)
    os.unlink(os.path.join(bundle.path, "pvecri.json"))
    assert core.manager.remove("test")
    assert syscalls.mounts_below(core.paths.bundles) == []


def test_config_unreadable(core, busybox):
    bundle = core.manager.create(spec("true"), busybox)
    pathlib.Path(bundle.path, "config.json").write_text("{")
    with pytest.raises(WrongState, match="cannot be read"):
        _unused = core.manager.load("test").config


# ---- verify ----------------------------------------------------------------------------------------------


def rules(core, path):
    return [(problem.path, problem.rule) for problem in core.manager.verify(str(path))]


def test_verify_what_crun_made(core, tmp_path):
    write_rootfs(tmp_path / "rootfs")
    subprocess.run([CRUN, "spec"], cwd=tmp_path, check=True, timeout=30)
    assert rules(core, tmp_path) == []


@pytest.mark.parametrize(
    ("change", "path", "rule"),
    [
        (lambda c: c.pop("ociVersion"), "$", "schema/required"),
        (lambda c: c["process"].update(cwd=1), "$.process.cwd", "schema/type"),
        (lambda c: c["root"].update(path="none"), "$.root.path", "bundle/root"),
        (lambda c: c["root"].update(path="empty"), "$.root.path", "bundle/root-empty"),
        (
            lambda c: c["mounts"].append({"destination": "/x", "type": "bind", "source": "/nonexistent"}),
            "$.mounts[-1].source",
            "bundle/mount-source",
        ),
        (
            lambda c: c.update(hooks={"poststop": [{"path": "/nonexistent"}]}),
            "$.hooks.poststop[0].path",
            "bundle/hook",
        ),
        (
            lambda c: c["linux"]["namespaces"].append({"type": "user", "path": "/nonexistent"}),
            "$.linux.namespaces[-1].path",
            "bundle/namespace",
        ),
    ],
)
def test_verify_names_place_and_rule(core, tmp_path, change, path, rule):
    write_rootfs(tmp_path / "rootfs")
    (tmp_path / "empty").mkdir()
    subprocess.run([CRUN, "spec"], cwd=tmp_path, check=True, timeout=30)
    config = json.loads((tmp_path / "config.json").read_text())
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = rules(core, tmp_path)
    path = path.replace("[-1].source", f"[{len(config.get('mounts', ())) - 1}].source")
    path = path.replace("[-1].path", f"[{len(config['linux']['namespaces']) - 1}].path")
    assert (path, rule) in found or (path in [p for p, _unused in found] and rule.startswith("schema")), found


def test_verify_no_bundle(core, tmp_path):
    assert rules(core, tmp_path / "none") == [("$", "bundle/directory")]
    assert rules(core, tmp_path) == [("$", "bundle/config")]
    (tmp_path / "config.json").write_text("{")
    assert rules(core, tmp_path) == [("$", "bundle/config")]
    (tmp_path / "config.json").write_text("[" * 100000)
    assert rules(core, tmp_path) == [("$", "bundle/config")]


def test_verify_unmounted_bundle_says_so(core, busybox):
    bundle = core.manager.create(spec("true"), busybox)
    core.manager.unmount(bundle)
    assert rules(core, bundle.path) == [("$.root.path", "bundle/root-empty")]


# ---- mounting --------------------------------------------------------------------------------------------


def many(tmp_path, count, length=60):
    paths = []
    for number in range(count):
        path = tmp_path / f"{'x' * length}{number}"
        path.mkdir()
        (path / str(number)).touch()
        paths.append(str(path))
    return paths


@pytest.fixture
def place(tmp_path):
    """Target, upper and work directory of an overlay, unmounted at the end."""
    for name in ("target", "upper", "work"):
        (tmp_path / name).mkdir()
    yield {name: str(tmp_path / name) for name in ("target", "upper", "work")}
    rootfs.unmount_below(str(tmp_path))


@pytest.mark.parametrize("count", [1, 2, 40, 300])
@pytest.mark.parametrize("is_writable", [True, False])
def test_overlay_any_number_of_layers(tmp_path, place, count, is_writable):
    layers = many(tmp_path, count)
    rootfs.mount_overlay(
        layers,
        place["target"],
        upper=place["upper"] if is_writable else None,
        work=place["work"] if is_writable else None,
    )
    assert rootfs.is_mounted(place["target"])
    assert len(os.listdir(place["target"])) == count
    probe = pathlib.Path(place["target"], "probe")
    if is_writable:
        probe.touch()
        assert os.listdir(place["upper"]) == ["probe"]
    else:
        with pytest.raises(OSError, match="Read-only"):
            probe.touch()
    assert rootfs.unmount(place["target"])
    assert not rootfs.unmount(place["target"])


def test_overlay_names_with_syntax(tmp_path, place):
    layers = []
    for name in ("a:b", "c,d", "e\\f", "g h"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
        layers.append(str(tmp_path / name))
    rootfs.mount_overlay(layers, place["target"])
    assert pathlib.Path(place["target"], "f").read_text() == "a:b"


def test_overlay_without_the_new_calls(tmp_path, place, monkeypatch):
    """An older kernel: short paths from a thread's own directory, and a clear refusal beyond."""

    def old(*_args):
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(rootfs, "_mount_one_by_one", old)
    layers = many(tmp_path, 150, length=4)
    here = os.getcwd()
    rootfs.mount_overlay(layers, place["target"], upper=place["upper"], work=place["work"])
    assert len(os.listdir(place["target"])) == 150
    assert os.getcwd() == here
    rootfs.unmount(place["target"])
    long = many(tmp_path, 100)
    with pytest.raises(Unsupported, match="do not fit"):
        rootfs.mount_overlay(long, place["target"])


def test_overlay_too_many_layers(tmp_path, place):
    with pytest.raises(Unsupported, match="501 layers"):
        rootfs.mount_overlay([str(tmp_path)] * 501, place["target"])


def test_overlay_layer_missing(tmp_path, place):
    for layers in ([str(tmp_path / "none")], [place["upper"], str(tmp_path / "none")]):
        with pytest.raises(WrongState, match="none is missing"):
            rootfs.mount_overlay(layers, place["target"])


def test_overlay_upper_on_a_file_system_that_cannot(tmp_path, place):
    """The upper directory on an overlay that cannot hold another one's marks, as on NFS."""
    layers = many(tmp_path, 2)
    rootfs.mount_overlay(layers, place["target"])
    upper = pathlib.Path(place["target"], "0")
    with pytest.raises(CoreError, match="cannot"):
        rootfs.mount_overlay(layers, place["work"], upper=str(upper), work=str(upper))


def test_overlay_kernel_without_it(tmp_path, place, monkeypatch):
    def none(*_args):
        raise OSError(19, "No such device")

    monkeypatch.setattr(rootfs.syscalls, "mount", none)
    with pytest.raises(Unsupported, match="no overlay"):
        rootfs.mount_overlay(many(tmp_path, 2), place["target"])
