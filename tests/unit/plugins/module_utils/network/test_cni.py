# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CNI's verbs with plugins on paper: order, requests, errors, and what stays on record."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.command import Completed
from ansible_collections.pvecri.runtime.plugins.module_utils.crun import procfs
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import (
    CommandError,
    CommandTimeout,
    CoreError,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
    WrongState,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.files import locked
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Owner, Paths
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni import Cni, parse_result
from ansible_collections.pvecri.runtime.plugins.module_utils.network.cni_config import (
    NetworkConfig,
    parse_config,
)

RESULT = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}]}


class Plugins:
    """Answer like plugins; ``failing`` by "VERB type" is (exit code, output, error output)."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.requests: list[dict[str, t.Any]] = []
        self.environments: list[dict[str, str]] = []
        self.failing: dict[str, t.Any] = {}

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Completed:
        call = f"{options['env']['CNI_COMMAND']} {os.path.basename(argv[0])}"
        self.calls.append(call)
        self.requests.append(json.loads(options["stdin"]))
        self.environments.append(options["env"])
        failure = self.failing.get(call)
        if isinstance(failure, BaseException):
            raise failure
        if failure is not None:
            rc, out, err = failure
            return Completed(list(argv), rc, out, err)
        is_add = options["env"]["CNI_COMMAND"] == "ADD"
        return Completed(list(argv), 0, json.dumps({**RESULT, "by": call}) if is_add else "", "")


@pytest.fixture
def plugins() -> Plugins:
    """Plugins that remember."""
    return Plugins()


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> Paths:
    """Directories below the test's own."""
    return Paths(str(tmp_path / "state"), str(tmp_path / "run"))


