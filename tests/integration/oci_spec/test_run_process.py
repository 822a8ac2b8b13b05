# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that crun gives processes what a built configuration asks for."""

from __future__ import annotations

import json
import os
import pathlib
import resource

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.model import (
    Device,
    Hook,
    IdMap,
    ImageConfig,
    Namespaces,
    Rlimit,
    Security,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.names import CAPABILITIES

pytestmark = pytest.mark.host

STATUS = "cat /proc/self/status"

MAPS = {
    "uid_maps": (IdMap(container_id=0, host_id=200000, size=65536),),
    "gid_maps": (IdMap(container_id=0, host_id=300000, size=65536),),
    "namespaces": Namespaces(user="private"),
}


def capabilities(mask: str) -> set[str]:
    return {name for bit, name in enumerate(CAPABILITIES) if int(mask, 16) >> bit & 1}


class TestProcess:
    def test_run_gives_the_defaults(self, box):
        answer = box.run("id; hostname; pwd; env; ls /proc/self/fd")
        assert answer.rc == 0, answer.err
        assert answer.lines[0] == "uid=0(root) gid=0(root)"
        assert answer.config["hostname"] == answer.lines[1]
        assert answer.lines[2] == "/"
        assert f"HOSTNAME={answer.config['hostname']}" in answer.lines
        assert "HOME=/root" in answer.lines
        assert not answer.warnings

    def test_run_merges_image_and_request(self, box):
        image = ImageConfig(
            entrypoint=("/bin/sh", "-c"),
            command=("echo image",),
            env=(("A", "1"), ("B", "2")),
            cwd="/tmp",
            user="web",
        )
        answer = box.run(image=image, command=("id -un; pwd; echo $A$B$C",), env=(("B", "x"), ("C", "y")))
        assert answer.lines == ["web", "/tmp", "1xy"]

    @pytest.mark.parametrize(
        ("asked", "expected"),
        [
            ({"user": "web"}, "uid=1000(web) gid=1000(web) groups=1000(web),2000(extra)"),
            ({"user": "web", "merge_image_groups": False}, "uid=1000(web) gid=1000(web) groups=1000(web)"),
            ({"user": "web:daemon"}, "uid=1000(web) gid=1(daemon) groups=1(daemon)"),
            ({"user": "4711:4712"}, "uid=4711 gid=4712 groups=4712"),
            (
                {"user": "web", "supplementary_groups": ("daemon", "77")},
                "uid=1000(web) gid=1000(web) groups=1(daemon),77,1000(web),2000(extra)",
            ),
        ],
    )
    def test_run_as_user(self, box, asked, expected):
        answer = box.run("id", **asked)
        uid, gid, *groups = answer.out.split()
        wanted_uid, wanted_gid, wanted_groups = expected.split()
        assert (uid, gid) == (wanted_uid, wanted_gid)
        got = set(groups[0].removeprefix("groups=").split(",")) if groups else {gid.removeprefix("gid=")}
        assert got | {gid.removeprefix("gid=")} == set(wanted_groups.removeprefix("groups=").split(","))

    def test_run_as_unknown_number_has_a_home(self, box):
        assert box.run("echo $HOME", user="4711").out == "/\n"

    def test_run_sets_rlimits(self, box):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        limits = (
            Rlimit(kind="RLIMIT_NOFILE", soft=100, hard=200),
            Rlimit(kind="RLIMIT_CORE", soft=0, hard=-1),
        )
        answer = box.run("cat /proc/self/limits", rlimits=limits)
        rows = {line[:25].strip(): line[25:].split() for line in answer.lines}
        assert rows["Max open files"][:2] == ["100", "200"]
        assert rows["Max core file size"][:2] == ["0", "unlimited"]
        assert hard >= 200

    def test_run_clamps_what_the_host_refuses(self, box):
        if box.host.has_capability("CAP_SYS_RESOURCE"):
            pytest.skip("this host has CAP_SYS_RESOURCE, so nothing is refused")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        answer = box.run(
            "cat /proc/self/limits /proc/self/oom_score_adj",
            rlimits=(Rlimit(kind="RLIMIT_NOFILE", soft=hard + 1, hard=hard + 2),),
            oom_score_adj=-900,
        )
        rows = {line[:25].strip(): line[25:].split() for line in answer.lines}
        assert rows["Max open files"][:2] == [str(hard), str(hard)]
        assert answer.lines[-1] == str(box.host.oom_score_adj)
        assert len(answer.warnings) == 2
        assert soft <= hard

    def test_run_sets_oom_score(self, box):
        assert box.run("cat /proc/self/oom_score_adj", oom_score_adj=321).out == "321\n"

    def test_run_with_terminal_is_built_for_a_console(self, box):
        _name, _path, config, _warnings = box.bundle("true", terminal=True)
        assert config["process"]["terminal"] is True
        assert "TERM=xterm" in config["process"]["env"]


class TestSecurity:
    def test_capabilities_of_root(self, box):
        security = Security(capabilities_add=("NET_ADMIN",), capabilities_drop=("cap_chown",))
        answer = box.run(STATUS, security=security)
        bounding = capabilities(answer.field("CapBnd"))
        assert "CAP_NET_ADMIN" in bounding
        assert "CAP_CHOWN" not in bounding
        assert bounding == capabilities(answer.field("CapEff")) == capabilities(answer.field("CapPrm"))
        assert capabilities(answer.field("CapInh")) == set()

    def test_capabilities_of_a_user_are_those_added(self, box):
        answer = box.run(STATUS, user="web", security=Security(capabilities_add=("NET_BIND_SERVICE",)))
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert capabilities(answer.field(name)) == {"CAP_NET_BIND_SERVICE"}
        assert "CAP_CHOWN" in capabilities(answer.field("CapBnd"))

    def test_user_without_added_capabilities_has_none(self, box):
        answer = box.run(STATUS, user="web")
        assert capabilities(answer.field("CapEff")) == set()

    def test_drop_all_leaves_nothing(self, box):
        answer = box.run(STATUS, security=Security(capabilities_drop=("ALL",)))
        assert capabilities(answer.field("CapBnd")) == set()

    def test_privileged_has_what_the_host_has(self, box):
        answer = box.run(f"{STATUS}; ls /dev; cat /proc/self/mounts", security=Security(privileged=True))
        assert answer.rc == 0, answer.err
        own = capabilities(pathlib.Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0])
        assert capabilities(answer.field("CapEff")) == own
        assert answer.field("Seccomp") == "0"
        assert any(
            line.split()[1:3] == ["/sys", "sysfs"] and " rw" in line
            for line in answer.lines
            if "/sys" in line
        )
        assert "/proc/kcore" not in answer.out
        for node in box.host.devices:
            assert node.path

    @pytest.mark.parametrize(("security", "mode"), [(Security(), "2"), (Security(seccomp="unconfined"), "0")])
    def test_seccomp_mode(self, box, security, mode):
        assert box.run(STATUS, security=security).field("Seccomp") == mode

    @pytest.mark.parametrize(
        "profile",
        [
            '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":'
            ' [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]}',
            '{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [], "syscalls": [{"names": ["mkdir", "mkdirat"],'
            ' "action": "SCMP_ACT_ERRNO", "errno": "EACCES", "args": null, "includes": {}, "excludes": {}}]}',
        ],
    )
    def test_seccomp_profile_of_either_shape(self, box, profile):
        path = box.top / "profile.json"
        path.write_text(profile)
        answer = box.run("mkdir /tmp/forbidden; echo rc $?", security=Security(seccomp=str(path)))
        assert "Permission denied" in answer.err
        assert answer.out == "rc 1\n"

    def test_seccomp_default_depends_on_capabilities(self, box):
        script = "unshare -m true; echo $?"
        assert box.run(script).lines[-1] != "0"
        allowed = box.run(script, security=Security(capabilities_add=("SYS_ADMIN",)))
        assert allowed.lines[-1] == "0", allowed.err

    @pytest.mark.parametrize(("wanted", "shown"), [(True, "1"), (False, "0")])
    def test_no_new_privileges(self, box, wanted, shown):
        assert box.run(STATUS, security=Security(no_new_privileges=wanted)).field("NoNewPrivs") == shown

    def test_masked_and_read_only_paths(self, box):
        answer = box.run(
            "cat /proc/kcore | head -c 8 | wc -c; cat /proc/timer_list | wc -c; "
            "echo 1 > /proc/sys/kernel/panic || echo refused"
        )
        assert answer.lines == ["0", "0", "refused"]

    def test_masked_paths_of_the_request(self, box):
        security = Security(masked_paths=("/etc/passwd",), read_only_paths=("/tmp",))
        answer = box.run("cat /etc/passwd | wc -c; touch /tmp/x || echo refused", security=security)
        assert answer.lines == ["0", "refused"]

    def test_nothing_masked(self, box):
        answer = box.run("cat /proc/timer_list | wc -c", security=Security(masked_paths=()))
        assert int(answer.out) > 0

    def test_read_only_rootfs(self, box):
        answer = box.run(
            "touch /tmp/x || echo refused; touch /dev/shm/y && echo made",
            security=Security(read_only_rootfs=True),
        )
        assert answer.lines == ["refused", "made"]


