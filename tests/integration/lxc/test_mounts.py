# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LXC containers see of the host's files: volumes, secrets, files, the kernel's own."""

from __future__ import annotations

import contextlib
import os
import pathlib
import stat
import subprocess
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils import syscalls
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec, Unsupported
from ansible_collections.pvecri.runtime.tests.support.lxc_world import Ct, Json, World, bind
from ansible_collections.pvecri.runtime.tests.support.waiting import eventually

BOTH = pytest.mark.parametrize("unprivileged", [True, False], ids=["unprivileged", "privileged"])


def _run(world: World, script: str, *mounts: Json, unprivileged: bool = True) -> Ct:
    ct = world.ct(
        "sh", "-c", script, change=lambda config: config["mounts"].extend(mounts), unprivileged=unprivileged
    )
    ct.start()
    return ct


@BOTH
def test_volume_is_the_containers_root_own_wherever_it_lies(world: World, *, unprivileged: bool) -> None:
    volume = world.volume("secret", "word", 0o600, hidden=True)
    script = "cat /v/f; stat -c '%u %a' /v/f; echo new >/v/new; chown 1000:1001 /v/new"
    ct = _run(world, script, bind(volume, "/v"), unprivileged=unprivileged)
    assert ct.wait() == 0, ct.written()
    assert ct.written()[0] == "word0 600\n"
    status = (volume / "new").stat()
    assert (status.st_uid, status.st_gid) == (1000, 1001)


