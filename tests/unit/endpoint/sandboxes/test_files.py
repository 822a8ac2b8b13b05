# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The texts of a pod's files, and what CNI plugins are offered."""

from __future__ import annotations

import os
import pathlib
import signal
import struct
import subprocess
import types
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import (
    DirectorySource,
    ImageSource,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_ports import PortMapping
from ansible_collections.pvecri.runtime.plugins.module_utils.oci_spec.host import HostFacts
from pvecri.config.model import Config, ImagesConfig
from pvecri.context import Context
from pvecri.sandboxes import files, namespaces, pause, quantity, teardown
from pvecri.sandboxes.places import Places
from pvecri.sandboxes.pod import Dns, Pod

POD = Pod(key="k", name="web", namespace="prod", uid="u", hostname="web")
HOST = "nameserver 127.0.0.53\nsearch lan\noptions edns0\n"


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
    """Return a function that gives the host its files."""

    def give(resolv: str = HOST, resolved: str | None = None, hosts: str = "127.0.0.1 localhost\n") -> None:
        for name, text in (("resolv", resolv), ("resolved", resolved), ("hosts", hosts)):
            if text is not None:
                (tmp_path / name).write_text(text)
        monkeypatch.setattr(files, "_HOST_RESOLV", str(tmp_path / "resolv"))
        monkeypatch.setattr(files, "_RESOLVED", str(tmp_path / "resolved"))
        monkeypatch.setattr(files, "_HOST_HOSTS", str(tmp_path / "hosts"))

    return give


@pytest.mark.parametrize(
    ("dns", "network", "is_own", "resolved", "text"),
    [
        (
            Dns(servers=("10.0.0.1", "fd::1"), searches=("a", "b"), options=("ndots:5", "edns0")),
            {"nameservers": ["9.9.9.9"]},
            True,
            None,
            "nameserver 10.0.0.1\nnameserver fd::1\nsearch a b\noptions ndots:5 edns0\n",
        ),
        (Dns(options=("ndots:1",)), {}, True, None, "options ndots:1\n"),
        (Dns(), {}, False, None, HOST),
        (
            Dns(),
            {"nameservers": ["9.9.9.9"], "search": ["x"]},
            True,
            None,
            "nameserver 9.9.9.9\nsearch x\noptions edns0\n",
        ),
        (Dns(), {}, True, "nameserver 192.0.2.1\nsearch up\n", "nameserver 192.0.2.1\nsearch up\n"),
        (Dns(), {}, True, None, "search lan\noptions edns0\n"),
    ],
    ids=["asked", "only-options", "host-network", "plugin", "behind-resolved", "nothing-reachable"],
)
def test_resolver_text(
    host: t.Callable[..., None],
    dns: Dns,
    network: dict[str, t.Any],
    is_own: bool,
    resolved: str | None,
    text: str,
) -> None:
    host(resolved=resolved)
    assert files.resolver_text(dns, network, is_own=is_own) == text


def test_write_gives_each_pod_its_own_names(host: t.Callable[..., None], tmp_path: pathlib.Path) -> None:
    host()
    places = Places(Paths(str(tmp_path / "s"), str(tmp_path / "r")), "ab")
    files.prepare(places)
    files.write(POD, places, ("10.0.0.2", "fd::2"), {})
    assert pathlib.Path(places.hosts).read_text().endswith("10.0.0.2\tweb\nfd::2\tweb\n")
    assert pathlib.Path(places.hostname).read_text() == "web\n"
    assert pathlib.Path(places.resolv_conf).stat().st_mode & 0o777 == 0o644
    shared = Pod(key="k", name="web", namespace="prod", uid="u", has_host_network=True)
    files.write(shared, places, (), {})
    assert pathlib.Path(places.hosts).read_text() == "127.0.0.1 localhost\n"
    assert pathlib.Path(places.resolv_conf).read_text() == HOST
    files.remove(places.files)
    files.remove(places.files)


def test_capabilities_hold_only_what_the_pod_has() -> None:
    assert POD.capabilities("") == {}
    full = Pod(
        key="k",
        name="web",
        namespace="prod",
        uid="u",
        ports=(PortMapping(host_port=1, container_port=2),),
        dns=Dns(servers=("10.0.0.1",)),
        bandwidth={"ingressRate": 1},
        annotations={"a": "b"},
    )
    assert full.capabilities("/kubepods/x", ("10.1.0.0/24", "fd::/64")) == {
        "portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "tcp"}],
        "bandwidth": {"ingressRate": 1},
        "ipRanges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd::/64"}]],
        "io.kubernetes.cri.pod-annotations": {"a": "b"},
        "cgroupPath": "/kubepods/x",
        "dns": {"servers": ["10.0.0.1"], "searches": [], "options": []},
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1", 1),
        ("10M", 10_000_000),
        ("1.5k", 1500),
        (".5k", 500),
        ("1Gi", 1 << 30),
        ("2e6", 2_000_000),
        ("3E", 3 * 10**18),
        ("1E3", 1000),
        ("1500m", 2),
        ("+7", 7),
        ("1u", 1),
        ("0", 0),
        (" 5Ki ", 5120),
    ],
)
def test_parse_quantity(text: str, number: int) -> None:
    assert quantity.parse_quantity(text, "x") == number


