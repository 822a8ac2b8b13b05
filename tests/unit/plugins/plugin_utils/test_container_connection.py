# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What connection plugins into containers have in common, with a host on paper."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible.plugins.doc_fragments import connection_pipelining

from ansible_collections.pvecri.runtime.plugins.connection import crun as plugin
from ansible_collections.pvecri.runtime.plugins.module_utils import remote_shell

NAME = "pvecri.runtime.crun"


class Host:
    """Answer commands; what they are is kept."""

    def __init__(self, *answers: tuple[int, bytes, bytes]) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, bytes | None, bool]] = []
        self.ended: list[str] = []

    def exec_command(self, cmd: str, in_data: bytes | None, sudoable: bool) -> tuple[int, bytes, bytes]:
        self.calls.append((cmd, in_data, sudoable))
        return self.answers.pop(0) if self.answers else (0, b"", b"")

    def reset(self) -> None:
        self.ended.append("reset")

    def close(self) -> None:
        self.ended.append("close")


@pytest.fixture(scope="module", autouse=True)
def definitions() -> None:
    """Tell Ansible of the plugin's options, which its loader does in a real run."""
    pages = (connection_pipelining.ModuleDocFragment.DOCUMENTATION, plugin.DOCUMENTATION)
    options = {name: option for page in pages for name, option in yaml.safe_load(page)["options"].items()}
    C.config.initialize_plugin_configuration_definitions("connection", NAME, options)


def connected(host: Host | None, **variables: t.Any) -> plugin.Connection:
    connection = plugin.Connection(PlayContext())
    connection._load_name = NAME
    connection._redirected_names = [NAME]
    connection.set_options(var_options={"inventory_hostname": "box", **variables})
    connection._node = t.cast("t.Any", host)
    return connection


def test_command_is_wrapped_for_the_host() -> None:
    host = Host((3, b"out", b"err"), (0, b'{"status": "running"}', b""))
    assert connected(host).exec_command("id", b"in", False) == (3, b"out", b"err")
    command, in_data, sudoable = host.calls[0]
    assert "crun --root /run/pvecri/crun/play exec --user 0:0 box /bin/sh -c id" in command
    assert (in_data, sudoable) == (b"in", False)
    assert "crun --root /run/pvecri/crun/play state box" in host.calls[1][0]


@pytest.mark.parametrize(
    "answer",
    [(1, b"", b"no such container"), (0, b"{", b""), (0, b"[]", b""), (0, b'{"status": "paused"}', b"")],
)
def test_container_that_does_not_run_is_unreachable(answer: tuple[int, bytes, bytes]) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="container box cannot be worked in"):
        connected(Host((1, b"", b""), answer)).exec_command("id")


def test_running_is_asked_for_once_until_a_reset() -> None:
    host = Host((1, b"", b""), (0, b'{"status": "running"}', b""), (1, b"", b""))
    connection = connected(host, ansible_crun_transport="ssh")
    connection.exec_command("false")
    connection.exec_command("false")
    assert len(host.calls) == 3
    connection.reset()
    assert host.ended == ["reset"]
    host.answers = [(1, b"", b""), (1, b"", b"gone")]
    with pytest.raises(AnsibleConnectionFailure):
        connection.exec_command("false")


def test_reset_without_ssh_and_close() -> None:
    host = Host()
    connection = connected(host)
    connection.reset()
    assert connection._connect() is connection
    connection.close()
    assert host.ended == ["close"]
    connected(None).close()


def test_files_go_in_chunks(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_shell, "CHUNK_BYTES", 65536)
    source = tmp_path / "source"
    source.write_bytes(b"x" * 65537)
    host = Host()
    connection = connected(host)
    connection.put_file(str(source), "/t")
    assert [(len(data or b""), "cat >> /t" in command) for command, data, _unused in host.calls] == [
        (65536, False),
        (1, True),
    ]
    host.answers = [(0, b"y" * 65536, b""), (0, b"y", b"")]
    connection.fetch_file("/t", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == b"y" * 65537


def test_empty_file_has_no_input(tmp_path: pathlib.Path) -> None:
    (tmp_path / "source").touch()
    host = Host()
    connected(host).put_file(str(tmp_path / "source"), "/t")
    assert [data for _unused, data, _unused in host.calls] == [None]


def test_copies_that_fail(tmp_path: pathlib.Path) -> None:
    with pytest.raises(AnsibleFileNotFound):
        connected(Host()).put_file(str(tmp_path / "none"), "/t")
    host = Host((1, b"", b"full\n"), (0, b'{"status": "running"}', b""))
    (tmp_path / "source").write_bytes(b"x")
    with pytest.raises(AnsibleError, match="cannot copy /t of container box: full"):
        connected(host).put_file(str(tmp_path / "source"), "/t")


def test_host_s_connection_is_made_once_with_our_options() -> None:
    connection = connected(None, ansible_crun_transport="ssh", ansible_host="node1", ansible_port=2222)
    node = connection.node
    assert node is connection.node
    assert (node.get_option("host"), node.get_option("port")) == ("node1", 2222)
    connection.set_options(var_options={"inventory_hostname": "box", "ansible_crun_transport": "local"})
    assert connection.node.transport == "local"


def test_variables_of_the_host_s_connection_are_templated() -> None:
    class Templar:
        def template(self, value: str) -> str:
            return value.replace("{{ node }}", "node1")

    variables = {"ansible_host": "{{ node }}", "ansible_crun_user": "1000", "unrelated": "{{ x }}"}
    resolved = connected(None)._resolve_option_variables(variables, Templar())
    assert resolved["ansible_host"] == "node1"
    assert "unrelated" not in resolved


@pytest.mark.parametrize(
    ("variables", "text"),
    [
        ({"ansible_crun_container": "-x"}, "container"),
        ({"ansible_crun_root": "relative"}, "runtime_root"),
        ({"ansible_crun_user": ""}, "remote_user"),
        ({"ansible_crun_command": ""}, "crun_command"),
        ({"ansible_crun_command": "it's"}, "quotation"),
    ],
)
def test_wrong_options_are_named(variables: dict[str, t.Any], text: str) -> None:
    with pytest.raises(AnsibleError, match=text):
        connected(Host(), **variables).exec_command("id")


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("root", "exec --user 0:0 box /bin/sh -c id"),
        ("5", "exec --user 5:0 box /bin/sh -c id"),
        ("5:6", "exec --user 5:6 box /bin/sh -c id"),
        ("web", "exec --user 0:0 box su -s /bin/sh -c id web"),
    ],
)
def test_user_inside(user: str, words: str) -> None:
    host = Host()
    connected(host, ansible_crun_user=user, ansible_crun_command="sudo -n crun").exec_command("id")
    assert f"sudo -n crun --root /run/pvecri/crun/play {words}" in host.calls[0][0]
