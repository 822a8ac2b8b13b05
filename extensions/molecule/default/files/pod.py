# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a pod with one container up, look at it, and take it away, by crictl on the host.

pod.py up NAME         it serves a page, which is fetched; what it is stays in /root/pods
pod.py same NAME       it runs as the same process, executes a command, serves its page, and lists have it
pod.py states NAME     print the states of pod and container
pod.py down NAME       remove it, and see that it is gone

Needs only Python's standard library: it runs on the host.
"""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import time
import typing as t
import urllib.request

FOLDER = pathlib.Path("/root/pods")
ARCHIVE = "/root/image.tar"
IMAGE = "localhost/molecule:1"
SCRIPT = "echo up; echo pod > /page; exec httpd -f -p 8080 -h /"
SERVES_S = 120


def run(*argv: str) -> str:
    """Return what a command prints; end with what it said when it fails."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(argv)} ended with {done.returncode}: {done.stderr}{done.stdout}")
    return done.stdout.strip()


def crictl(*argv: str) -> str:
    """Run crictl as an administrator does, who has no configuration but the role's."""
    return run("/usr/local/bin/crictl", *argv)


def expect(what: str, found: object, wanted: object) -> None:
    """End when something is not what it has to be."""
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def inspect(command: str, ident: str) -> t.Any:
    """Return what crictl knows of a pod or a container."""
    return json.loads(crictl(command, ident))


def fetch(address: str) -> str:
    """Return the pod's page, which may take a moment to come."""
    deadline = time.monotonic() + SERVES_S
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}:8080/page", timeout=30) as answer:
                return str(answer.read().decode().strip())
        except OSError as exc:
            if time.monotonic() > deadline:
                sys.exit(f"{address} does not serve its page: {exc}")
            time.sleep(0.1)


def spec(name: str, kind: str, content: object) -> str:
    """Write what crictl is to make; return the path."""
    path = FOLDER / f"{name}.{kind}.json"
    path.write_text(json.dumps(content))
    return str(path)


def up(name: str) -> None:
    """Bring it up, and note what it is."""
    FOLDER.mkdir(exist_ok=True)
    pod = {
        "metadata": {"name": name, "namespace": "molecule", "uid": name, "attempt": 0},
        "log_directory": str(FOLDER / f"{name}.logs"),
        "linux": {},
    }
    container = {
        "metadata": {"name": "main", "attempt": 0},
        "image": {"image": IMAGE},
        "command": ["/bin/sh", "-c", SCRIPT],
        "log_path": "main.log",
        "linux": {},
    }
    run("/usr/local/sbin/pvecri", "images", "load", ARCHIVE, "--name", IMAGE)
    pod_path = spec(name, "pod", pod)
    pod_id = crictl("runp", pod_path)
    container_id = crictl("create", pod_id, spec(name, "container", container), pod_path)
    crictl("start", container_id)
    known = {
        "pod": pod_id,
        "container": container_id,
        "pid": inspect("inspect", container_id)["info"]["pid"],
        "address": inspect("inspectp", pod_id)["status"]["network"]["ip"],
    }
    spec(name, "known", known)
    expect("the page", fetch(known["address"]), "pod")
    expect("the log", crictl("logs", container_id), "up")
    print(json.dumps(known))


def same(name: str, known: dict[str, t.Any]) -> None:
    """See that nobody has restarted it."""
    found = inspect("inspect", known["container"])
    expect(f"the state of {name}", found["status"]["state"], "CONTAINER_RUNNING")
    expect(f"the process of {name}", found["info"]["pid"], known["pid"])
    expect("a command's output", crictl("exec", "--sync", known["container"], "cat", "/page"), "pod")
    expect("the page", fetch(known["address"]), "pod")
    for listing in ("stats", "statsp", "ps", "pods", "images", "info"):
        json.loads(crictl(listing, "--output", "json"))


def states(known: dict[str, t.Any]) -> None:
    """Print what the endpoint takes it for."""
    pod, container = inspect("inspectp", known["pod"]), inspect("inspect", known["container"])
    print(pod["status"]["state"], container["status"]["state"])


def down(known: dict[str, t.Any]) -> None:
    """Stop and remove it."""
    crictl("stop", "--timeout", "1", known["container"])
    crictl("rm", known["container"])
    crictl("stopp", known["pod"])
    crictl("rmp", known["pod"])
    expect("pods that are left", crictl("pods", "--id", known["pod"], "--quiet"), "")
    expect("containers that are left", crictl("ps", "--all", "--id", known["container"], "--quiet"), "")


def main() -> None:
    """Do what the arguments say."""
    action, name = sys.argv[1:]
    if action == "up":
        up(name)
        return
    known = json.loads((FOLDER / f"{name}.known.json").read_text())
    if action == "same":
        same(name, known)
    elif action == "states":
        states(known)
    elif action == "down":
        down(known)
    else:
        sys.exit(__doc__)


main()