@pytest.mark.parametrize("text", ["", "M", "1.2.3", "1e", "1KB", "1ki", "-1", "0x10", "1 M", "١"])
def test_parse_quantity_refuses(text: str) -> None:
    with pytest.raises(InvalidSpec):
        quantity.parse_quantity(text, "x")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("net.ipv4.conf.eth0.forwarding", True),
        ("net.ipv6.neigh.eth0/1.gc_stale_time", True),
        ("net.ipv4.conf.all.forwarding", False),
        ("net.ipv4.conf.lo.forwarding", False),
        ("net.ipv4.ip_forward", False),
        ("kernel.shmmax", False),
    ],
)
def test_sysctls_of_an_interface_wait_for_it(name: str, wanted: bool) -> None:
    assert namespaces._needs_interface(name) is wanted


@pytest.mark.parametrize(("machine", "number"), [("x86_64", 62), ("aarch64", 183)])
def test_pause_program_is_a_whole_elf_file(machine: str, number: int) -> None:
    data = pause.program(machine)
    assert data is not None
    head = struct.unpack_from("<16sHHIQQQIHHHHHH", data)
    assert head[0].startswith(b"\x7fELF\x02\x01\x01")
    assert (head[2], head[5], head[8], head[10]) == (number, 64, 64, 1)
    _kind, flags, offset, address, _physical, size, memory, _align = struct.unpack_from("<IIQQQQQQ", data, 64)
    assert (flags, offset, size, memory) == (5, 0, len(data), len(data))
    assert head[4] == address + 120
    # The sigactions follow the code, and the code points at them; one points back at the code's end.
    ignore, end = struct.iter_unpack("<4Q", data[-64:])
    assert ignore == (1, 0, 0, 0)
    assert end[1:] == (0x04000000, end[0], 0)
    code = data[120:-64]
    place = end[0] - head[4]
    if machine == "x86_64":
        first = code.index(bytes.fromhex("488d35"))
        second = code.index(bytes.fromhex("488d35"), first + 1)
        targets = [at + 7 + int.from_bytes(code[at + 3 : at + 7], "little") for at in (first, second)]
        assert code[place:].startswith(bytes.fromhex("b83c000000"))
    else:
        targets = [at + (int.from_bytes(code[at : at + 4], "little") >> 5 & 0x7FFFF) * 4 for at in (8, 28)]
        assert code[place:].startswith((0x52800BA8).to_bytes(4, "little"))
    assert targets == [len(code), len(code) + 32]


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the program is one for x86-64")
def test_pause_program_ends_on_sigterm(tmp_path: pathlib.Path) -> None:
    data = pause.program("x86_64")
    assert data is not None
    program = tmp_path / "pause"
    program.write_bytes(data)
    program.chmod(0o755)
    child = subprocess.Popen([program])
    status = pathlib.Path(f"/proc/{child.pid}/status")
    # Both signals are taken care of before it sleeps.
    while "SigCgt:\t0000000000004000\n" not in status.read_text():
        assert child.poll() is None
    # What whoever started the tests ignores is ignored as well.
    (ignored,) = (line for line in status.read_text().splitlines() if line.startswith("SigIgn:"))
    assert int(ignored.split()[1], 16) & 1 << (signal.SIGCHLD - 1)
    child.terminate()
    assert child.wait() == 0


def test_pause_process_of_another_machine_is_the_configured_image() -> None:
    assert pause.program("riscv64") is None
    images = ImagesConfig(pause_image="registry.test/pause:1", authfile="/a", registries_conf="/r")
    context = types.SimpleNamespace(
        host=HostFacts(machine="riscv64"), config=Config(images=images), paths=Paths()
    )
    assert pause._source(t.cast(Context, context)) == ImageSource(
        reference="registry.test/pause:1", authfile="/a", registries_conf="/r"
    )


def test_pause_program_is_written_once_and_mended(tmp_path: pathlib.Path) -> None:
    context = t.cast(
        Context,
        types.SimpleNamespace(
            host=HostFacts(machine="x86_64"), config=Config(), paths=Paths(str(tmp_path), str(tmp_path))
        ),
    )
    program = tmp_path / "pause" / "pause"
    for _time in range(2):
        assert pause._source(context) == DirectorySource(path=str(tmp_path / "pause"))
        assert program.read_bytes() == pause.program("x86_64")
        assert program.stat().st_mode & 0o777 == 0o755
    inode = program.stat().st_ino
    pause._source(context)
    assert program.stat().st_ino == inode
    program.write_bytes(b"old")
    pause._source(context)
    assert program.read_bytes() == pause.program("x86_64")


def test_steps_go_on_past_errors_and_tell_all() -> None:
    steps = teardown.Steps("ab")
    done: list[int] = []

    def fail(text: str) -> None:
        raise OSError(text)

    assert not steps.take("one", lambda: fail("first"))
    assert steps.take("two", lambda: done.append(2))
    assert not steps.take("three", lambda: fail("second"))
    assert done == [2]
    with pytest.raises(teardown.TeardownError, match="one: first; three: second") as caught:
        steps.finish()
    assert [step for step, _exc in caught.value.failures] == ["one", "three"]
    assert not steps.take("four", lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        steps.finish()