class TestNamespaces:
    def test_private_by_default(self, box):
        answer = box.run("for n in pid net ipc uts mnt cgroup user; do readlink /proc/self/ns/$n; done")
        mine = [
            str(pathlib.Path(f"/proc/self/ns/{n}").readlink())
            for n in ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user")
        ]
        assert [a != b for a, b in zip(answer.lines, mine, strict=True)] == [True] * 6 + [False]

    @pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
    def test_host_namespace(self, box, kind):
        short = {"network": "net"}.get(kind, kind)
        answer = box.run(f"readlink /proc/self/ns/{short}", namespaces=Namespaces(**{kind: "host"}))
        assert answer.rc == 0, answer.err
        assert answer.out.strip() == str(pathlib.Path(f"/proc/self/ns/{short}").readlink())

    @pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
    def test_joined_namespace(self, box, kind):
        short = {"network": "net"}.get(kind, kind)
        _name, state = box.start()
        path = f"/proc/{state['pid']}/ns/{short}"
        answer = box.run(f"readlink /proc/self/ns/{short}", namespaces=Namespaces(**{kind: path}))
        assert answer.rc == 0, answer.err
        assert answer.out.strip() == str(pathlib.Path(path).readlink())

    def test_user_namespace_maps(self, box):
        answer = box.run("cat /proc/self/uid_map /proc/self/gid_map; id -u; mount | wc -l", **MAPS)
        assert answer.rc == 0, answer.err
        assert [line.split() for line in answer.lines[:2]] == [
            ["0", "200000", "65536"],
            ["0", "300000", "65536"],
        ]
        assert answer.lines[2] == "0"

    @pytest.mark.parametrize("kind", ["pid", "network", "ipc", "uts", "cgroup"])
    def test_user_namespace_beside_one_of_the_host(self, box, kind):
        namespaces = Namespaces(user="private", **{kind: "host"})
        answer = box.run(
            "ls /sys/class/net /proc/1 >/dev/null && id -u", **{**MAPS, "namespaces": namespaces}
        )
        assert answer.rc == 0, answer.err
        assert answer.out == "0\n"

    def test_hostname(self, box):
        assert box.run("hostname", hostname="web-1.example").out == "web-1.example\n"

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("net.ipv4.ip_unprivileged_port_start", "80"),
            ("net/ipv4/ip_forward", "1"),
            ("kernel.shmmax", "65536"),
            ("kernel.msgmax", "4096"),
            ("fs.mqueue.msg_max", "12"),
            ("kernel.domainname", "example.org"),
        ],
    )
    def test_sysctl(self, box, name, value):
        answer = box.run(f"cat /proc/sys/{name.replace('.', '/')}", sysctls=((name, value),))
        assert answer.rc == 0, answer.err
        assert answer.out.strip() == value

    def test_sysctl_in_a_joined_network(self, box):
        _name, state = box.start()
        namespaces = Namespaces(network=f"/proc/{state['pid']}/ns/net")
        answer = box.run(
            "cat /proc/sys/net/ipv4/ip_forward",
            sysctls=(("net.ipv4.ip_forward", "1"),),
            namespaces=namespaces,
        )
        assert (answer.rc, answer.out) == (0, "1\n"), answer.err


