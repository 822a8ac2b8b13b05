# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the connection plugin against a double of pct, here and over a real sshd.

The double (tests/support/pct_node.py) is no Proxmox VE: it enters namespaces of
this machine.  What is real: the plugin, Ansible's own ssh and local plugins below
it, sshd, shells, files, users and exit codes.
"""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible.plugins.doc_fragments import connection_pipelining

from ansible_collections.pvecri.runtime.plugins.connection import pct as plugin
from ansible_collections.pvecri.runtime.plugins.module_utils import remote_shell
from ansible_collections.pvecri.runtime.tests.support import pct_node

NAME = "pvecri.runtime.pct"
BINARY = bytes(range(256)) * 4 + b"\r\n\x00\n"

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(
        bool(pct_node.reason_to_skip(ssh=False)), reason=str(pct_node.reason_to_skip(ssh=False))
    ),
]


@pytest.fixture(scope="module", autouse=True)
def definitions():
    """Tell Ansible of the plugin's options, which its loader does in a real run."""
    pages = (connection_pipelining.ModuleDocFragment.DOCUMENTATION, plugin.DOCUMENTATION)
    options = {name: option for page in pages for name, option in yaml.safe_load(page)["options"].items()}
    C.config.initialize_plugin_configuration_definitions("connection", NAME, options)


@pytest.fixture
def node(tmp_path):
    folder = tmp_path / "node"
    folder.mkdir()
    return pct_node.FakeNode(folder)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory):
    reason = pct_node.reason_to_skip(ssh=True)
    if reason:
        pytest.skip(reason)
    with pct_node.running_sshd(tmp_path_factory.mktemp("sshd") / "ssh") as server:
        yield server


@pytest.fixture(params=["local", "ssh"])
def variables(request, node):
    """Return the inventory variables of container 201 over each transport."""
    over = request.getfixturevalue("ssh").variables if request.param == "ssh" else {}
    return {
        "ansible_pct_vmid": 201,
        "ansible_pct_transport": request.param,
        "ansible_pct_command": str(node.pct),
        "ansible_python_interpreter": "/usr/bin/python3",
        **over,
    }


@pytest.fixture
def container(node):
    return node.add(201)


@pytest.fixture
def connect(variables):
    """Return a function that makes a connection with these variables besides."""
    opened = []

    def make(**more):
        connection = plugin.Connection(PlayContext())
        connection._load_name = NAME
        connection._redirected_names = [NAME]
        given = {**variables, **more}
        connection.set_options(var_options={k: v for k, v in given.items() if v is not None})
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


def text(outcome):
    rc, stdout, stderr = outcome
    return rc, stdout.decode(), stderr.decode()


@pytest.mark.usefixtures("container")
class TestCommands:
    def test_command_runs_in_the_container(self, connect):
        assert text(connect().exec_command("hostname; id -un; echo err >&2", sudoable=False)) == (
            0,
            "ct-201\nroot\n",
            "err\n",
        )

    @pytest.mark.parametrize("rc", [0, 1, 2, 126, 127, 143, 253, 254, 255])
    def test_exit_code_arrives_as_it_is(self, connect, rc):
        assert text(connect().exec_command(f"echo out; echo err >&2; exit {rc}", sudoable=False)) == (
            rc,
            "out\n",
            "err\n",
        )

    def test_exit_code_arrives_over_a_terminal(self, connect):
        rc, stdout, _unused = connect().exec_command("echo out; exit 255")
        assert (rc, stdout.split()) == (255, [b"out"])

    def test_death_by_signal(self, connect):
        assert connect().exec_command("kill -TERM $$", sudoable=False)[0] == 143

    @pytest.mark.parametrize(
        "words",
        [
            "it's",
            '"double"',
            "$HOME `id` $(id)",
            "a\nb",
            "back\\slash",
            "* ? [a]",
            "ünï ☃",
            "&& || ; |",
            "!history",
            "%n",
        ],
    )
    def test_words_are_not_interpreted_on_the_way(self, connect, words):
        import shlex

        rc, stdout, _unused = connect().exec_command(f"printf %s {shlex.quote(words)}", sudoable=False)
        assert (rc, stdout.decode()) == (0, words)

    def test_input_is_binary(self, connect):
        rc, stdout, _unused = connect().exec_command("cat", in_data=BINARY, sudoable=False)
        assert (rc, stdout) == (0, BINARY)

    def test_environment_of_the_node_stays_outside(self, connect, monkeypatch):
        monkeypatch.setenv("SECRET_OF_THE_NODE", "x")
        _unused, stdout, _unused = connect().exec_command("env", sudoable=False)
        names = {line.partition("=")[0] for line in stdout.decode().splitlines()}
        assert {"HOME", "PATH", "LANG"} <= names <= {"HOME", "PATH", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}

    def test_other_user(self, connect):
        rc, stdout, _unused = connect(ansible_pct_user="nobody").exec_command(
            "id -un; echo a\\'b", sudoable=False
        )
        assert (rc, stdout) == (0, b"nobody\na'b\n")

    def test_running_is_asked_for_once_and_only_after_a_failure(self, connect, node):
        connection = connect()
        for command in ("true", "false", "false"):
            connection.exec_command(command, sudoable=False)
        assert [call.split()[0] for call in node.calls()] == ["exec", "exec", "status", "exec"]

    def test_reset_asks_again(self, connect, node):
        connection = connect()
        connection.exec_command("false", sudoable=False)
        connection.reset()
        connection.exec_command("false", sudoable=False)
        assert [call.split()[0] for call in node.calls()] == ["exec", "status"] * 2


