# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read configurations, and say what is wrong with bad ones."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvecri.config import load as loading
from pvecri.config.load import ConfigError, load, parse
from pvecri.config.model import Config

ORIGIN = "/etc/x.toml"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text.encode(), ORIGIN)
    return caught.value.problems


def test_load_without_a_file_is_all_defaults(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "CONFIG_FILE", str(tmp_path / "none.toml"))
    loaded = load()
    assert loaded.config == Config()
    assert loaded.path is None
    assert loaded.place("log", "level") == "defaults"


def test_load_reads_the_usual_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.toml"
    path.write_text('[log]\nlevel = "debug"\n')
    monkeypatch.setattr(loading, "CONFIG_FILE", str(path))
    loaded = load()
    assert loaded.config.log.level == "debug"
    assert loaded.place("log", "level") == f"{path}:2"
    assert loaded.place("log", "format") == f"{path}:1"
    assert loaded.place("server", "socket") == str(path)


def test_load_takes_every_type(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        "[server]\nsocket_mode = 0o600\nshutdown_timeout_s = 5\n"
        '[images]\npinned = ["registry.test/a:1", "b/c"]\n'
        '[runtime.policy]\ndefault = "crun"\n'
    )
    config = load(str(path)).config
    assert config.server.socket_mode == 0o600
    assert config.server.shutdown_timeout_s == 5.0
    assert isinstance(config.server.shutdown_timeout_s, float)
    assert config.images.pinned == ("registry.test/a:1", "b/c")
    assert config.runtime.policy == {"default": "crun"}


def test_load_names_a_file_that_is_missing(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="there is no such file") as caught:
        load(path)
    assert caught.value.problems == [f"{path}: there is no such file"]


def test_load_names_a_file_that_cannot_be_read(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match="it cannot be read: Is a directory"):
        load(str(tmp_path))


