# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays inside real containers, from their host and over a real sshd."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.playbook.play_context import PlayContext
from ansible.plugins.doc_fragments import connection_pipelining

from ansible_collections.pvecri.runtime.plugins.connection import crun as plugin
from ansible_collections.pvecri.runtime.plugins.module_utils import remote_shell
from ansible_collections.pvecri.runtime.plugins.module_utils.crun.driver import CrunRuntime
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Paths
from ansible_collections.pvecri.runtime.tests.support import bundles, pct_node

NAME = "pvecri.runtime.crun"
BINARY = bytes(range(256)) * 4 + b"\r\n\x00\n"

pytestmark = pytest.mark.host

Bundle = t.Callable[..., str]
Variables = dict[str, t.Any]


@pytest.fixture(scope="module", autouse=True)
def definitions() -> None:
    """Tell Ansible of the plugin's options, which its loader does in a real run."""
    pages = (connection_pipelining.ModuleDocFragment.DOCUMENTATION, plugin.DOCUMENTATION)
    options = {name: option for page in pages for name, option in yaml.safe_load(page)["options"].items()}
    C.config.initialize_plugin_configuration_definitions("connection", NAME, options)


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[pct_node.SshServer]:
    reason = pct_node.reason_to_skip(ssh=True)
    if reason:
        pytest.skip(reason)
    with pct_node.running_sshd(tmp_path_factory.mktemp("sshd") / "ssh") as server:
        yield server


@pytest.fixture
def box(runtime: CrunRuntime, bundle: Bundle) -> str:
    """A running container that has no Python."""
    runtime.create(bundle(), "box")
    runtime.start("box")
    return "box"


@pytest.fixture(params=["local", "ssh"])
def variables(request: pytest.FixtureRequest, paths: Paths, runtime: CrunRuntime) -> Variables:
    """The inventory variables of a container over each transport."""
    over = request.getfixturevalue("ssh").variables if request.param == "ssh" else {}
    return {
        "inventory_hostname": "box",
        "ansible_crun_transport": request.param,
        "ansible_crun_root": paths.runtime_root,
        "ansible_crun_command": runtime._host.programs.crun,
        **over,
    }


class Connect(t.Protocol):
    """The type of the fixture ``connect``."""

    def __call__(self, **more: t.Any) -> plugin.Connection:
        """Return a connection with these variables besides."""


@pytest.fixture
def connect(variables: Variables) -> t.Iterator[Connect]:
    """Return a function that makes connections; all are closed afterwards."""
    opened: list[plugin.Connection] = []

    def make(**more: t.Any) -> plugin.Connection:
        connection = plugin.Connection(PlayContext())
        connection._load_name = NAME
        connection._redirected_names = [NAME]
        connection.set_options(var_options={**variables, **more})
        opened.append(connection)
        return connection

    yield make
    for connection in opened:
        connection.close()


@pytest.mark.parametrize("rc", [0, 1, 127, 254, 255])
def test_command_gives_code_and_streams(connect: Connect, box: str, rc: int) -> None:
    outcome = connect().exec_command(f"hostname; echo err >&2; exit {rc}", sudoable=False)
    assert outcome == (rc, b"box\n", b"err\n")


@pytest.mark.parametrize(
    "words", ["it's", '"double"', "$HOME `id` $(id)", "a\nb", "back\\slash", "* ? [a]", "ünï ☃"]
)
def test_words_are_not_interpreted_on_the_way(connect: Connect, box: str, words: str) -> None:
    import shlex

    rc, stdout, _unused = connect().exec_command(f"printf %s {shlex.quote(words)}", sudoable=False)
    assert (rc, stdout.decode()) == (0, words)


def test_input_is_binary(connect: Connect, box: str) -> None:
    rc, stdout, _unused = connect().exec_command("cat", in_data=BINARY * 500, sudoable=False)
    assert (rc, stdout) == (0, BINARY * 500)


def test_environment_is_the_container_s(connect: Connect, box: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    _rc, stdout, _unused = connect().exec_command("env", sudoable=False)
    names = {line.partition("=")[0] for line in stdout.decode().splitlines()}
    assert {"PATH", "BASE", "HOME"} <= names <= {"PATH", "BASE", "HOME", "PWD", "SHLVL", "OLDPWD", "_"}


@pytest.mark.parametrize(
    ("user", "expected"),
    [("root", b"0 0\n"), ("1000:1001", b"1000 1001\n"), ("1000", b"1000 0\n"), ("alice", b"1000 1001\n")],
)
def test_user(connect: Connect, box: str, user: str, expected: bytes) -> None:
    connection = connect(ansible_crun_user=user)
    assert connection.exec_command("echo $(id -u) $(id -g)", sudoable=False)[:2] == (0, expected)


@pytest.mark.parametrize("size", [0, 1, 2 * 65536, 2 * 65536 + 1, 300_000])
def test_files_come_and_go_unchanged(
    connect: Connect, box: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(remote_shell, "CHUNK_BYTES", 2 * 65536)
    content = os.urandom(size)
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(content)
    connection = connect()
    connection.put_file(str(source), "/tmp/a file's name")
    connection.fetch_file("/tmp/a file's name", str(back))
    assert back.read_bytes() == content


def test_failures_name_the_path(connect: Connect, box: str, tmp_path: pathlib.Path) -> None:
    connection = connect()
    with pytest.raises(AnsibleFileNotFound):
        connection.put_file(str(tmp_path / "none"), "/tmp/x")
    with pytest.raises(AnsibleError, match=r"cannot copy /tmp/none of container box.*No such file"):
        connection.fetch_file("/tmp/none", str(tmp_path / "back"))


def test_container_that_is_not_there_is_unreachable(
    connect: Connect, runtime: CrunRuntime, bundle: Bundle
) -> None:
    with pytest.raises(AnsibleConnectionFailure, match="container box cannot be worked in"):
        connect().exec_command("true", sudoable=False)
    runtime.create(bundle(), "box")
    with pytest.raises(AnsibleConnectionFailure, match='"created"'):
        connect().exec_command("false", sudoable=False)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"ansible_crun_container": "-x"}, "container"),
        ({"ansible_crun_root": "relative"}, "runtime_root"),
        ({"ansible_crun_user": "-x"}, "remote_user"),
        ({"ansible_crun_command": ""}, "crun_command"),
        ({"ansible_crun_command": "it's"}, "quotation"),
    ],
)
def test_wrong_options_are_named(connect: Connect, more: Variables, text: str) -> None:
    connection = connect(**more)
    with pytest.raises(AnsibleError, match=text):
        connection.exec_command("true", sudoable=False)


