# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that crun mounts what a built configuration asks for."""

from __future__ import annotations

import pathlib
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import IdMap, Mount, MountKind, Namespaces
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.mounts import ResolvedMount

pytestmark = pytest.mark.host


def bind(source, destination: str, **more) -> ResolvedMount:
    mount = Mount(kind=MountKind.BIND, destination=destination, source=str(source), **more)
    return ResolvedMount(mount=mount, source=str(source))


def tmpfs(destination: str, **more) -> ResolvedMount:
    return ResolvedMount(mount=Mount(kind=MountKind.TMPFS, destination=destination, **more))


def mountinfo(answer, destination: str) -> list[str]:
    """Return the fields of the last mount at a destination."""
    return [line.split() for line in answer.lines if line.split()[4:5] == [destination]][-1]


@pytest.fixture
def data(box) -> pathlib.Path:
    """A directory of the host with a file and a file system mounted below it."""
    path = box.top / "data"
    (path / "below").mkdir(parents=True)
    (path / "file").write_text("content\n")
    subprocess.run(["mount", "-t", "tmpfs", "below", path / "below"], check=True)
    (path / "below/file").write_text("below\n")
    yield path
    subprocess.run(["umount", path / "below"], check=True)


INFO = "cat /proc/self/mountinfo"


class TestBind:
    def test_read_write_with_what_is_below(self, box, data):
        answer = box.run("cat /d/file /d/below/file; echo new > /d/new", mounts=[bind(data, "/d")])
        assert answer.lines == ["content", "below"], answer.err
        assert (data / "new").read_text() == "new\n"

    def test_single_file(self, box, data):
        assert box.run("cat /etc/inside", mounts=[bind(data / "file", "/etc/inside")]).out == "content\n"

    def test_not_recursive(self, box, data):
        answer = box.run("ls /d/below | wc -l", mounts=[bind(data, "/d", options=("bind",))])
        assert answer.out == "0\n", answer.err

    def test_read_only_covers_the_mount_alone(self, box, data):
        answer = box.run(
            "touch /d/x || echo refused; touch /d/below/x && echo made",
            mounts=[bind(data, "/d", read_only=True)],
        )
        assert answer.lines == ["refused", "made"]

    def test_recursive_read_only_covers_what_is_below(self, box, data):
        answer = box.run(
            "touch /d/x || echo refused; touch /d/below/x || echo refused",
            mounts=[bind(data, "/d", recursive_read_only=True)],
        )
        assert answer.lines == ["refused", "refused"], answer.err

    def test_options_hold(self, box, data):
        (data / "program").write_text("#!/bin/sh\necho ran\n")
        (data / "program").chmod(0o755)
        answer = box.run(
            f"/d/program || echo refused; {INFO}", mounts=[bind(data, "/d", options=("noexec", "nosuid"))]
        )
        assert answer.lines[0] == "refused"
        assert {"noexec", "nosuid"} <= set(mountinfo(answer, "/d")[5].split(","))

    @pytest.mark.parametrize(
        ("propagation", "sign"),
        [
            ("rprivate", None),
            ("private", None),
            ("rslave", "master:"),
            ("slave", "master:"),
            ("rshared", "shared:"),
        ],
    )
    def test_propagation(self, box, data, propagation, sign):
        subprocess.run(["mount", "--make-shared", data / "below"], check=True)
        answer = box.run(INFO, mounts=[bind(data / "below", "/d", propagation=propagation)])
        optional = mountinfo(answer, "/d")[6]
        assert optional.startswith(sign) if sign else optional == "-", (answer.out, answer.err)

    def test_slave_sees_later_mounts_of_the_host(self, box, data):
        subprocess.run(["mount", "--make-shared", data / "below"], check=True)
        (data / "below/later").mkdir()
        script = (
            "touch /d/ready; i=0; while [ ! -e /d/later/here ] && [ $i -lt 200 ]; "
            "do sleep 0.05; i=$((i+1)); done; ls /d/later"
        )
        name, path, _config, _warnings = box.bundle(
            script, mounts=[bind(data / "below", "/d", propagation="rslave")]
        )
        with subprocess.Popen(
            box.argv("run", "--bundle", path, name), stdout=subprocess.PIPE, text=True
        ) as child:
            box.wait_for(data / "below/ready")
            subprocess.run(["mount", "-t", "tmpfs", "later", data / "below/later"], check=True)
            try:
                (data / "below/later/here").write_text("")
                assert child.communicate(timeout=20)[0] == "here\n"
            finally:
                subprocess.run(["umount", data / "below/later"], check=True)

    def test_nested_destinations_in_any_order(self, box, data):
        mounts = [bind(data / "file", "/a/b/c/file"), tmpfs("/a/b"), bind(data, "/a")]
        (data / "b").mkdir()
        answer = box.run("cat /a/file; ls /a/b/c", mounts=mounts)
        assert answer.lines == ["content", "file"], answer.err

    def test_mount_takes_the_place_of_a_usual_one(self, box, data):
        answer = box.run("ls /dev/shm; ls /dev/mqueue | wc -l", mounts=[bind(data / "below", "/dev/shm")])
        assert answer.lines == ["file", "0"], answer.err

    def test_whole_tree_hides_usual_mounts_below(self, box):
        answer = box.run(
            f"{INFO} | wc -l; ls /sys/fs/cgroup | wc -l", mounts=[bind("/sys", "/sys", read_only=True)]
        )
        assert answer.rc == 0, answer.err
        assert int(answer.lines[1]) > 1
        assert "/sys/fs/cgroup" not in {m["destination"] for m in answer.config["mounts"]}

    def test_id_mapped(self, box, data):
        (data / "below/file").chmod(0o600)
        maps = (IdMap(container_id=0, host_id=5000, size=10),)
        answer = box.run(
            "stat -c %u /d/file", mounts=[bind(data / "below", "/d", uid_maps=maps, gid_maps=maps)]
        )
        assert (answer.rc, answer.out) == (0, "5000\n"), answer.err

    def test_bind_in_a_user_namespace(self, box, data):
        maps = (IdMap(container_id=0, host_id=200000, size=65536),)
        answer = box.run(
            "cat /d/file",
            mounts=[bind(data, "/d", read_only=True)],
            uid_maps=maps,
            gid_maps=maps,
            namespaces=Namespaces(user="private"),
        )
        assert answer.out == "content\n", answer.err