BAD = [
    (
        "[runtime]\nexec_output_max_bytes = 8_388_608",
        "2: runtime.exec_output_max_bytes: 8388608 bytes of stdout and of stderr",
    ),
    (
        "[log]\n[server]\nmax_message_bytes = 2_000_000",
        "3: server.max_message_bytes: 7340032 bytes of stdout and of stderr",
    ),
    (f"[paths]\nrun_dir = '/{'x' * 99}'", "2: paths.run_dir: the path is "),
    ("[paths]\nstate_dir = '/x'\nrun_dir = '/x/'", "3: paths.run_dir: it is state_dir, too"),
    ("[paths]\nrun_dir = 'x'", "2: paths.run_dir: 'x' is no absolute path"),
    ("[sever]\n", "1: sever: there is no such section; did you mean 'server'?"),
    ("[zzz]\n", "1: zzz: there is no such section; known are "),
    ("\n[server]\n\nsockt = 1", "4: server.sockt: there is no such key; did you mean 'socket'?"),
    ("[log]\nqqqqqq = 1", "2: log.qqqqqq: there is no such key; known are format, level, slow_rpc_s"),
    ("server = 1", "1: server: a table is wanted, this is a whole number"),
    ("server.socket = 1", "1: server.socket: a text is wanted, this is a whole number"),
    ("[server]\nsocket_mode = '660'", "2: server.socket_mode: a whole number is wanted, this is a text"),
    (
        "[server]\nsocket_mode = true",
        "2: server.socket_mode: a whole number is wanted, this is true or false",
    ),
    (
        "[server]\nsocket_mode = 0o440",
        "2: server.socket_mode: 0o440 shuts out the endpoint's owner; it wants at least 0o600",
    ),
    ("[server]\nsocket_mode = 6600", "2: server.socket_mode: permission bits are 0o000 to 0o777"),
    ("[server]\nsocket_group = 'a b'", "2: server.socket_group: 'a b' is no name of a group"),
    ("[server]\nsocket = 'x.sock'", "2: server.socket: 'x.sock' is no absolute path"),
    ("[server]\nsocket = '/x/'", "2: server.socket: '/x/' names a directory"),
    ("[server]\nsocket = '/run/../x'", "2: server.socket: a path must not have '..' or a zero byte"),
    (
        f"[server]\nsocket = '/{'x' * 103}'",
        "2: server.socket: a socket's path has at most 103 bytes, this has 104",
    ),
    (
        "[server]\nmax_message_bytes = 5",
        "2: server.max_message_bytes: 5 is not between 1048576 and 1073741824",
    ),
    ("[server]\nmax_concurrent_rpcs = 1", "2: server.max_concurrent_rpcs: 1 is less than 10"),
    ("[pve]\nvmid_range = [1, 99]", "2: pve.vmid_range: the first and the last number are wanted, from 100"),
    ("[pve]\nvmid_range = [300, 200]", "2: pve.vmid_range: the first and the last number are wanted"),
    ("[pve]\nvmid_range = [200]", "2: pve.vmid_range: the first and the last number are wanted"),
    ("[pve]\nenabled = true", "2: pve.enabled: a text is wanted, this is true or false"),
    ("[pve]\nenabled = 'yes'", "2: pve.enabled: 'yes' is none of auto, true, false"),
    ("[pve]\nnode = 'a.b'", "2: pve.node: 'a.b' is no name of a node"),
    ("[pve]\nrootfs_storage = '0'", "2: pve.rootfs_storage: '0' is no name of a storage"),
    ("[pve]\npool = 'a/b/c/d'", "2: pve.pool: 'a/b/c/d' is no name of a pool"),
    ("[pve]\nrootfs_size_gib = 0", "2: pve.rootfs_size_gib: 0.0 is not between 0.125 and 65536"),
    ("[pve.templates]\n'debian' = {}", "1: pve.templates: 'debian' is no image like lxc/NAME"),
    ("[pve.templates]\n'lxc/debian' = 'x'", "1: pve.templates: 'lxc/debian' wants url and sha512"),
    (
        "[pve.templates]\n'lxc/debian:13' = {url = 'ftp://h/x', sha512 = ''}",
        "1: pve.templates: 'lxc/debian:13': url is no address",
    ),
    (
        "[pve.templates]\n'lxc/debian:13' = {url = 'https://h/x', sha512 = ''}",
        "1: pve.templates: 'lxc/debian:13': url is to end in .tar.zst, .tar.xz, .tar.gz",
    ),
    (
        "[pve.templates]\n'lxc/debian:13' = {url = 'https://h/ü.tar.gz', sha512 = ''}",
        "1: pve.templates: 'lxc/debian:13': url is to end in .tar.zst, .tar.xz, .tar.gz, and to be of ASCII",
    ),
    (
        "[pve.templates]\n'lxc/debian:13' = {url = 'https://h/x.tar.gz', sha512 = 'AB'}",
        "1: pve.templates: 'lxc/debian:13': sha512 has 128 hexadecimal digits",
    ),
    ("[server]\nshutdown_timeout_s = nan", "2: server.shutdown_timeout_s: a finite number is wanted"),
    (
        "[server]\nshutdown_timeout_s = '1'",
        "2: server.shutdown_timeout_s: a number is wanted, this is a text",
    ),
    (
        "[server]\nshutdown_timeout_s = 1979-05-27",
        "2: server.shutdown_timeout_s: a number is wanted, this is a date or time",
    ),
    ("[runtime]\ncgroup_driver = 'x'", "2: runtime.cgroup_driver: 'x' is none of auto, systemd, cgroupfs"),
    ("[runtime]\npolicy = []", "2: runtime.policy: a table is wanted, this is an array"),
    (
        "[runtime]\npolicy_file = '/p.toml'\n[runtime.policy]\ndefault = 'crun'",
        "3: runtime.policy: the policy stands here and in policy_file: give one of them",
    ),
    ("[network]\nplugin_dirs = '/x'", "2: network.plugin_dirs: an array is wanted, this is a text"),
    (
        "[network]\nplugin_dirs = ['/x', 1]",
        "2: network.plugin_dirs: a text is wanted, this is a whole number",
    ),
    ("[network]\nplugin_dirs = ['/x', 'y']", "2: network.plugin_dirs: 'y' is no absolute path"),
    ("[network]\nplugin_dirs = [\n'/x',\n'/x']", "2: network.plugin_dirs: a value stands in it twice"),
    ("[images]\npause_image = 'A:B:C'", "2: images.pause_image: "),
    ("[images]\npinned = ['a', '']", "2: images.pinned: "),
    ("[images]\npinned = ['a/*']", "2: images.pinned: "),
    ("[metrics]\nport = 65536", "2: metrics.port: 65536 is not between 0 and 65535"),
    ("[metrics]\naddress = 'localhost'", "2: metrics.address: 'localhost' is no IP address"),
    (
        "[metrics]\nport = 9\naddress = '0.0.0.0'",
        "3: metrics.address: '0.0.0.0' can be reached from other hosts: set allow_remote = true",
    ),
    ("[streaming]\nport = 65536", "2: streaming.port: 65536 is not between 0 and 65535"),
    ("[streaming]\naddress = ''", "2: streaming.address: '' is neither an address nor a host name"),
    ("[streaming]\naddress = '10.0.0'", "2: streaming.address: '10.0.0' is neither"),
    ("[streaming]\naddress = '127.0.0.1:80'", "2: streaming.address: '127.0.0.1:80' is neither"),
    ("[streaming]\naddress = '[::1]'", "2: streaming.address: '[::1]' is neither"),
    ("[streaming]\naddress = 'fe80::1%eth0'", "2: streaming.address: 'fe80::1%eth0' is neither"),
    ("[streaming]\naddress = 'a..b'", "2: streaming.address: 'a..b' is neither"),
    (f"[streaming]\nurl_host = '{'a.' * 127}b'", "2: streaming.url_host: 'a.a"),
    ("[streaming]\nurl_host = 'http://node'", "2: streaming.url_host: 'http://node' is neither"),
    ("[streaming]\naddress = '0.0.0.0'", "2: streaming.address: '0.0.0.0' can be reached from other hosts"),
    ("[streaming]\naddress = '::'", "2: streaming.address: '::' can be reached from other hosts"),
    ("[streaming]\naddress = 'node.example'", "2: streaming.address: 'node.example' can be reached"),
    ("[streaming]\ntls_cert = '/c'", "2: streaming.tls_cert: tls_key is missing: the files belong together"),
    ("[streaming]\n\ntls_key = '/k'", "3: streaming.tls_key: tls_cert is missing"),
    ("[streaming]\ntls_client_ca = '/a'", "2: streaming.tls_client_ca: tls_cert is missing"),
    ("[metrics]\nport = 80\n[streaming]\nport = 80", "2: metrics.port: it is streaming.port, too"),
]