def test_name_and_reset(connect: Connect, box: str) -> None:
    connection = connect(inventory_hostname="web-1", ansible_crun_container="box")
    assert connection.exec_command("hostname", sudoable=False)[1] == b"box\n"
    connection.reset()
    assert connection.exec_command("hostname", sudoable=False)[1] == b"box\n"


PLAYBOOK = """
- hosts: box
  gather_facts: {facts}
  tasks:
    - name: A command without Python
      ansible.builtin.raw: hostname; exit 255
      changed_when: false
      failed_when: raw.rc != 255
      register: raw
{tasks}    - name: What came of it
      ansible.builtin.debug:
        msg: "{{{{ raw.stdout | trim }}}} {message}"
"""

TASKS = """    - name: Another user works
      ansible.builtin.command: id -un
      changed_when: false
      become: true
      become_method: ansible.builtin.su
      become_user: alice
      vars:
        ansible_become_flags: -s /bin/sh
      register: user
    - name: A file arrives
      ansible.builtin.copy:
        src: source
        dest: /tmp/target
        mode: "0640"
    - name: So does a template
      ansible.builtin.template:
        src: text.j2
        dest: /tmp/text
        mode: "0644"
    - name: They come back
      ansible.builtin.fetch:
        src: /tmp/{{ item }}
        dest: "{{ fetched }}/"
        flat: true
      loop: [target, text]
"""


def play(tmp_path: pathlib.Path, host: Variables, playbook: str) -> str:
    """Run a playbook against the container and return what it printed."""
    (tmp_path / "play.yml").write_text(playbook)
    host = {name: value for name, value in host.items() if name != "inventory_hostname"}
    host |= {"ansible_connection": NAME, "fetched": str(tmp_path / "fetched")}
    (tmp_path / "inventory.yml").write_text(json.dumps({"all": {"hosts": {"box": host}}}))
    collections = next(
        path for path in sys.path if os.path.isdir(os.path.join(path, "ansible_collections", "pvecri"))
    )
    bin_dir = pathlib.Path(sys.executable).parent
    done = subprocess.run(
        [bin_dir / "ansible-playbook", "-i", "inventory.yml", "play.yml"],
        cwd=tmp_path,
        env={
            "PATH": f"{bin_dir}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(tmp_path),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_SHELL_ALLOW_WORLD_READABLE_TEMP": "1",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_play_in_a_container_without_python(variables: Variables, box: str, tmp_path: pathlib.Path) -> None:
    out = play(tmp_path, variables, PLAYBOOK.format(facts="false", tasks="", message="done"))
    assert '"msg": "box done"' in out


@pytest.fixture
def python_box(runtime: CrunRuntime, bundle: Bundle, tmp_path: pathlib.Path) -> str:
    """A running container that has this machine's programs, Python among them, and root files of its own."""
    root = tmp_path / "root"
    for name in ("usr", "proc", "dev", "tmp", "root", "etc", "var/tmp"):
        (root / name).mkdir(parents=True)
    root.chmod(0o755)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/tmp:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nalice:x:1000:\n")
    for name in ("pam.d", "login.defs", "security", "shadow"):
        source = pathlib.Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / name)
        elif source.exists():
            shutil.copy(source, root / "etc" / name)
    (root / "etc/shadow").write_text("root:*:19000:0:99999:7:::\nalice:*:19000:0:99999:7:::\n")

    def change(config: bundles.Json) -> None:
        config["root"]["path"] = str(root)
        config["process"]["env"] = ["PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8"]
        config["process"]["noNewPrivileges"] = False
        names = [
            "CAP_" + name for name in ["SETUID", "SETGID", "CHOWN", "FOWNER", "DAC_OVERRIDE", "AUDIT_WRITE"]
        ]
        config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
        options = ["rbind", "ro"]
        config["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": options})

    runtime.create(bundle("sleep", "1000", change=change), "box")
    runtime.start("box")
    return "box"


@pytest.mark.parametrize("pipelining", [True, False])
def test_play_in_a_container_with_python(
    variables: Variables, python_box: str, tmp_path: pathlib.Path, pipelining: bool
) -> None:
    (tmp_path / "source").write_bytes(BINARY)
    (tmp_path / "text.j2").write_text("{{ ansible_facts.hostname }}\n")
    host = {
        **variables,
        "ansible_pipelining": pipelining,
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_remote_tmp": "/tmp/.ansible",
    }
    out = play(tmp_path, host, PLAYBOOK.format(facts="true", tasks=TASKS, message="{{ user.stdout }}"))
    assert '"msg": "box alice"' in out
    assert (tmp_path / "fetched" / "target").read_bytes() == BINARY
    assert (tmp_path / "fetched" / "text").read_text() == "box\n"