@pytest.fixture
def cni(paths: Paths, plugins: Plugins, tmp_path: pathlib.Path) -> Cni:
    """CNI with two plugins installed."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("first", "second"):
        (directory / name).write_text("")
        (directory / name).chmod(0o755)
    (directory / "plain").write_text("")
    conf = tmp_path / "conf"
    conf.mkdir()
    (conf / "10-net.conflist").write_text(json.dumps(network().plain()))
    return Cni(paths, plugins, plugin_dirs=[str(directory)], conf_dir=str(conf))


def network(**changes: t.Any) -> NetworkConfig:
    entries = [{"type": "first"}, {"type": "second", "capabilities": {"portMappings": True}}]
    return parse_config({"cniVersion": "1.0.0", "name": "net", "plugins": entries, **changes}, "test")


def test_add_chains_results(cni: Cni, plugins: Plugins, tmp_path: pathlib.Path) -> None:
    result = cni.add("one", "/ns", network(), interface="net0", args={"A": "1", "B": "2"})
    assert plugins.calls == ["ADD first", "ADD second"]
    assert "prevResult" not in plugins.requests[0]
    assert plugins.requests[1]["prevResult"]["by"] == "ADD first"
    assert result.raw["by"] == "ADD second"
    assert plugins.environments[0] == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": cni.cached("one", "net0").cni_id,
        "CNI_NETNS": "/ns",
        "CNI_IFNAME": "net0",
        "CNI_PATH": str(tmp_path / "bin"),
        "CNI_ARGS": "A=1;B=2",
    }
    assert cni.result("one", "net0") == result
    assert cni.result("one") is None


def test_plugins_know_containers_of_one_name_apart(
    plugins: Plugins, cni: Cni, tmp_path: pathlib.Path
) -> None:
    # A plugin's state is one for the host: with equal ids the second would be refused its
    # address, and undoing that would free the first one's.
    for paths in (
        Paths(str(tmp_path / "a")),
        Paths(str(tmp_path / "b")),
        Paths(str(tmp_path / "a"), owner=Owner.CRI),
        Paths(str(tmp_path / "a")),
    ):
        Cni(paths, plugins, plugin_dirs=[str(tmp_path / "bin")]).add("one", "/ns", network())
        Cni(paths, plugins, plugin_dirs=[str(tmp_path / "bin")]).delete("one")
    ids = [environment["CNI_CONTAINERID"] for environment in plugins.environments]
    assert [len(set(ids[first : first + 4])) for first in (0, 4, 8, 12)] == [1, 1, 1, 1]
    assert len(set(ids)) == 3
    assert ids[0] == ids[12]
    assert all(entry.startswith("one-") for entry in ids)


@pytest.mark.parametrize("name", [None, "net"])
def test_add_finds_the_network(cni: Cni, plugins: Plugins, name: str | None) -> None:
    cni.add("one", "/ns", name)
    assert plugins.requests[0]["name"] == "net"
    with pytest.raises(NotFound):
        cni.add("two", "/ns", "other")


def test_add_again_does_nothing(cni: Cni, plugins: Plugins) -> None:
    result = cni.add("one", "/ns", network())
    assert cni.add("one", "/ns", network()) == result
    assert len(plugins.calls) == 2


@pytest.mark.parametrize(("netns", "config"), [("/other", network()), ("/ns", network(name="net2"))])
def test_add_elsewhere_detaches_first(cni: Cni, plugins: Plugins, netns: str, config: NetworkConfig) -> None:
    cni.add("one", "/ns", network())
    cni.add("one", netns, config)
    assert plugins.calls[2:4] == ["DEL second", "DEL first"]
    assert [a.netns for a in cni.attachments()] == [netns]


def test_delete_runs_all_in_reverse_without_the_namespace(
    cni: Cni, plugins: Plugins, tmp_path: pathlib.Path
) -> None:
    netns = tmp_path / "ns"
    netns.symlink_to("/proc/self/ns/net")
    cni.add("one", str(netns), network())
    plugins.failing["DEL second"] = (1, "", "broken")
    with pytest.raises(CommandError, match="'second' of network 'net' failed in DEL: broken"):
        cni.delete("one")
    assert plugins.calls[2:] == ["DEL second", "DEL first"]
    assert plugins.environments[-1]["CNI_NETNS"] == str(netns)
    assert plugins.requests[-1]["prevResult"]["by"] == "ADD second"
    assert len(cni.attachments()) == 1, "to be tried again"
    plugins.failing.clear()
    netns.unlink()
    assert cni.delete("one") is True
    assert plugins.environments[-1]["CNI_NETNS"] == ""
    assert cni.attachments() == []


def test_delete_without_a_namespace_that_was_never_pinned(
    cni: Cni, plugins: Plugins, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "ns"
    cni.add("one", str(file), network())
    # What is left when the maker is killed between the file and the mount on it.
    file.touch()
    cni.delete("one")
    assert plugins.environments[-1]["CNI_NETNS"] == ""


def _left_over(cni_id: str, verb: str) -> subprocess.Popen[bytes]:
    """Start a plugin's helper, as a killed process leaves it behind."""
    environment = {"CNI_CONTAINERID": cni_id, "CNI_COMMAND": verb, "PATH": "/usr/bin:/bin"}
    child = subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo; wait"],
        env=environment,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"\n"
    return child


def test_delete_ends_the_plugins_of_an_add_that_was_cut_short(cni: Cni, plugins: Plugins) -> None:
    plugins.failing = {"ADD second": KeyboardInterrupt(), "DEL first": CommandError("not now")}
    with pytest.raises(KeyboardInterrupt):
        cni.add("one", "/ns", network())
    attachment = cni.cached("one")
    assert attachment is not None
    at_work, another = _left_over(attachment.cni_id, "ADD"), _left_over("two", "ADD")
    try:
        plugins.failing = {}
        assert cni.delete("one")
        assert at_work.wait(20) == -signal.SIGKILL
        assert procfs.with_environment(f"CNI_CONTAINERID={attachment.cni_id}") == []
        assert another.poll() is None
    finally:
        for child in (at_work, another):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.communicate()


def test_delete_clears_what_a_kill_left_of_a_record(cni: Cni, paths: Paths) -> None:
    directory = os.path.join(paths.state_dir, "cni", paths.owner.value)
    os.makedirs(directory)
    for name in (".web@eth0.json.abcdefgh", ".other@eth0.json.abcdefgh"):
        with open(os.path.join(directory, name), "w", encoding="ascii"):
            pass
    assert not cni.delete("web")
    assert os.listdir(directory) == [".other@eth0.json.abcdefgh"]


