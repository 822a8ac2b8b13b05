# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Upgrade a real host to releases that do not work, and cut upgrades short.

The host is one of ``scripts/hosts``, made here and taken down again; a container runs on it all the time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAME = f"{os.environ.get('PVECRI_HOSTS_PREFIX', 'e')}-upgrade-{os.getpid()}"
CACHE = pathlib.Path(os.environ.get("PVECRI_CACHE", "/var/cache/pvecri"))
#: What a host has that is a namespace of this machine: no controllers of its own to give away.
SETTINGS = {"cri_endpoint_preflight_ignore": ["controllers"], "cri_hosts": "all"}
ROLLBACK = "/usr/lib/pvecri/rollback"
REFUSED = {"cri_endpoint_config": {"server": {"no_such_key": 1}}}

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="test hosts need root"),
    # Playbooks take a minute each on a busy machine.
    pytest.mark.timeout(3600),
]

Json = dict[str, t.Any]


def hosts(*arguments: str) -> str:
    """Run scripts/hosts and return what it says."""
    done = subprocess.run([ROOT / "scripts/hosts", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Tree:
    """A copy of the collection in which something may be different."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.root = path / "ansible_collections/pvecri/runtime"
        self.root.mkdir(parents=True)
        for name in ("galaxy.yml", "meta", "playbooks", "plugins", "roles"):
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, self.root / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, self.root / name)

    def change(self, file: str, old: str, new: str) -> None:
        """Replace the one place of a file of the daemon's."""
        path = self.root / "roles/cri_endpoint/files/pvecri" / file
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    def play(self, inventory: pathlib.Path, book: str, **settings: t.Any) -> subprocess.Popen[str]:
        """Begin a playbook in a process group of its own."""
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(self.path),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        # Measured are modules that run on this machine; hosts have no package coverage.
        environment.pop("_ANSIBLE_ANSIBALLZ_COVERAGE_CONFIG", None)
        return subprocess.Popen(
            [
                "ansible-playbook",
                f"--inventory={inventory}",
                f"--extra-vars={json.dumps({**SETTINGS, **settings})}",
                str(self.root / "playbooks" / book),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


@dataclasses.dataclass
class Node:
    """The host with the endpoint, and a container that is to run on."""

    inventory: pathlib.Path
    pid: str = ""

    def run(self, command: str) -> str:
        """Run a shell command on the host."""
        return hosts("ssh", NAME, command).strip()

    def upgrade(self, tree: Tree, **settings: t.Any) -> tuple[int, str]:
        """Run the upgrade playbook; return its exit code and what it said."""
        process = tree.play(self.inventory, "upgrade.yml", **settings)
        begun = time.monotonic()
        said, _errors = process.communicate(timeout=1800)
        print(f"upgrade.yml: {time.monotonic() - begun:.0f} s\n{said}")
        return process.returncode, said

    def release(self) -> str:
        """Return the release that is in use."""
        return self.run("readlink /usr/lib/pvecri/current")

    def files(self) -> str:
        """Return all that the role has written, with modes and contents."""
        return self.run(
            "cd /etc && find pvecri crictl.yaml cni systemd/system -name 'pvecri*' -o -path 'pvecri/*' "
            "| sort | xargs stat -c '%n %a %U %G %s' && cat pvecri/* systemd/system/pvecri* | sha256sum"
        )

    def has_rollback(self) -> bool:
        """Say whether an upgrade is under way, or was cut short."""
        return self.run(f"test -e {ROLLBACK}/manifest.json && echo yes || echo no") == "yes"

    def check_container(self) -> None:
        """Want the endpoint to be ready and the container to be the same process."""
        self.run("pvecri probe")
        assert self.run("crictl inspect $(cat /root/container) | grep -m1 '\"pid\":'") == self.pid


def make_image(folder: pathlib.Path) -> pathlib.Path:
    """Make an image of Debian's busybox that sleeps."""
    layout, archive = folder / "layout", folder / "image.tar"
    for command in (
        ["umoci", "init", "--layout", layout],
        ["umoci", "new", "--image", f"{layout}:1"],
        ["umoci", "insert", "--image", f"{layout}:1", "/bin/busybox", "/bin/sleep"],
        ["umoci", "config", "--image", f"{layout}:1", "--config.entrypoint=/bin/sleep", "--config.cmd=86400"],
        ["skopeo", "copy", "--quiet", f"oci:{layout}:1", f"oci-archive:{archive}:localhost/sleep:1"],
    ):
        subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return archive


@pytest.fixture(scope="module")
def this(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """Return the collection as it is."""
    return Tree(tmp_path_factory.mktemp("this"))


@pytest.fixture(scope="module")
def node(this: Tree, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Node]:
    """Make a node with a container on it."""
    folder = tmp_path_factory.mktemp("node")
    crictl = os.environ.get("PVECRI_CRICTL") or next(map(str, CACHE.glob("cri-tools/*/crictl")), "")
    assert crictl, "there is no crictl: scripts/test --only hosts builds one"
    try:
        host = json.loads(hosts("up", NAME))
        inventory = folder / "inventory.json"
        inventory.write_text(hosts("inventory", NAME))
        process = this.play(inventory, "site.yml")
        said, _errors = process.communicate(timeout=1800)
        assert process.returncode == 0, said
        shutil.copy(crictl, pathlib.Path(host["root"], "usr/local/bin/crictl"))
        shutil.copy(make_image(folder), pathlib.Path(host["root"], "root/image.tar"))
        pod = {
            "metadata": {"name": "stays", "namespace": "default", "uid": "1", "attempt": 0},
            "log_directory": "/var/log/pods/stays",
            "linux": {"security_context": {"namespace_options": {"pid": 1}}},
        }
        container = {
            "metadata": {"name": "sleep"},
            "image": {"image": "localhost/sleep:1"},
            "log_path": "sleep.log",
        }
        pathlib.Path(host["root"], "root/pod.json").write_text(json.dumps(pod))
        pathlib.Path(host["root"], "root/container.json").write_text(json.dumps(container))
        made = Node(inventory)
        made.run(
            "pvecri images load /root/image.tar && pod=$(crictl runp /root/pod.json) && "
            "crictl create --no-pull $pod /root/container.json /root/pod.json > /root/container && "
            "crictl start $(cat /root/container)"
        )
        made.pid = made.run("crictl inspect $(cat /root/container) | grep -m1 '\"pid\":'")
        yield made
    finally:
        with contextlib.suppress(AssertionError):
            hosts("down", NAME)


def changed_tree(folder: pathlib.Path) -> Tree:
    """Return a collection with a release of its own."""
    tree = Tree(folder)
    init = tree.root / "roles/cri_endpoint/files/pvecri/__init__.py"
    init.write_text(f"{init.read_text()}\n# {time.time_ns()}\n")
    return tree


def test_an_upgrade_that_was_killed_is_taken_back_or_completed(node: Node, tmp_path: pathlib.Path) -> None:
    """Kill a run after the switch; let the next fail, without and with what a return needs, and one end."""
    newer, podless = changed_tree(tmp_path / "newer"), changed_tree(tmp_path / "podless")
    # It starts, answers and is ready: only a pod tells.
    podless.change(
        "sandboxes/service.py",
        "    def run(self",
        '    def run(self, *_: object) -> str:\n        raise OSError("no pods here")\n\n    def _run(self',
    )
    release, files = node.release(), node.files()
    process = newer.play(node.inventory, "upgrade.yml")
    try:
        deadline = time.monotonic() + 300
        while node.release() == release:
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert node.has_rollback()
    switched = node.release()

    # A file is half done, and what it was is lost: that is told apart, and the endpoint is not left stopped.
    node.run("echo '# half done' >> /etc/crictl.yaml")
    node.run(f"mkdir /root/lost && mv {ROLLBACK}/[0-9a-f]???????????????????* /root/lost")
    code, said = node.upgrade(newer, **REFUSED)
    assert code == 2, said
    assert "no_such_key" in said
    assert "NEEDS YOU" in said
    assert node.has_rollback()
    assert node.release() == switched
    node.check_container()

    # It is there again: from a third release, which makes no pods, it goes back to before the first attempt.
    node.run(f"mv /root/lost/* {ROLLBACK}/ && rmdir /root/lost")
    code, said = node.upgrade(podless)
    assert code == 2, said
    assert "no pods here" in said
    assert "runs there again with its former settings" in said
    assert node.release() == release
    assert node.files() == files
    assert not node.has_rollback()
    node.check_container()

    code, said = node.upgrade(newer)
    assert code == 0, said
    assert f"{NAME}: {release.removeprefix('releases/')} -> {switched.removeprefix('releases/')} in " in said
    assert "1 containers ran on" in said
    assert node.release() == switched
    assert not node.has_rollback()
    node.check_container()