class TestTmpfs:
    def test_size_mode_and_owner(self, box):
        mounts = [tmpfs("/t", size_bytes=1 << 20, mode=0o750, uid=1000, gid=2000)]
        answer = box.run(f"stat -c '%a %u %g' /t; df -k /t | tail -1; {INFO}", mounts=mounts)
        assert answer.lines[0] == "750 1000 2000"
        assert answer.lines[1].split()[1] == "1024"
        assert {"nosuid", "nodev"} <= set(mountinfo(answer, "/t")[5].split(","))

    def test_usual_mode(self, box):
        assert box.run("stat -c %a /t", mounts=[tmpfs("/t")]).out == "1777\n"

    def test_read_only(self, box):
        assert box.run("touch /t/x || echo refused", mounts=[tmpfs("/t", read_only=True)]).out == "refused\n"

    def test_flags_of_the_request(self, box):
        answer = box.run(INFO, mounts=[tmpfs("/t", options=("suid", "noexec"))])
        flags = set(mountinfo(answer, "/t")[5].split(","))
        assert {"nodev", "noexec"} <= flags
        assert "nosuid" not in flags

    @pytest.mark.parametrize(("size", "kib"), [(None, "65536"), (1 << 20, "1024")])
    def test_shm_size(self, box, size, kib):
        assert box.run("df -k /dev/shm | tail -1", shm_size_bytes=size).out.split()[1] == kib


class TestUsual:
    def test_kernel_file_systems(self, box):
        answer = box.run(INFO)
        kinds = {line.split()[4]: line.split(" - ")[1].split()[0] for line in answer.lines}
        assert kinds["/proc"] == "proc"
        assert kinds["/dev"] == "tmpfs"
        assert kinds["/dev/pts"] == "devpts"
        assert kinds["/dev/mqueue"] == "mqueue"
        assert kinds["/sys"] == "sysfs"
        assert "ro" in mountinfo(answer, "/sys")[5].split(",")

    def test_cgroups_are_read_only(self, box):
        # crun leaves the tmpfs that holds the hierarchies of v1 writable; the hierarchies are not.
        path = "/sys/fs/cgroup/x" if box.host.cgroup_version == 2 else "/sys/fs/cgroup/pids/x"
        assert box.run(f"mkdir {path} || echo refused").out == "refused\n"

    def test_nothing_of_the_host_propagates_in(self, box):
        answer = box.run(INFO)
        assert not [line for line in answer.lines if "shared:" in line]