def test_delete_of_an_old_version_has_no_previous_result(cni: Cni, plugins: Plugins) -> None:
    cni.add("one", "/ns", network(cniVersion="0.3.1"))
    cni.delete("one")
    assert "prevResult" not in plugins.requests[-1]
    assert "prevResult" in plugins.requests[1], "within an ADD it is handed on"


@pytest.mark.parametrize(
    ("answer", "kind", "part"),
    [
        ((1, '{"code": 1, "msg": "version"}', ""), Unsupported, "version"),
        ((1, '{"code": 2, "msg": "field"}', ""), Unsupported, "field"),
        ((1, '{"code": 3, "msg": "who"}', ""), NotFound, "who"),
        ((1, '{"code": 7, "msg": "config", "details": "more"}', ""), InvalidSpec, r"config \(more\)"),
        ((1, '{"code": 11, "msg": "busy"}', ""), CommandError, "Try again"),
        ((1, '{"code": 100, "msg": "own"}', ""), CommandError, "own"),
        ((2, "text", ""), CommandError, "text"),
        ((2, "[1]", "err"), CommandError, "err"),
        ((2, "", ""), CommandError, "no message"),
        ((0, "", ""), CommandError, "without a result"),
        ((0, "[]", ""), CommandError, "without a result"),
        (CommandTimeout("late", argv=["second"]), CommandTimeout, "did not finish ADD"),
    ],
)
def test_add_that_fails_is_undone(
    cni: Cni, plugins: Plugins, answer: t.Any, kind: type[CoreError], part: str
) -> None:
    plugins.failing["ADD second"] = answer
    with pytest.raises(kind, match=part) as caught:
        cni.add("one", "/ns", network())
    assert "'second' of network 'net'" in str(caught.value)
    assert plugins.calls == ["ADD first", "ADD second", "DEL second", "DEL first"]
    assert cni.attachments() == []


def test_add_whose_undoing_fails_stays_on_record(cni: Cni, plugins: Plugins) -> None:
    plugins.failing = {"ADD second": (1, "", "add"), "DEL first": (1, "", "del")}
    with pytest.raises(CommandError, match="failed in ADD: add"):
        cni.add("one", "/ns", network())
    assert [(a.container_id, a.result) for a in cni.attachments()] == [("one", None)]
    assert cni.result("one") is None
    with pytest.raises(WrongState, match="never completely"):
        cni.check("one")
    plugins.failing.clear()
    cni.add("one", "/ns", network())
    assert plugins.calls[-4:] == ["DEL second", "DEL first", "ADD first", "ADD second"]


def test_delete_after_the_configuration_was_mended(
    cni: Cni, plugins: Plugins, tmp_path: pathlib.Path
) -> None:
    # A mistake that ADD was refused for is one in DEL, too: the pod would stay for ever.
    plugins.failing = {
        "ADD first": (1, '{"code": 999, "msg": "invalid CIDR address"}', ""),
        "DEL first": (1, '{"code": 999, "msg": "invalid CIDR address"}', ""),
    }
    with pytest.raises(CommandError, match="in ADD: invalid CIDR"):
        cni.add("one", "/ns", "net")
    with pytest.raises(CommandError, match="in DEL: invalid CIDR"):
        cni.delete("one")
    mended = network(plugins=[{"type": "second", "subnet": "10.0.0.0/24"}])
    (tmp_path / "conf" / "10-net.conflist").write_text(json.dumps(mended.plain()))
    assert cni.delete("one") is True
    assert plugins.requests[-1]["subnet"] == "10.0.0.0/24"
    assert cni.cached("one") is None


def test_delete_of_what_was_attached_knows_one_configuration(
    cni: Cni, plugins: Plugins, tmp_path: pathlib.Path
) -> None:
    cni.add("one", "/ns", "net")
    plugins.failing = {"DEL first": (1, '{"code": 999, "msg": "no"}', "")}
    (tmp_path / "conf" / "10-net.conflist").write_text(
        json.dumps(network(plugins=[{"type": "second"}]).plain())
    )
    with pytest.raises(CommandError, match="in DEL: no"):
        cni.delete("one")
    assert cni.cached("one") is not None


@pytest.mark.parametrize("kind", ["absent", "plain"])
def test_plugin_that_is_not_installed(cni: Cni, plugins: Plugins, kind: str) -> None:
    with pytest.raises(MissingDependency, match="containernetworking-plugins"):
        cni.add("one", "/ns", network(plugins=[{"type": kind}]))
    assert plugins.calls == []


