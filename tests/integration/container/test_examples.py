# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the examples of the container modules as playbooks, word for word but for one digest.

They run on a machine of namespaces that has what they speak of: registries by these
names, archives and bundles below /srv, and a script in place of systemctl.
"""

from __future__ import annotations

import json
import lzma
import os
import pathlib
import re

import pytest

from ansible_collections.pvecri.runtime.tests.integration.container.test_restarts import SYSTEMCTL
from ansible_collections.pvecri.runtime.tests.support import images, registry
from ansible_collections.pvecri.runtime.tests.support.examples import examples_of, play_of, run_play
from ansible_collections.pvecri.runtime.tests.support.namespaces import made_machine

STATE = "/var/lib/pvecri"

#: The registries of the examples: one with a login and an authority of its own, one for all others.
SERVE = """
import json, sys
from ansible_collections.pvecri.runtime.tests.support.registry import Registry
top, layout = sys.argv[1:3]
private = Registry(
    f"{top}/private", users={"deploy": "token-1"}, tls=True, port=443, names=["reg.example.org"]
)
with Registry(f"{top}/public", port=5000) as public, private:
    public.push(f"oci:{layout}:nginx", "library/nginx:1.27")
    public.push(f"oci:{layout}:sleep", "library/postgres:17")
    public.push(f"oci:{layout}:shop", "shop:7")
    print(private.push(f"oci:{layout}:sleep", "api:1"), flush=True)
    sys.stdin.read()
"""

REGISTRIES = """\
[[registry]]
prefix = "docker.io"
location = "127.0.0.1:5000"
insecure = true
[[registry]]
prefix = "registry.example.com"
location = "127.0.0.1:5000"
insecure = true
"""

SETUP = (
    "mkdir etc work sbin srv",
    "mount -t overlay none -o lowerdir=/etc,upperdir=etc,workdir=work /etc",
    "mount --bind sbin /usr/local/sbin",
    "mount --bind srv /srv",
    "mkdir -p /etc/systemd/system /run/systemd/system /srv/systemd",
    "ln -s /etc/systemd/system /srv/systemd/units",
)

LOOP = "trap 'exit 0' TERM INT QUIT; trap : HUP; while :; do sleep 0.1; done"


def make_layout(path: pathlib.Path) -> str:
    """Make the images that the examples run."""
    layout = images.OciLayout(path)
    web = [
        images.directory("srv"),
        images.File("srv/index.html", b"welcome\n"),
        images.File("bin/curl", b'#!/bin/sh\nexec wget -q -O - "$3"\n', 0o755),
    ]
    job = [images.File("bin/migrate", b'#!/bin/sh\necho "migrating $DATABASE_URL" | cut -c 1-9\n', 0o755)]
    base, env = images.busybox_layer(), ["PATH=/bin"]
    serve = ["sh", "-c", f"httpd -p 80 -h /srv; {LOOP}"]
    layout.add_image("nginx", [base, images.tar_layer(web)], {"Cmd": serve, "Env": env})
    layout.add_image("sleep", [base], {"Cmd": ["sh", "-c", LOOP], "Env": env})
    layout.add_image("shop", [base, images.tar_layer(job)], {"Env": env})
    return layout.path


@pytest.fixture
def machine():
    """A machine that has what the examples speak of."""
    programs = ("crun", "conmon", "skopeo", "iptables", "openssl", registry.PROGRAM, images.BUSYBOX)
    with made_machine(SETUP, places=[STATE], programs=programs) as inner:
        srv = inner.top / "srv"
        inner.write("/etc/hosts", "127.0.0.1 localhost reg.example.org\n")
        inner.write("/etc/containers/registries.conf.d/examples.conf", REGISTRIES)
        inner.write("/usr/local/sbin/systemctl", SYSTEMCTL.format(top="/srv/systemd"), 0o755)
        for name in ("tool", "other", "one"):
            bundle = srv / "bundles" / name
            images.write_rootfs(bundle / "rootfs")
            inner.output("sh", "-ec", f"cd /srv/bundles/{name} && crun spec")
        (srv / "rootfs").mkdir()
        (srv / "rootfs/bookworm.tar.xz").write_bytes(lzma.compress(images.busybox_layer()))
        layout = make_layout(inner.top / "layout")
        with inner.serving(SERVE, str(inner.top), layout) as digest:
            inner.write("/etc/ssl/registry.pem", (inner.top / "private/ca.crt").read_text())
            inner.digest = digest
            yield inner
        root = "/run/pvecri/crun/play"
        inner.output("sh", "-c", f"for name in $(ls {root}); do crun --root {root} delete -f $name; done")


def test_examples_run(machine):
    def run(module, text=None):
        play = play_of(text or examples_of(module), variables)
        printed.append(run_play(play, machine.top, {}, inside=machine.inside))
        return printed[-1]

    printed = []
    variables = {"release": "7", "database_url": "postgres://secret-1", "registry_token": "token-1"}
    run("crun_container")
    assert "migrating" in printed[0]
    # What they leave: a database, a job, and a container that was not started.
    seen = run("crun_container_info")
    assert set(re.findall(r'"name": "([^"]+)"', seen)) >= {"db", "migrate-7", "tool"}
    bundles = re.sub(r"api@sha256:[0-9a-f]{64}", f"api@{machine.digest}", examples_of("oci_bundle"))
    assert machine.digest in bundles
    run("oci_bundle", bundles)
    assert '"valid": true' in run("oci_bundle_info")
    states = machine.output("crun", "--root", "/run/pvecri/crun/play", "list", "--format", "json")
    assert {item["id"]: item["status"] for item in json.loads("\n".join(states))} == {
        "db": "running",
        "migrate-7": "stopped",
        "tool": "created",
    }
    left = sorted(os.listdir(machine.top / "place0/bundles/play"))
    assert left == ["api", "build", "db", "migrate-7"]
    assert not any(secret in text for secret in ("secret-1", "token-1") for text in printed)
