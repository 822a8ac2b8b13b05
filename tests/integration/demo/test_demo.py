# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run scripts/demo itself with an image of a registry: once killed in the middle, then to its end.

It runs on a machine of its own, of namespaces: the demo's places there are the test's.
"""

from __future__ import annotations

import hashlib
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from ansible_collections.pvecri.runtime import plugins
from ansible_collections.pvecri.runtime.tests.support import images, registry
from ansible_collections.pvecri.runtime.tests.support.namespaces import Machine, made_machine

ROOT = pathlib.Path(next(iter(plugins.__path__))).resolve().parent
DEMO = "/var/lib/pvecri-demo"
#: What the demo's environment is made of, beside the pins; see `provide` in scripts/demo.
ENVIRONMENT = ("ansible-core", "fakepve[crypto]")

SERVE = """
import sys
from ansible_collections.pvecri.runtime.tests.support.registry import Registry
with Registry(sys.argv[1]) as registry:
    registry.push(sys.argv[2], "shop/web:1")
    print(f"docker://{registry.address}/shop/web:1", flush=True)
    sys.stdin.read()
"""

#: A cluster that is not the demo's own stand-in: prints the folder with its login when it can be reached.
CLUSTER = """
import pathlib, subprocess, sys, time
folder = pathlib.Path(sys.argv[2])
folder.mkdir()
with subprocess.Popen([sys.executable, sys.argv[1], str(folder)]) as server:
    while not (folder / "pve.env").exists():
        assert server.poll() is None
        time.sleep(0.05)
    print(folder, flush=True)
    sys.stdin.read()
    server.terminate()
"""

#: Names of the containers on that cluster.
LIST = """
import json, os, ssl, urllib.request
get = os.environ.get
token = f"PVEAPIToken={get('PVE_USER')}!{get('PVE_TOKEN_ID')}={get('PVE_TOKEN_SECRET')}"
url = f"https://{get('PVE_HOST')}:{get('PVE_PORT')}/api2/json/nodes/pve1/lxc"
request = urllib.request.Request(url, headers={"Authorization": token})
context = ssl.create_default_context(cafile=get("PVE_CA_PATH"))
print([ct["name"] for ct in json.load(urllib.request.urlopen(request, context=context))["data"]])
"""


def demo(machine: Machine, *arguments: str) -> str:
    """Run scripts/demo to its end, which must be a good one, and return what it printed."""
    with machine.start(str(ROOT / "scripts/demo"), *arguments, stderr=subprocess.PIPE) as child:
        out, err = child.communicate(timeout=300)
    assert child.returncode == 0, out[-4000:] + err[-2000:]
    return out


def left(machine: Machine) -> list[str]:
    """Return what is left of the demo but for its lock, and of its mounts and processes."""
    ours = ["-path", "*pvecri-demo*", "-type", "f", "!", "-name", "lock"]
    files = machine.output("find", "/run", DEMO, *ours)
    mounts = machine.output("cat", "/proc/self/mounts")
    found = [*files, *(line for line in mounts if re.search(r" /(?:var/lib|run)/pvecri-demo/", line))]
    # The containers themselves have networks of their own; as long as one lives, its conmon does.
    expected = ("sleep 1800", registry.PROGRAM, "tests.support.registry")
    return found + [line for line in machine.processes() if not any(word in line for word in expected)]


def cache_with(environment: str, cache: pathlib.Path) -> None:
    """Make a cache folder that has the demo's environment: the one that this runs in."""
    version = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, check=True).stdout
    pins = (ROOT / "requirements-dev.txt").read_bytes()
    key = hashlib.sha256(pins + "".join(f"{name}\n" for name in ENVIRONMENT).encode() + version).hexdigest()
    (cache / "venv").mkdir(parents=True)
    (cache / "venv" / f"demo-{key[:12]}").symlink_to(environment)


def refused(machine: Machine, *arguments: str) -> str:
    """Run scripts/demo, which must fail, and return what it said."""
    with machine.start(str(ROOT / "scripts/demo"), *arguments, stderr=subprocess.STDOUT) as child:
        said = child.communicate(timeout=300)[0]
    assert child.returncode == 1, said
    return said


