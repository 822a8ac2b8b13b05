# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare the reader of image references with the one in skopeo, which fetches the images."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import ImageReference

HEX = "0123456789abcdef"

pytestmark = pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")


def skopeo_accepts(reference: str) -> bool:
    """Let skopeo parse a destination; it then fails on the source, which does not exist."""
    done = subprocess.run(
        ["skopeo", "copy", "dir:/nonexistent", f"docker://{reference}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    refused = "Invalid destination name" in done.stderr
    assert refused or "/nonexistent" in done.stderr, done.stderr
    return not refused


@pytest.mark.parametrize(
    "text",
    [
        "nginx",
        "nginx:1.25",
        f"nginx@sha256:{HEX * 4}",
        f"a/b@sha512:{HEX * 8}",
        f"nginx@sha256:{HEX * 3}",
        f"nginx@sha512:{HEX * 4}",
        f"nginx@md5:{HEX * 2}",
        "nginx@sha256:" + "A" * 64,
        "Nginx",
        "MyOrg/app",
        "Reg.Example.com:5000/app",
        "reg:5000/app",
        "reg:5000",
        "localhost/app",
        "a__b/c---d/e.f/g_h",
        "a___b",
        "a..b",
        "a._b",
        "-a",
        "a-",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a:b/c",
        "a:-b",
        "a:_b",
        "a:" + "t" * 128,
        "a:" + "t" * 129,
        "quay.io/" + "r" * 247,
        "quay.io/" + "r" * 248,
        "library/" + "r" * 237,
        "r" * 237,
        "f" * 63,
        "f" * 64,
        "f" * 64 + ":1",
        "a-.example/c",
        "192.0.2.7:5000/a",
        "lxc/debian-12:bookworm",
        "docker.io/x.org/b",
        "a b",
        "a\u00e9",
    ],
)
def test_parse_accepts_exactly_what_skopeo_accepts(text):
    try:
        reference = ImageReference.parse(text)
    except InvalidSpec:
        assert not skopeo_accepts(text)
    else:
        assert skopeo_accepts(text)
        assert skopeo_accepts(reference.pullable)
