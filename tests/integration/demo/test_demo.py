# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run scripts/demo itself with an image of a registry: once killed in the middle, then to its end.

It runs in network and mount namespaces of its own, in which the demo's places on this
machine are directories of the test.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import pytest

from ansible_collections.pvecri.runtime import plugins
from ansible_collections.pvecri.runtime.tests.support import images, registry

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


class Machine:
    """Namespaces in which the demo runs."""

    def __init__(self, top: pathlib.Path, pid: int) -> None:
        self.top = top
        self.inside = ["nsenter", f"--target={pid}", "--net", "--mount"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(top),
            "PVECRI_CACHE": str(top / "cache"),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def start(self, *argv: str, **options: object) -> subprocess.Popen[str]:
        """Start a command inside."""
        return subprocess.Popen(
            [*self.inside, *argv], env=self.environment, stdout=subprocess.PIPE, text=True, **options
        )

    def demo(self, *arguments: str) -> str:
        """Run scripts/demo to its end, which must be a good one, and return what it printed."""
        done = subprocess.run(
            [*self.inside, str(ROOT / "scripts/demo"), *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        return done.stdout

    def output(self, *argv: str) -> list[str]:
        """Return the lines that a command prints inside."""
        done = subprocess.run([*self.inside, *argv], stdout=subprocess.PIPE, text=True, check=True)
        return done.stdout.splitlines()

    def left(self) -> list[str]:
        """Return what is left of the demo but for its lock, and of its mounts and processes."""
        files = self.output(
            "find", "/run", DEMO, "-path", "*pvecri-demo*", "-type", "f", "!", "-name", "lock"
        )
        mounts = self.output("cat", "/proc/self/mounts")
        found = [*files, *(line for line in mounts if re.search(r" /(?:var/lib|run)/pvecri-demo/", line))]
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
                # conmon's command line names the container, those of the rest the cache.
                if str(self.top) in line or "pvecri-demo" in line:
                    found.append(line)
        return [line for line in found if "docker-registry" not in line and SERVE[:20] not in line]


def cache_with(environment: str, cache: pathlib.Path) -> None:
    """Make a cache folder that has the demo's environment: the one that this runs in."""
    version = subprocess.run(["/usr/bin/python3", "--version"], capture_output=True, check=True).stdout
    pins = (ROOT / "requirements-dev.txt").read_bytes()
    key = hashlib.sha256(pins + "".join(f"{name}\n" for name in ENVIRONMENT).encode() + version).hexdigest()
    (cache / "venv").mkdir(parents=True)
    (cache / "venv" / f"demo-{key[:12]}").symlink_to(environment)


@pytest.fixture
def machine():
    """Namespaces with nothing in them."""
    needed = ("unshare", "nsenter", "umoci", "skopeo", "crun", "conmon", "iptables", images.BUSYBOX)
    lacking = [program for program in needed if shutil.which(program) is None]
    if os.geteuid() != 0 or lacking or not registry.is_available():
        pytest.skip(f"needs root, docker-registry and {', '.join(lacking or needed)}")
    top = pathlib.Path(tempfile.mkdtemp(prefix="pvecri-"))
    is_new = not os.path.isdir(DEMO)
    os.makedirs(DEMO, exist_ok=True)
    (top / "demo").mkdir()
    cache_with(sys.prefix, top / "cache")
    mounts = f"mount --bind {top}/demo {DEMO}; mount -t tmpfs none /run"
    holder = subprocess.Popen(
        [
            "unshare",
            "--net",
            "--mount",
            "sh",
            "-ec",
            f"ip link set lo up; {mounts}; echo ready; exec sleep 900",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "ready\n"
        inner = Machine(top, holder.pid)
        yield inner
        inner.demo("--clean")
    finally:
        holder.kill()
        holder.communicate()
        shutil.rmtree(top, ignore_errors=True)
        if is_new:
            os.rmdir(DEMO)


def test_demo_of_an_image_of_a_registry_after_a_kill(machine):
    layout = images.OciLayout(machine.top / "layout")
    page = images.File("srv/index.html", b"<h1>Pulled from a registry</h1>\n")
    config = {"Cmd": ["httpd", "-f", "-p", "8080", "-h", "/srv"], "Env": ["PATH=/bin"]}
    layout.add_image(
        "web", [images.busybox_layer(), images.tar_layer([images.directory("srv"), page])], config
    )
    source = f"oci:{layout.path}:web"
    with machine.start(
        sys.executable, "-c", SERVE, str(machine.top / "registry"), source, stdin=subprocess.PIPE
    ) as serving:
        reference = serving.stdout.readline().strip()
        arguments = ["--insecure", "--port", "8080", reference]
        with machine.start(str(ROOT / "scripts/demo"), *arguments, stderr=subprocess.STDOUT) as victim:
            # Killed while the second container is about to be made, with the first one running.
            for line in victim.stdout:
                if "Run the job to its end" in line:
                    break
            victim.send_signal(signal.SIGKILL)
            victim.stdout.close()
        deadline = time.monotonic() + 60
        while any("ansible-playbook" in line for line in machine.left()):
            assert time.monotonic() < deadline, "the playbook of a killed run must end with it"
            time.sleep(0.1)
        assert machine.left(), "what was killed in the middle has left something to clean up"
        said = machine.demo(*arguments)
        serving.stdin.close()
    assert "removing what an earlier run left" in said
    assert "Pulled from a registry" in said
    assert "second run: 0" in said
    assert re.search(r"container under crun +pvecri-demo-web +serves http://", said)
    assert re.search(r"LXC container +pvecri-demo +running as", said)
    assert machine.left() == []


def test_demo_tells_what_to_do_about_a_registry_without_tls(machine):
    with machine.start(
        *(sys.executable, "-c", SERVE, str(machine.top / "registry")),
        f"oci:{images.busybox_image(machine.top / 'layout').path}:latest",
        stdin=subprocess.PIPE,
    ) as serving:
        reference = serving.stdout.readline().strip()
        with machine.start(str(ROOT / "scripts/demo"), reference, stderr=subprocess.STDOUT) as refused:
            said = refused.communicate(timeout=300)[0]
        serving.stdin.close()
    assert refused.returncode == 1
    assert "server gave HTTP response to HTTPS client" in said
    assert "--insecure" in said
    assert machine.left() == []