@pytest.fixture
def machine():
    """A machine with nothing of the demo on it."""
    programs = ("umoci", "skopeo", "crun", "conmon", "iptables", registry.PROGRAM, images.BUSYBOX)
    with made_machine([], places=[DEMO], programs=programs) as inner:
        inner.environment["PVECRI_CACHE"] = str(inner.top / "cache")
        cache_with(sys.prefix, inner.top / "cache")
        yield inner
        demo(inner, "--clean")


def test_demo_of_an_image_of_a_registry_after_a_kill(machine):
    layout = images.OciLayout(machine.top / "layout")
    page = images.File("srv/index.html", b"<h1>Pulled from a registry</h1>\n")
    config = {"Cmd": ["httpd", "-f", "-p", "8080", "-h", "/srv"], "Env": ["PATH=/bin"]}
    layout.add_image(
        "web", [images.busybox_layer(), images.tar_layer([images.directory("srv"), page])], config
    )
    source = f"oci:{layout.path}:web"
    with machine.serving(SERVE, str(machine.top / "registry"), source) as reference:
        arguments = ["--insecure", "--port", "8080", reference]
        with machine.start(str(ROOT / "scripts/demo"), *arguments, stderr=subprocess.STDOUT) as victim:
            # Killed while the second container is about to be made, with the first one running.
            for line in victim.stdout:
                if "Run the job to its end" in line:
                    break
            victim.send_signal(signal.SIGKILL)
            victim.stdout.close()
        deadline = time.monotonic() + 60
        while any("ansible-playbook" in line for line in left(machine)):
            assert time.monotonic() < deadline, "the playbook of a killed run must end with it"
            time.sleep(0.1)
        assert left(machine), "what was killed in the middle has left something to clean up"
        said = demo(machine, *arguments)
    assert "removing what an earlier run left" in said
    assert "Pulled from a registry" in said
    assert "second run: 0" in said
    assert re.search(r"container under crun +pvecri-demo-web +serves http://", said)
    assert re.search(r"LXC container +pvecri-demo +running as", said)
    assert left(machine) == []


def test_demo_tells_what_to_do_about_a_registry_without_tls(machine):
    source = f"oci:{images.busybox_image(machine.top / 'layout').path}:latest"
    with machine.serving(SERVE, str(machine.top / "registry"), source) as reference:
        said = refused(machine, reference)
    assert "server gave HTTP response to HTTPS client" in said
    assert "--insecure" in said
    assert left(machine) == []


def test_demo_on_a_cluster(machine):
    """With the variables of a cluster it is that one which is used, and nothing of the demo stays there."""
    program = str(ROOT / "scripts/lib/fake_pve.py")
    with machine.serving(CLUSTER, program, str(machine.top / "cluster")) as folder:
        login = dict(line.split("=", 1) for line in pathlib.Path(folder, "pve.env").read_text().splitlines())
        template = login.pop("PVE_TEMPLATE")
        machine.environment |= login
        said = refused(machine)
        assert "PVE_TEMPLATE is not set" in said
        assert "pveam list" in said
        secret = machine.environment.pop("PVE_TOKEN_SECRET")
        said = refused(machine)
        assert "not set: PVE_TOKEN_SECRET" in said

        machine.environment |= {"PVE_TOKEN_SECRET": secret, "PVE_TEMPLATE": template}
        said = demo(machine, "--keep")
        assert re.search(rf"pvecri-demo +running as \d+ on pve1, Proxmox VE at {login['PVE_HOST']}", said)
        assert secret not in said
        assert machine.output(sys.executable, "-c", LIST) == ["['pvecri-demo']"]
        demo(machine, "--clean")
        assert machine.output(sys.executable, "-c", LIST) == ["[]"]


def test_demo_that_is_asked_to_end_cleans_up(machine):
    with machine.start(str(ROOT / "scripts/demo"), stderr=subprocess.STDOUT) as victim:
        for line in victim.stdout:
            if "Change its memory limit" in line:
                break
        victim.terminate()
        said = victim.stdout.read()
        victim.wait(120)
    assert victim.returncode == 143
    assert "cleaning up after an error or an interruption" in said
    assert left(machine) == []


def test_scripts_need_root(machine):
    for script in ("demo", "test", "bench"):
        argv = ["setpriv", "--reuid=65534", "--clear-groups", str(ROOT / "scripts" / script)]
        with machine.start(*argv, stderr=subprocess.STDOUT) as child:
            said = child.communicate(timeout=60)[0]
        assert child.returncode == 1
        assert f"Run it as: sudo scripts/{script}" in said