class TestDevices:
    def test_own_devices_only(self, box):
        answer = box.run("ls /dev; echo x > /dev/null && head -c 4 /dev/urandom | wc -c")
        assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts", "shm"} <= set(answer.lines)
        assert "kmsg" not in answer.lines
        assert answer.lines[-1] == "4"

    def test_device_of_the_host(self, box):
        device = Device(source="/dev/kmsg", destination="/dev/log-of-host", permissions="r")
        answer = box.run(
            "stat -c %t:%T /dev/log-of-host; echo x > /dev/log-of-host || echo refused", devices=(device,)
        )
        assert answer.lines == ["1:b", "refused"], answer.err

    def test_device_not_listed_cannot_be_made_and_used(self, box):
        security = Security(capabilities_add=("MKNOD",))
        answer = box.run(
            "mknod /tmp/k c 1 11 && head -c 1 /tmp/k || echo refused; rm -f /tmp/k", security=security
        )
        assert answer.lines == ["refused"]

    def test_directory_of_devices(self, box):
        (box.top / "dev").mkdir()
        os.mknod(box.top / "dev/a", 0o600 | 0o020000, os.makedev(1, 3))
        device = Device(source=str(box.top / "dev"), destination="/dev/mine")
        assert box.run("ls /dev/mine", devices=(device,)).out == "a\n"


