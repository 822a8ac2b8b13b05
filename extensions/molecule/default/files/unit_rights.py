# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""See on a host that the unit takes nothing from containers, and that its watchdog works.

A hardening option of the unit that containers inherit makes one of these fail, and so does one that gives the
daemon mounts of its own.  The programs are machine code of x86-64 in files of some hundred bytes, each of
which ends with the result of one system call.  Prints what failed, one line each.  With the argument
``rights`` the daemon is left alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import typing as t

sys.path.insert(0, os.path.realpath("/usr/lib/pvecri/current"))

from ansible_collections.pvecri.runtime.plugins.module_utils.elf import static_program
from pvecri.api import cri_pb2 as pb
from pvecri.client.client import Client
from pvecri.probe.image import program as probe_program

SOCKET = "/run/pvecri/pvecri.sock"
PVECRI, SYSTEMCTL = "/usr/local/sbin/pvecri", "/usr/bin/systemctl"
IMAGE = "localhost/unit-rights:1"
DROP_IN = pathlib.Path("/run/systemd/system/pvecri.service.d/90-test.conf")
_WATCHDOG_S = 6

_END = "89c7f7dfb8e70000000f05"  # mov edi, eax; neg edi; mov eax, 231 (exit_group); syscall
_PROGRAMS = {
    # geteuid(): 0 where the setuid bit counts
    "setuid": "b86b0000000f05" + _END,
    # exit(42) by the system calls of 32 bits: mov eax, 1; mov ebx, 42; int 0x80
    "i386": "b801000000bb2a000000cd80",
    # ptrace(PTRACE_TRACEME)
    "ptrace": "b86500000031ff0f05" + _END,
    # personality(PER_LINUX32): the former one
    "personality": "b887000000bf080000000f05" + _END,
    # mmap() of memory that can be written and executed, as compilers at run time want it
    "mmap": "31ffbe00100000ba0700000041ba2200000049c7c0ffffffff4531c9b8090000000f0548c1e83f" + _END,
    # mount("tmpfs", "/m", "tmpfs", 0, 0)
    "mount": "488d3d22000000488d35210000004889fa4531d24531c0b8a50000000f05" + _END + b"tmpfs\0/m\0".hex(),
}