@pytest.mark.parametrize(("text", "problem"), BAD)
def test_parse_names_file_line_and_key(text: str, problem: str) -> None:
    (found,) = problems(text)
    assert found.startswith(f"{ORIGIN}:{problem}")


@pytest.mark.parametrize(
    "text",
    [
        *(f"address = '{host}'" for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost", "LOCALHOST")),
        "address = '0.0.0.0'\ntls_cert = '/c'\ntls_key = '/k'",
        "address = 'node-1.example'\ntls_cert = '/c'\ntls_key = '/k'\ntls_client_ca = '/a'",
        "url_host = 'node1'",
        "url_host = 'fd00::1'",
    ],
)
def test_parse_takes_addresses_that_only_clients_of_this_host_or_of_tls_reach(text: str) -> None:
    assert parse(f"[streaming]\n{text}".encode(), ORIGIN).config.streaming is not Config().streaming


def test_parse_tells_everything_at_once_in_the_file_s_order() -> None:
    found = problems("[log]\nlevel = 'x'\n[server]\nfoo = 1\n[log2]\n")
    assert [text.split(": ")[0] for text in found] == [f"{ORIGIN}:2", f"{ORIGIN}:4", f"{ORIGIN}:5"]


@pytest.mark.parametrize(
    ("text", "line"), [("[log]\nlevel = \n", 2), ("[log]\nlevel = [\n", 3), ("[log]\n[log]", 2), ("\n=", 2)]
)
def test_parse_says_where_it_is_no_toml(text: str, line: int) -> None:
    (found,) = problems(text)
    assert found.startswith(f"{ORIGIN}:{line}: it is no TOML: ")


def test_parse_says_where_it_is_no_text() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(b"[log]\n# \xff\n", ORIGIN)
    assert caught.value.problems == [f"{ORIGIN}:2: it is not UTF-8"]


def test_parse_refuses_what_is_too_large_or_too_deep() -> None:
    assert "larger than" in problems("#" * (1 << 20) + "\n")[0]
    assert "nested too deeply" in problems("[log]\nlevel = " + "[" * 100000)[0]


@given(st.text(alphabet="abclogserv=\n[]{}'\"#.,109 \\_", max_size=80))
def test_parse_reads_or_refuses_whatever_it_gets(text: str) -> None:
    try:
        loaded = parse(text.encode(), ORIGIN)
    except ConfigError as exc:
        found = exc.problems
    else:
        found = [] if loaded.config == Config() else ["something was read"]
    assert all(problem.startswith(ORIGIN) for problem in found)


KEYS = [
    (section.name, key.name, getattr(getattr(Config(), section.name), key.name))
    for section in dataclasses.fields(Config)
    for key in dataclasses.fields(getattr(Config(), section.name))
]
WRONG: dict[type, list[str]] = {
    bool: ["'true'", "1", "[]", "{}", "1979-05-27"],
    str: ["1", "1.5", "true", "[]", "{}", "1979-05-27", "['a']"],
    int: ["'1'", "1.5", "true", "[]", "{}", "1979-05-27", "-7", "99999999999999"],
    float: ["'1'", "true", "[]", "{}", "inf", "nan", "-0.5"],
    tuple: ["'1'", "1", "true", "{}", "[1]", "['/a', '/a']", "[['/a']]"],
    dict: ["'1'", "1", "true", "[]"],
}


@pytest.mark.parametrize(("section", "key", "default"), KEYS, ids=lambda value: str(value)[:20])
def test_every_key_refuses_values_of_another_kind(section: str, key: str, default: t.Any) -> None:
    unlimited = {("server", "max_concurrent_rpcs"), ("runtime", "pids_limit")}
    for text in WRONG[type(default)]:
        if text == "99999999999999" and (section, key) in unlimited:
            continue
        (found,) = problems(f"[{section}]\n\n{key} = {text}\n")
        assert found.startswith(f"{ORIGIN}:3: {section}.{key}: "), text


@pytest.mark.parametrize(("section", "key", "default"), KEYS, ids=lambda value: str(value)[:20])
def test_every_default_passes_its_own_checks_and_is_explained(section: str, key: str, default: t.Any) -> None:
    (field,) = [each for each in dataclasses.fields(getattr(Config(), section)) if each.name == key]
    assert [check(default) for check in field.metadata["checks"] if check(default)] == []
    assert field.metadata["doc"].endswith(".")


@pytest.mark.parametrize(("section", "key"), [entry[:2] for entry in KEYS])
def test_every_key_is_read_by_something(section: str, key: str) -> None:
    package = pathlib.Path(loading.__file__).parents[1]
    readers = [path for path in package.rglob("*.py") if path.parent.name != "config"]
    readers.append(package / "config/policy.py")
    assert any(f".{key}" in path.read_text() for path in readers), f"{section}.{key} does nothing"


@pytest.mark.parametrize(
    "text",
    [
        "port = 9\naddress = '0.0.0.0'\nallow_remote = true",
        "port = 9\naddress = '::1'",
        "port = 9\naddress = '127.1.2.3'",
        # Nothing listens there.
        "address = '0.0.0.0'",
    ],
)
def test_metrics_are_for_this_host_unless_told_otherwise(text: str) -> None:
    assert parse(f"[metrics]\n{text}".encode(), ORIGIN).config.metrics.address