class TestHooks:
    def test_hooks_run_at_their_stage(self, box):
        record = box.top / "record"
        script = box.top / "hook"
        script.write_text(f'#!/bin/sh\necho "$1 $WHO" >> {record}\n')
        script.chmod(0o755)
        stages = ("createRuntime", "createContainer", "poststart", "poststop", "prestart")
        hooks = tuple(Hook(stage=stage, path=str(script), args=(stage,), env=("WHO=me",)) for stage in stages)
        answer = box.run("true", hooks=hooks)
        assert answer.rc == 0, answer.err
        assert set(record.read_text().splitlines()) == {f"{stage} me" for stage in stages}

    def test_hook_gets_the_state(self, box):
        record = box.top / "record"
        script = f"cat > {record}; echo >> {record}; echo $0 $1 '$x' >> {record}"
        hook = Hook(stage="createRuntime", path="/bin/sh", args=("-c", script, "a", "b c"))
        answer = box.run("true", hooks=(hook,))
        assert answer.rc == 0, answer.err
        state, words = record.read_text().strip().rsplit("\n", 1)
        assert json.loads(state)["bundle"] == str(box.top / box.names[-1])
        assert words == "a b c $x"

    def test_hook_that_reads_nothing_does_not_fail(self, box):
        hook = Hook(stage="createRuntime", path="/bin/true")
        for _unused in range(20):
            answer = box.run("true", hooks=(hook,))
            assert answer.rc == 0, answer.err

    def test_hook_that_takes_too_long_is_killed(self, box):
        record = box.top / "pid"
        hook = Hook(
            stage="createRuntime",
            path="/bin/sh",
            args=("-c", f"echo $$ > {record}; exec sleep 60"),
            timeout_s=1,
        )
        answer = box.run("echo started", hooks=(hook,))
        assert answer.rc != 0
        assert "timeout" in answer.err
        assert not pathlib.Path("/proc", record.read_text().strip(), "exe").exists()

    def test_start_container_hook_runs_inside(self, box):
        hook = Hook(stage="startContainer", path="/bin/touch", args=("/dev/shm/was-here",))
        answer = box.run("ls /dev/shm", hooks=(hook,))
        assert answer.out == "was-here\n", answer.err

    def test_failing_hook_stops_the_container(self, box):
        answer = box.run("echo started", hooks=(Hook(stage="createRuntime", path="/bin/false"),))
        assert answer.rc != 0
        assert "started" not in answer.out