def image_archive(path: str) -> None:
    """Write a docker-archive with the programs, one of them setuid."""
    files = {name: static_program("x86_64", bytes.fromhex(code)) for name, code in _PROGRAMS.items()}
    files["pause"] = probe_program("x86_64")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o4755 if name == "setuid" else 0o755
            tar.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo("m")
        member.type, member.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(member)
    diff_id = f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"
    config = {
        "os": "linux",
        "architecture": "amd64",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("manifest.json", json.dumps(manifest).encode()),
            ("config.json", json.dumps(config).encode()),
            ("layer.tar", layer.getvalue()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


class Trial:
    """A privileged pod in the host's network, for containers that try something."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._config = pb.PodSandboxConfig(
            metadata=pb.PodSandboxMetadata(name="unit-rights", namespace="default", uid="unit-rights"),
            linux=pb.LinuxPodSandboxConfig(
                security_context=pb.LinuxSandboxSecurityContext(
                    privileged=True, namespace_options=pb.NamespaceOption(pid=pb.CONTAINER, network=pb.NODE)
                )
            ),
        )
        self.id = client.call(pb.RunPodSandboxRequest(config=self._config)).pod_sandbox_id

    def start(
        self, name: str, *, privileged: bool = False, user: int = 0, mounts: t.Sequence[t.Any] = ()
    ) -> str:
        """Start a program of the image and return the container's id."""
        context = pb.LinuxContainerSecurityContext(
            privileged=privileged,
            run_as_user=pb.Int64Value(value=user),
            namespace_options=pb.NamespaceOption(pid=pb.CONTAINER, network=pb.NODE),
        )
        config = pb.ContainerConfig(
            metadata=pb.ContainerMetadata(name=f"{name}-{privileged}"),
            image=pb.ImageSpec(image=IMAGE),
            command=[f"/{name}"],
            linux=pb.LinuxContainerConfig(security_context=context),
            mounts=mounts,
        )
        asked = pb.CreateContainerRequest(pod_sandbox_id=self.id, config=config, sandbox_config=self._config)
        container_id = self.client.call(asked).container_id
        self.client.call(pb.StartContainerRequest(container_id=container_id))
        return str(container_id)

    def result(self, name: str, **options: t.Any) -> int:
        """Run a program of the image to its end and return its exit code."""
        container_id = self.start(name, **options)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            status = self.client.call(pb.ContainerStatusRequest(container_id=container_id)).status
            if status.state == pb.CONTAINER_EXITED:
                return int(status.exit_code)
            time.sleep(0.02)
        return -1

    def process(self, container_id: str) -> int:
        """Return the process of a container."""
        answer = self.client.call(pb.ContainerStatusRequest(container_id=container_id, verbose=True))
        return int(json.loads(answer.info["info"])["pid"])

    def remove(self) -> None:
        """Take all of it away."""
        self.client.call(pb.StopPodSandboxRequest(pod_sandbox_id=self.id))
        self.client.call(pb.RemovePodSandboxRequest(pod_sandbox_id=self.id))


def status_of(pid: int | str) -> dict[str, str]:
    """Return the fields of a process's status."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return {key: value.strip() for key, _unused, value in (line.partition(":") for line in lines)}


def unit(name: str) -> str:
    """Return a property of the unit."""
    argv = [SYSTEMCTL, "show", "--property", name, "--value", "pvecri.service"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()


def look_at_rights(trial: Trial) -> t.Iterator[str]:
    """Yield what containers cannot do that they could without the unit."""
    for name, expected, options in (
        ("setuid", 0, {"user": 1000}),
        ("i386", 42, {}),
        ("ptrace", 0, {}),
        ("mmap", 0, {}),
        ("personality", 0, {"privileged": True}),
    ):
        code = trial.result(name, **options)
        if code != expected:
            yield f"{name}: ended with {code}, not {expected}"
    with tempfile.TemporaryDirectory(dir="/run") as place:
        shared = pb.Mount(container_path="/m", host_path=place, propagation=pb.PROPAGATION_BIDIRECTIONAL)
        code = trial.result("mount", privileged=True, mounts=[shared])
        if code or not os.path.ismount(place):
            yield f"mount: ended with {code}, the host sees it: {os.path.ismount(place)}"
        with contextlib.suppress(FileNotFoundError):
            subprocess.run(["/usr/bin/umount", "--quiet", place], check=False)
    host, own = status_of(1), status_of(trial.process(trial.start("pause", privileged=True)))
    for key, expected in (
        ("CapEff", host["CapEff"]),
        ("CapBnd", host["CapBnd"]),
        ("NoNewPrivs", host["NoNewPrivs"]),
        ("Seccomp_filters", host["Seccomp_filters"]),
    ):
        if own[key] != expected:
            yield f"{key} of a privileged container is {own[key]}, not {expected}"
    pid = unit("MainPID")
    for kind in ("mnt", "net", "user", "pid", "ipc", "uts", "cgroup"):
        if os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/1/ns/{kind}"):
            yield f"the daemon has a namespace of its own: {kind}"
    if unit("OOMScoreAdjust") != "-999":
        yield f"OOMScoreAdjust is {unit('OOMScoreAdjust')}"


def probe(*options: str) -> t.Any:
    """Return what a probe says."""
    done = subprocess.run([PVECRI, "probe", "--json", *options], capture_output=True, text=True, check=False)
    return json.loads(done.stdout)


def look_at_life(expected: str) -> t.Iterator[str]:
    """Yield what goes wrong while the daemon is stopped, killed, and stands still."""
    DROP_IN.parent.mkdir(parents=True, exist_ok=True)
    DROP_IN.write_text(f"[Service]\nWatchdogSec={_WATCHDOG_S}\n", encoding="ascii")
    systemctl = [SYSTEMCTL, "--quiet"]
    subprocess.run([*systemctl, "daemon-reload"], check=True)
    try:
        for what, act in (
            ("restart", lambda _pid: subprocess.run([*systemctl, "restart", "pvecri"], check=True)),
            ("kill", lambda pid: os.kill(pid, signal.SIGKILL)),
            ("standstill", lambda pid: os.kill(pid, signal.SIGSTOP)),
        ):
            before = unit("MainPID")
            act(int(before))
            deadline = time.monotonic() + 120
            while unit("MainPID") in {before, "0"} or unit("ActiveState") != "active":
                if time.monotonic() > deadline:
                    yield f"{what}: the daemon was not started again: {unit('ActiveState')}, {unit('Result')}"
                    os.kill(int(before), signal.SIGCONT)
                    return
                time.sleep(0.1)
            for problem in probe("--wait", "120", "--expect", expected)["problems"]:
                yield f"{what}: {problem}"
        # Well beyond the watchdog's time: a daemon that works is left alone.
        before = unit("MainPID")
        time.sleep(1.5 * _WATCHDOG_S)
        if unit("MainPID") != before:
            yield "the watchdog ended a daemon that worked"
    finally:
        DROP_IN.unlink()
        with contextlib.suppress(OSError):
            DROP_IN.parent.rmdir()
        subprocess.run([*systemctl, "daemon-reload"], check=True)
        subprocess.run([*systemctl, "restart", "pvecri"], check=True)


def main() -> int:
    """Try it all, print what failed, and leave nothing."""
    problems = []
    with tempfile.TemporaryDirectory() as place:
        archive = os.path.join(place, "image.tar")
        image_archive(archive)
        subprocess.run([PVECRI, "images", "load", archive], check=True, stdout=subprocess.DEVNULL)
        with Client(SOCKET) as client:
            trial = Trial(client)
            try:
                problems += look_at_rights(trial)
                expected = os.path.join(place, "before.json")
                before = probe()
                if len(before["running"]) != 1:
                    problems.append(f"one container was to run: {before['running']}")
                pathlib.Path(expected).write_text(json.dumps(before), encoding="utf-8")
                if sys.argv[1:] != ["rights"]:
                    problems += look_at_life(expected)
                    probe("--wait", "120")
            finally:
                trial.remove()
                client.call(pb.RemoveImageRequest(image=pb.ImageSpec(image=IMAGE)))
    print("\n".join(problems), end="\n" if problems else "")
    return 1 if problems else 0


sys.exit(main())