class TestFailures:
    @pytest.mark.parametrize(
        ("prepare", "text_"),
        [
            (lambda node: node.add(201, running=False), "status: stopped"),
            (lambda node: None, r"201\.conf' does not exist"),
        ],
        ids=["stopped", "missing"],
    )
    def test_container_that_is_not_there_is_unreachable(self, connect, node, prepare, text_):
        prepare(node)
        with pytest.raises(AnsibleConnectionFailure, match=text_):
            connect().exec_command("true", sudoable=False)

    def test_missing_pct_is_named(self, connect):
        with pytest.raises(AnsibleConnectionFailure, match="sudo-like /nope/pct"):
            connect(ansible_pct_command="sudo-like /nope/pct").exec_command("true", sudoable=False)

    @pytest.mark.parametrize(
        ("more", "text_"),
        [
            ({"ansible_pct_vmid": None}, "ansible_pct_vmid"),
            ({"ansible_pct_vmid": 7}, "vmid"),
            ({"ansible_pct_user": "-x"}, "remote_user"),
            ({"ansible_pct_command": ""}, "pct_command"),
            ({"ansible_pct_command": "it's"}, "quotation"),
        ],
    )
    def test_wrong_options_are_named(self, connect, more, text_):
        with pytest.raises(AnsibleError, match=text_):
            connect(**more).exec_command("true", sudoable=False)


class TestFiles:
    @pytest.mark.parametrize(
        "content", [b"", b"x", BINARY, os.urandom(300_000)], ids=["empty", "one", "all", "large"]
    )
    def test_files_come_and_go_unchanged(self, connect, container, tmp_path, content):
        source, back = tmp_path / "source", tmp_path / "back"
        source.write_bytes(content)
        connection = connect()
        connection.put_file(str(source), "/srv/a file's name")
        assert (container / "srv" / "a file's name").read_bytes() == content
        connection.fetch_file("/srv/a file's name", str(back))
        assert back.read_bytes() == content

    @pytest.mark.parametrize("size", [1, 2 * 65536, 2 * 65536 + 1, 6 * 65536])
    def test_files_larger_than_a_chunk(self, connect, container, tmp_path, monkeypatch, size):
        monkeypatch.setattr(remote_shell, "CHUNK_BYTES", 2 * 65536)
        content = os.urandom(size)
        source, back = tmp_path / "source", tmp_path / "back"
        source.write_bytes(content)
        (container / "srv" / "target").write_bytes(b"older and longer " * 100_000)
        connection = connect()
        connection.put_file(str(source), "/srv/target")
        connection.fetch_file("/srv/target", str(back))
        assert hashlib.sha256(back.read_bytes()).digest() == hashlib.sha256(content).digest()

    def test_file_belongs_to_the_user(self, connect, container, tmp_path):
        (tmp_path / "source").write_bytes(b"x")
        connect(ansible_pct_user="nobody").put_file(str(tmp_path / "source"), "/tmp/mine")
        assert (container / "tmp" / "mine").stat().st_uid == 65534

    def test_failures_name_the_path(self, connect, container, tmp_path):
        connection = connect()
        with pytest.raises(AnsibleFileNotFound):
            connection.put_file(str(tmp_path / "none"), "/srv/x")
        with pytest.raises(AnsibleError, match=r"cannot copy /srv/none .*No such file"):
            connection.fetch_file("/srv/none", str(tmp_path / "back"))
        (tmp_path / "source").write_bytes(b"x")
        with pytest.raises(AnsibleError, match="cannot copy /nowhere/x"):
            connection.put_file(str(tmp_path / "source"), "/nowhere/x")


PLAYBOOK = """
- hosts: web-1
  gather_facts: false
  tasks:
    - name: Python answers
      ansible.builtin.ping:
    - name: The container is another host
      ansible.builtin.command: hostname
      changed_when: false
      register: host_name
    - name: A file arrives
      ansible.builtin.copy:
        src: source
        dest: /srv/target
        mode: "0640"
    - name: It comes back
      ansible.builtin.fetch:
        src: /srv/target
        dest: "{{ fetched }}"
        flat: true
    - name: Another user works
      ansible.builtin.command: id -un
      changed_when: false
      become: true
      become_method: ansible.builtin.su
      become_user: nobody
      vars:
        ansible_become_flags: -s /bin/sh
      register: user
    - name: An exit code is a failure of the task, not of the host
      ansible.builtin.raw: exit 255
      changed_when: false
      failed_when: false
      register: code
    - name: What came of it
      ansible.builtin.debug:
        msg: "{{ host_name.stdout }} {{ user.stdout }} {{ code.rc }}"
"""


@pytest.mark.parametrize("pipelining", [True, False])
def test_playbook(variables, container, tmp_path, pipelining):
    (tmp_path / "source").write_bytes(BINARY)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    host = {
        **variables,
        "ansible_connection": NAME,
        "ansible_pipelining": pipelining,
        "ansible_remote_tmp": "/tmp/.ansible",
        "fetched": str(tmp_path / "fetched"),
    }
    (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"web-1": host}}}))
    collections = next(
        path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "pvecri"))
    )
    environment = {
        "PATH": f"{pathlib.Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_COLLECTIONS_PATH": collections,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_SHELL_ALLOW_WORLD_READABLE_TEMP": "1",
    }
    done = subprocess.run(
        [pathlib.Path(sys.executable).parent / "ansible-playbook", "-i", "inventory.yml", "play.yml"],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"msg": "ct-201 nobody 255"' in done.stdout
    assert "unreachable=0" in done.stdout
    assert (container / "srv" / "target").read_bytes() == BINARY
    assert (container / "srv" / "target").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "fetched").read_bytes() == BINARY
