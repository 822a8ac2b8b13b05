# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an image for every name that critest pulls, and fill a registry's data directory with them.

    images.py PROGRAMS DIRECTORY

PROGRAMS holds what scripts/lib/conformance_images.sh has compiled: busybox, pause, webserver and
nonewprivs.  DIRECTORY gets `data`, the storage of docker-registry.  Names are what follows the registry's
host in critest's references: this one registry is the mirror of every host that critest names.

Images differ where critest counts or compares them.  Each is an index for two platforms, since that is what
registries serve; OCI's and Docker's media types are both among them.
"""

from __future__ import annotations

import dataclasses
import pathlib
import platform
import subprocess
import sys
import tempfile
import typing as t

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from support.images import File, OciLayout, directory, hard_link, symlink, tar_layer
from support.registry import Registry

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
ARCHITECTURE = _MACHINES.get(platform.machine(), platform.machine())
OTHER = "arm64" if ARCHITECTURE != "arm64" else "amd64"

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """\
root:x:0:
daemon:x:1:
www-data:x:33:
nogroup:x:65534:
"""
MEMBER = "default-user:x:1000:1000:member of a group of the image:/home/default-user:/bin/sh\n"
MEMBER_GROUPS = "default-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n"

CRI_TOOLS = "k8s-staging-cri-tools"
E2E = "e2e-test-images"


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: the names it is pushed to, its layers above the base, its configuration."""

    names: tuple[str, ...]
    layers: tuple[bytes, ...]
    config: dict[str, t.Any]
    docker: bool = False


class Maker:
    """Layers of the compiled programs."""

    def __init__(self, programs: pathlib.Path) -> None:
        self._programs = programs
        self.base = self._base(PASSWD, GROUP)
        self.shell = {
            "Cmd": ["sh"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        }

    def _read(self, name: str) -> bytes:
        return (self._programs / name).read_bytes()

    def _base(self, passwd: str, group: str) -> bytes:
        """Return busybox with a link for each of its applets, users, and the usual directories."""
        listing = subprocess.run(
            [self._programs / "busybox", "--list"], check=True, capture_output=True, text=True
        )
        names = (
            "bin",
            "dev",
            "etc",
            "home",
            "proc",
            "root",
            "run",
            "sys",
            "usr",
            "usr/sbin",
            "usr/bin",
            "var",
        )
        return tar_layer(
            [
                *(directory(name) for name in names),
                directory("tmp", 0o1777),
                symlink("var/run", "../run"),
                File("bin/busybox", self._read("busybox"), 0o755),
                # Not symbolic links: a mount over one of them would cover busybox itself.
                *(
                    hard_link(f"bin/{applet}", "bin/busybox", 0o755)
                    for applet in listing.stdout.split()
                    if applet != "busybox"
                ),
                File("etc/passwd", passwd.encode()),
                File("etc/group", group.encode()),
            ]
        )

    def shell_image(self, *names: str, mark: str = "", docker: bool = False, **config: t.Any) -> Image:
        """Return busybox, with a file ``mark`` that makes it another image than the rest."""
        marks = (tar_layer([File(mark, b"")]),) if mark else ()
        return Image(names, (self.base, *marks), {**self.shell, **config}, docker)

    def pause_image(self, version: str) -> Image:
        """Return the image of a pod's first process; each version is another image."""
        layer = tar_layer([File("pause", self._read("pause"), 0o755), File(f"etc/pause-{version}", b"")])
        return Image((f"pause:{version}",), (layer,), {"Entrypoint": ["/pause"], "Env": ["PATH=/"]})

    def server_image(self, name: str, program: str, port: int, *, docker: bool = False) -> Image:
        """Return a web server that runs as ``program``; its spare arguments leave room for process titles."""
        path = f"/usr/sbin/{program}"
        layer = tar_layer([File(path.lstrip("/"), self._read("webserver"), 0o755)])
        config = {
            **self.shell,
            "Entrypoint": [program, str(port)],
            "Cmd": ["-g", "daemon off;"],
            "ExposedPorts": {f"{port}/tcp": {}},
        }
        return Image((name,), (self.base, layer), config, docker)

    def all(self) -> list[Image]:
        """Return every image that critest names."""
        users = {
            "uid": "1002",
            "username": "www-data",
            "uid-group": "1003:1004",
            "username-group": "www-data:1004",
        }
        nnp = tar_layer([File("nnp", self._read("nonewprivs"), 0o4755)])
        member = Image(
            (f"{CRI_TOOLS}/test-image-predefined-group:latest",),
            (
                self._base(PASSWD + MEMBER, GROUP + MEMBER_GROUPS),
                tar_layer([directory("home/default-user", uid=1000)]),
            ),
            {**self.shell, "User": "1000"},
        )
        return [
            *(self.pause_image(version) for version in ("3.9", "3.10", "3.10.1", "3.10.2")),
            self.shell_image(f"{E2E}/busybox:1.29-2", docker=True),
            self.server_image(f"{E2E}/nginx:1.14-2", "nginx", 80, docker=True),
            self.server_image(f"{E2E}/httpd:2.4.39-4", "httpd", 80),
            Image(
                (f"{E2E}/nonewprivs:1.3",),
                (self.base, nnp),
                {**self.shell, "Entrypoint": ["/nnp"], "Cmd": None},
            ),
            *(
                self.shell_image(f"{CRI_TOOLS}/{name}:latest", mark=name, docker=name.endswith("-2"))
                for name in (f"test-image-{mark}" for mark in ("1", "2", "3", "latest", "digest"))
            ),
            self.shell_image(*(f"{CRI_TOOLS}/test-image-tags:{tag}" for tag in "123"), mark="same-image"),
            *(self.shell_image(f"{CRI_TOOLS}/test-image-tag:{tag}", mark=tag) for tag in ("test", "all")),
            *(
                self.shell_image(f"{CRI_TOOLS}/test-image-user-{name}:latest", mark=f"user-{name}", User=user)
                for name, user in users.items()
            ),
            member,
            *(
                self.server_image(f"{CRI_TOOLS}/hostnet-nginx{suffix}:latest", "nginx", 12003)
                for suffix in ("", f"-{ARCHITECTURE}")
            ),
        ]


def push(registry: Registry, layout: OciLayout, image: Image) -> None:
    """Push one image as an index for this machine's platform and another one, to all its names."""
    members = {
        platform_: layout.add_image(None, image.layers, image.config, architecture=platform_)
        for platform_ in (ARCHITECTURE, OTHER)
    }
    layout.add_index("it", members)
    for name in image.names:
        registry.push(f"oci:{layout.path}:it", name, everything=True, docker=image.docker)


def main() -> None:
    programs, target = map(pathlib.Path, sys.argv[1:])
    with tempfile.TemporaryDirectory(prefix="pvecri-images-") as scratch, Registry(target) as registry:
        for number, image in enumerate(Maker(programs).all()):
            push(registry, OciLayout(f"{scratch}/{number}"), image)
            print(*image.names)


if __name__ == "__main__":
    main()