def test_ports_are_given_to_the_plugin_that_wants_them(cni: Cni, plugins: Plugins) -> None:
    port = {"hostPort": 18099, "containerPort": 80, "protocol": "sctp"}
    cni.add("one", "/ns", network(), ports=[port])
    assert "runtimeConfig" not in plugins.requests[0]
    assert plugins.requests[1]["runtimeConfig"] == {"portMappings": [port]}
    [attachment] = cni.attachments()
    assert [mapping.plain() for mapping in attachment.port_mappings] == [port]
    cni.delete("one")
    assert plugins.requests[2]["runtimeConfig"] == {"portMappings": [port]}


@pytest.mark.parametrize(
    ("ports", "kind"),
    [
        ([{"hostPort": 0, "containerPort": 80}], InvalidSpec),
        ([{"hostPort": 18098, "containerPort": 80}] * 2, InvalidSpec),
    ],
)
def test_ports_that_make_no_sense(
    cni: Cni, plugins: Plugins, ports: list[dict[str, t.Any]], kind: type[CoreError]
) -> None:
    with pytest.raises(kind):
        cni.add("one", "/ns", network(), ports=ports)
    assert (plugins.calls, cni.attachments()) == ([], [])


def test_capability_that_no_plugin_has(cni: Cni, plugins: Plugins) -> None:
    with pytest.raises(Unsupported, match="'bandwidth'"):
        cni.add("one", "/ns", network(), capabilities={"bandwidth": {}})
    with pytest.raises(Unsupported, match="'portMappings'"):
        cni.add(
            "one", "/ns", network(plugins=[{"type": "first"}]), ports=[{"hostPort": 1, "containerPort": 1}]
        )
    assert plugins.calls == []


def test_check(cni: Cni, plugins: Plugins) -> None:
    with pytest.raises(NotFound):
        cni.check("one")
    cni.add("one", "/ns", network())
    cni.check("one")
    assert plugins.calls[2:] == ["CHECK first", "CHECK second"]
    assert plugins.requests[2]["prevResult"]["by"] == "ADD second"
    plugins.failing["CHECK first"] = (1, '{"code": 100, "msg": "gone"}', "")
    with pytest.raises(CommandError, match="gone"):
        cni.check("one")


@pytest.mark.parametrize("change", [{"cniVersion": "0.3.1"}, {"disableCheck": True}])
def test_check_where_it_cannot_be(cni: Cni, plugins: Plugins, change: dict[str, t.Any]) -> None:
    cni.add("one", "/ns", network(**change))
    cni.check("one")
    assert len(plugins.calls) == 2


@pytest.mark.parametrize(
    ("container", "interface", "field"),
    [
        ("a/b", "eth0", "container_id"),
        ("", "eth0", "container_id"),
        ("a", "e/0", "interface"),
        ("a", "..", "interface"),
    ],
)
def test_names_that_cannot_be(cni: Cni, container: str, interface: str, field: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        cni.add(container, "/ns", network(), interface=interface)
    assert caught.value.field == field


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"containerId": "one"}'])
def test_record_that_cannot_be_read_is_not_forgotten(cni: Cni, paths: Paths, content: str) -> None:
    cni.add("one", "/ns", network())
    [path] = pathlib.Path(paths.state_dir, "cni", "play").glob("*.json")
    path.write_text(content)
    for call in (lambda: cni.result("one"), lambda: cni.delete("one"), cni.attachments):
        with pytest.raises(WrongState, match="cannot be read"):
            call()
    assert cni.attached() == {"one"}
    # The others go on.
    cni.add("two", "/ns", network(), ports=[{"hostPort": 28180, "containerPort": 80}])


def test_result_that_a_power_cut_took_is_not_needed_to_delete(
    cni: Cni, paths: Paths, plugins: Plugins
) -> None:
    cni.add("one", "/ns", network())
    [path] = pathlib.Path(paths.state_dir, "cni", "play").glob("*.result")
    path.write_text("")
    assert cni.result("one") is None
    assert cni.delete("one") is True
    assert "prevResult" not in plugins.requests[-1]
    assert list(path.parent.iterdir()) == []
    # Nor does an old result count for a new attachment.
    path.write_text("{}")
    plugins.failing["ADD first"] = (1, "", "no")
    with pytest.raises(CommandError):
        cni.add("one", "/ns", network())
    assert list(path.parent.iterdir()) == []