def test_what_is_shown_for_a_start_is_shown_to_nobody_else(world: World) -> None:
    volume = world.volume("secret", "word", hidden=True)
    ct = world.ct("true", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    ct.prepare()
    path = os.path.join(ct.guest.mounts, "0", "f")
    assert pathlib.Path(path).read_text() == "word"
    for user, group, code in ((65534, 65534, 1), (100000, 65534, 1), (100000, 100000, 0)):
        done = subprocess.run(
            ["cat", path], user=user, group=group, extra_groups=[], capture_output=True, check=False
        )
        assert done.returncode == code, (user, group)


def test_privileged_container_can_have_all_devices(world: World) -> None:
    nodes = []
    for top, _directories, names in os.walk("/dev"):
        for name in names:
            status = os.lstat(os.path.join(top, name))
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                kind = "b" if stat.S_ISBLK(status.st_mode) else "c"
                number = {"major": os.major(status.st_rdev), "minor": os.minor(status.st_rdev)}
                nodes.append({"path": os.path.join(top, name), "type": kind, **number})
    linux = {"devices": nodes, "resources": {"devices": [{"allow": True, "access": "rwm"}]}}
    ct = world.ct(
        "sh", "-c", "ls /dev | wc -l", change=lambda config: config["linux"].update(linux), unprivileged=False
    )
    ct.start()
    assert ct.wait() == 0
    # Those of terminals are its own.
    assert int(ct.written()[0]) > len({node["path"] for node in nodes if node["path"].count("/") == 2})


def test_read_only_volume_cannot_be_written(world: World) -> None:
    volume = world.volume("v", "x")
    options = ("rbind", "rprivate", "ro", "nosuid", "nodev", "noexec")
    ct = _run(world, "echo y >/v/f; grep ' /v ' /proc/self/mountinfo", bind(volume, "/v", *options))
    assert ct.wait() == 0
    out, err = ct.written()
    assert "Read-only file system" in err
    assert {"ro", "nosuid", "nodev", "noexec"} <= set(out.split()[5].split(","))
    assert (volume / "f").read_text() == "x"


def test_files_are_shown_at_their_places(world: World) -> None:
    volume = world.volume("files", "nameserver 10.0.0.1\n", hidden=True)
    log = volume / "termination"
    log.touch()
    mounts = (bind(volume / "f", "/etc/resolv.conf", "bind", "ro"), bind(log, "/dev/termination-log"))
    ct = _run(world, "cat /etc/resolv.conf; echo why >/dev/termination-log", *mounts)
    assert ct.wait() == 0, ct.written()
    assert ct.written()[0] == "nameserver 10.0.0.1\n"
    assert log.read_text() == "why\n"


def test_volumes_within_volumes_are_on_top(world: World) -> None:
    outer, inner, deep = (world.volume(name, name) for name in ("outer", "inner", "deep"))
    image = world.volume("image", "image")
    mounts = (
        bind(outer, "/data"),
        bind(inner, "/data/a/b"),
        bind(deep, "/data/a/b/c"),
        {"destination": "/data/t", "type": "tmpfs", "source": "tmpfs", "options": ["rw", "size=1m"]},
        bind(image, "/data/t/i", "rbind", "ro"),
    )
    script = "cat /data/f /data/a/b/f /data/a/b/c/f /data/t/i/f; touch /data/t/x"
    ct = _run(world, script, *mounts)
    assert ct.wait() == 0, ct.written()
    assert ct.written()[0] == "outerinnerdeepimage"
    assert not (outer / "t/x").exists()


def test_names_of_volumes_may_hold_anything(world: World) -> None:
    name = "a b\tc\nlxc.init.cmd = evil\\040 d'\"#=,"
    volume = world.volume(name, "odd")
    ct = _run(
        world,
        f"cat /v/f; cat '/x{name.partition(chr(39))[0]}/f'",
        bind(volume, "/v"),
        bind(volume, f"/x{name.partition(chr(39))[0]}"),
    )
    assert ct.wait() == 0, ct.written()
    assert ct.written()[0] == "oddodd"


def test_tmpfs_has_size_mode_and_owner(world: World) -> None:
    options = ["rw", "nosuid", "nodev", "size=1m", "mode=750", "uid=1000", "gid=1001"]
    mount = {"destination": "/run/t", "type": "tmpfs", "source": "tmpfs", "options": options}
    ct = _run(world, "stat -c '%u %g %a' /run/t; df -m /run/t | tail -1", mount)
    ct.wait()
    said = ct.written()[0].split()
    assert said[:3] == ["1000", "1001", "750"]
    assert said[4] == "1"


@contextlib.contextmanager
def _shared(path: pathlib.Path) -> t.Iterator[None]:
    """A directory whose mounts propagate, as systemd has it for a whole host."""
    syscalls.mount(str(path), str(path), flags=syscalls.MS_BIND)
    syscalls.mount("", str(path), flags=syscalls.MS_SHARED)
    try:
        yield
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", str(path)], check=True)


@pytest.mark.parametrize(("propagation", "is_seen"), [("rslave", True), ("rprivate", False)])
def test_mounts_of_the_host_appear_where_they_shall(world: World, propagation: str, *, is_seen: bool) -> None:
    volume = world.volume("v", "x")
    (volume / "later").mkdir()
    with _shared(volume):
        ct = _run(world, "sleep 1000", bind(volume, "/v", "rbind", propagation))
        # As late as kubelet's would come.
        syscalls.mount("tmpfs", str(volume / "later"), "tmpfs")
        (volume / "later/new").write_text("there")
        # The container has them by itself: what the driver made is gone.
        assert not os.listdir(os.path.dirname(ct.guest.mounts)).count("mounts")
        if is_seen:
            eventually(lambda: world.driver.exec(ct.name, ["cat", "/v/later/new"]).stdout == "there")
        assert (world.driver.exec(ct.name, ["test", "-e", "/v/later/new"]).rc == 0) == is_seen
        ct.stop()


def test_mounts_that_were_there_stay_where_those_of_the_host_appear(world: World) -> None:
    volume = world.volume("v", "x")
    (volume / "before").mkdir()
    with _shared(volume):
        syscalls.mount("tmpfs", str(volume / "before"), "tmpfs")
        (volume / "before/f").write_text("there")
        ct = _run(world, "sleep 1000", bind(volume, "/v", "rbind", "rslave"))
        # What the driver had made for the start is gone by now, and with it nothing of the container's own.
        assert not os.path.exists(ct.guest.mounts)
        assert world.driver.exec(ct.name, ["cat", "/v/before/f"]).stdout == "there"
        assert (volume / "before/f").read_text() == "there"
        syscalls.umount2(str(volume / "before"), syscalls.MNT_DETACH)
        eventually(lambda: world.driver.exec(ct.name, ["test", "-e", "/v/before/f"]).rc != 0)
        ct.stop()


def test_mounts_below_a_volume_belong_to_it(world: World) -> None:
    volume = world.volume("v", "x")
    (volume / "below").mkdir()
    syscalls.mount("tmpfs", str(volume / "below"), "tmpfs")
    try:
        (volume / "below/f").write_text("deep")
        ct = _run(world, "cat /v/below/f; echo y >/v/below/new", bind(volume, "/v"))
        assert ct.wait() == 0, ct.written()
        assert ct.written()[0] == "deep"
        assert (volume / "below/new").stat().st_uid == 0
        shallow = _run(world, "ls /v/below", bind(volume, "/v", "bind", "rprivate"))
        assert (shallow.wait(), shallow.written()) == (0, ("", ""))
    finally:
        syscalls.umount2(str(volume / "below"), syscalls.MNT_DETACH)


def test_what_is_shown_is_what_was_there_when_it_was_prepared(world: World) -> None:
    volume = world.volume("v", "right")
    ct = world.ct("cat", "/v/f", change=lambda config: config["mounts"].append(bind(volume, "/v")))
    ct.prepare()
    volume.rename(volume.with_name("gone"))
    volume.symlink_to("/etc")
    ct.begin()
    world.driver.await_start(ct.name, 30)
    ct.wait()
    assert ct.written()[0] == "right"


def test_shared_memory_of_the_pod_is_shared(world: World) -> None:
    shm = world.volume("shm")
    syscalls.mount("shm", str(shm), "tmpfs", data="mode=1777,size=1m")
    try:
        mount = bind(shm, "/dev/shm", "rbind", "rprivate", "nosuid", "nodev", "noexec")
        ct = _run(world, "echo a >/dev/shm/a; stat -c %a /dev/shm; id -u", mount)
        assert ct.wait() == 0, ct.written()
        assert ct.written()[0] == "1777\n0\n"
        assert (shm / "a").stat().st_uid == 0
    finally:
        syscalls.umount2(str(shm), syscalls.MNT_DETACH)


def test_overlay_is_shown_with_the_owners_it_has(world: World) -> None:
    parts = [world.volume(name, "layer") for name in ("lower", "upper", "work", "merged")]
    (parts[2] / "f").unlink()
    data = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
    syscalls.mount("overlay", str(parts[3]), "overlay", data=data)
    try:
        ct = _run(world, "cat /image/f", bind(parts[3], "/image", "rbind", "ro"))
        assert ct.wait() == 0, ct.written()
        assert ct.written()[0] == "layer"
    finally:
        syscalls.umount2(str(parts[3]), syscalls.MNT_DETACH)


def test_source_without_mapped_ids_is_named(world: World) -> None:
    ct = world.ct("true", change=lambda config: config["mounts"].append(bind("/proc", "/host/proc")))
    with pytest.raises(Unsupported, match=r"mounts \(/host/proc\)"):
        ct.prepare()


def test_files_of_the_pod_are_shown_even_where_ids_cannot_be_mapped(world: World) -> None:
    place = pathlib.Path(world.paths.run_dir, "kernel")
    place.mkdir()
    syscalls.mount("proc", str(place), "proc")
    try:
        ct = _run(world, "cat /etc/hosts", bind(place / "version", "/etc/hosts", "bind", "ro"))
        assert ct.wait() == 0, ct.written()
        assert ct.written()[0].startswith("Linux")
    finally:
        syscalls.umount2(str(place), syscalls.MNT_DETACH)


def test_source_that_is_not_there_is_named(world: World) -> None:
    ct = world.ct("true", change=lambda config: config["mounts"].append(bind(f"{world.top}/none", "/v")))
    with pytest.raises(InvalidSpec, match=r"mounts \(/v\)"):
        ct.prepare()
    assert not os.path.exists(ct.guest.config)


def test_files_of_the_kernel_are_masked_and_read_only(world: World) -> None:
    def change(config: Json) -> None:
        config["linux"]["maskedPaths"] = ["/proc/timer_list", "/proc/driver", "/proc/none", "/sys/firmware"]
        config["linux"]["readonlyPaths"] = ["/proc/sys", "/proc/irq", "/proc/fs"]

    script = (
        "wc -c </proc/timer_list; ls /proc/driver /sys/firmware; echo 1 >/proc/sys/kernel/pid_max; "
        "grep -E ' /proc/(irq|fs) ' /proc/self/mountinfo; touch /sys/x; ls /sys/fs/cgroup"
    )
    ct = world.ct("sh", "-c", script, change=change)
    ct.start()
    ct.wait()
    out, err = ct.written()
    assert out.startswith("0\n")
    assert "/proc/driver:\n\n" in out
    assert out.count(" ro,") == 2
    assert err.count("Read-only file system") == 2
    # Programs ask there for their limits.
    assert "memory" in out


@BOTH
def test_devices_can_be_used_as_far_as_allowed(world: World, *, unprivileged: bool) -> None:
    def change(config: Json) -> None:
        config["process"]["user"] = {"uid": 1000, "gid": 1001}
        config["linux"]["devices"] = [
            {"path": "/dev/my/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o660, "gid": 1001},
            {"path": "/dev/mine", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600, "uid": 1000},
            {"path": "/dev/console", "type": "c", "major": 5, "minor": 1},
        ]
        config["linux"]["resources"] = {
            "devices": [{"allow": True, "type": "c", "major": 1, "minor": 5, "access": "r"}]
        }

    script = "head -c 3 /dev/my/zero | wc -c; stat -c '%u %g %a %t %T' /dev/my/zero /dev/mine"
    ct = world.ct("sh", "-c", script, change=change, unprivileged=unprivileged)
    ct.start()
    assert ct.wait() == 0, ct.written()
    assert ct.written()[0] == "3\n0 1001 660 1 5\n1000 0 600 a c8\n"
    text = pathlib.Path(ct.guest.config).read_text()
    assert text.count("devices.allow") == 2
    assert "devices.allow = c 1:5 r\n" in text