def test_add_calls_ready_between_the_record_and_the_plugins(cni: Cni, plugins: Plugins) -> None:
    def ready() -> None:
        assert cni.attached() == {"one"}
        assert plugins.calls == []

    cni.add("one", "/ns", network(), ready=ready)
    assert plugins.calls == ["ADD first", "ADD second"]


def test_add_without_its_namespace_runs_no_plugin(cni: Cni, plugins: Plugins) -> None:
    def ready() -> None:
        raise WrongState("no namespace")

    with pytest.raises(WrongState, match="no namespace"):
        cni.add("one", "/ns", network(), ready=ready)
    assert (plugins.calls, cni.attached()) == ([], set())


def test_id_of_64_digits_is_told_to_plugins_as_it_is(cni: Cni, plugins: Plugins) -> None:
    cni.add("a" * 64, "/ns", network())
    assert plugins.environments[-1]["CNI_CONTAINERID"] == "a" * 64


def test_record_keeps_secrets_of_nobody_else(cni: Cni, paths: Paths) -> None:
    cni.add("one", "/ns", network())
    [path] = pathlib.Path(paths.state_dir, "cni", "play").glob("*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    (path.parent / ".temporary.json").write_text("{")
    assert len(cni.attachments()) == 1


@pytest.mark.parametrize(
    ("raw", "addresses", "gateways", "mac"),
    [
        ({}, (), (), None),
        ({"ips": None, "dns": None}, (), (), None),
        (
            {
                "ips": [
                    {"version": "4", "address": "10.0.0.2/16", "gateway": "10.0.0.1"},
                    {"address": "fd::2/64"},
                ],
                "interfaces": [{"name": "br", "mac": "aa"}, {"name": "eth0", "mac": "bb", "sandbox": "/ns"}],
            },
            ("10.0.0.2", "fd::2"),
            ("10.0.0.1",),
            "bb",
        ),
    ],
)
def test_parse_result(
    raw: dict[str, t.Any], addresses: tuple[str, ...], gateways: tuple[str, ...], mac: str | None
) -> None:
    result = parse_result(raw)
    assert (result.addresses, result.gateways, result.mac, result.dns) == (addresses, gateways, mac, {})


def test_plugins_that_share_chains_run_one_at_a_time(
    cni: Cni, plugins: Plugins, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin" / "firewall").write_text("")
    (tmp_path / "bin" / "firewall").chmod(0o755)
    running: list[str] = []
    most: dict[str, int] = {}
    both = threading.Barrier(2)
    real = plugins.run

    def run(argv: t.Sequence[str], **options: t.Any) -> Completed:
        kind = os.path.basename(argv[0])
        running.append(kind)
        if kind == "first":
            # Two of these are there at once, or the barrier breaks.
            both.wait(30)
        most[kind] = max(most.get(kind, 0), running.count(kind))
        time.sleep(0.05)
        running.remove(kind)
        return real(argv, **options)

    monkeypatch.setattr(plugins, "run", run)
    chain = network(plugins=[{"type": "first"}, {"type": "firewall"}])
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: cni.add(name, "/ns", chain), ["one", "two"]))
    assert most["firewall"] == 1


@pytest.mark.usefixtures("cni")
def test_plugin_whose_turn_does_not_come_is_a_timeout(
    paths: Paths, plugins: Plugins, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "bin" / "firewall").write_text("")
    (tmp_path / "bin" / "firewall").chmod(0o755)
    hasty = Cni(paths, plugins, plugin_dirs=[str(tmp_path / "bin")], timeout_s=0.05)
    chain = network(plugins=[{"type": "first"}, {"type": "firewall"}])
    with (
        locked(os.path.join(paths.run_dir, "locks", "cni-ports-chains")),
        pytest.raises(CommandTimeout, match="'firewall' had to wait") as caught,
    ):
        hasty.add("one", "/ns", chain)
    assert caught.value.argv == ["firewall"]
    assert "ADD firewall" not in plugins.calls
