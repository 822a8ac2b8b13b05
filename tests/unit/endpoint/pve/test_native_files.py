# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the file of a template by what clients call it."""

from __future__ import annotations

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from pvecri.images.names import parse_asked
from pvecri.images.native_names import NativeName, is_native_text, parse_native
from pvecri.pve.native_files import choose, parse_file

FILES = [
    "debian-12-standard_12.2-1_amd64.tar.zst",
    "debian-12-standard_12.11-1_amd64.tar.zst",
    "debian-12-standard_12.12-1_arm64.tar.zst",
    "debian-11-turnkey-core_17.1-1_amd64.tar.gz",
    "Mixed-Case_1.0~rc1+b2_all.tar.xz",
    "own.tar.zst",
    "pvecri_app_0123.tar",
]


@pytest.mark.parametrize(
    ("text", "architecture", "file"),
    [
        ("lxc/debian-12-standard", "amd64", FILES[1]),
        ("lxc/debian-12-standard:latest", "arm64", FILES[2]),
        ("lxc/debian-12-standard:12.2-1", "amd64", FILES[0]),
        ("lxc/debian-12-standard:12.12-1", "amd64", None),
        ("lxc/debian-11-turnkey-core", "amd64", FILES[3]),
        ("lxc/mixed-case:1.0-rc1-b2", "riscv64", FILES[4]),
        ("lxc/own", "amd64", None),
        ("lxc/debian", "amd64", None),
    ],
)
def test_choose(text, architecture, file):
    found = choose(FILES, parse_native(text), architecture)
    assert (found.file if found else None) == file


def test_parse_file_of_another_form_is_none():
    assert parse_file("debian.tar.zst") is None
    assert parse_file("debian-12-standard_12.2-1_amd64.iso") is None


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("lxc/a", "lxc/a:latest"),
        ("lxc/a:1", "lxc/a:1"),
        (f"lxc/a@sha256:{'0' * 64}", f"lxc/a@sha256:{'0' * 64}"),
        (f"lxc/a:1@sha256:{'0' * 64}", f"lxc/a@sha256:{'0' * 64}"),
    ],
)
def test_parse_native(text, canonical):
    assert is_native_text(text)
    assert parse_native(text).canonical == canonical
    assert parse_asked(text).native == canonical


@pytest.mark.parametrize(
    "text", ["docker.io/lxc/a:1", "localhost/lxc/a", "lxc/a/b", "lxc", "lxcx/a", "a/lxc/b"]
)
def test_names_of_images_are_none_of_templates(text):
    assert not is_native_text(text)
    assert parse_asked(text).native == ""


@pytest.mark.parametrize("text", ["lxc/", "lxc/A", "lxc/a:", "lxc/a@sha256:1"])
def test_parse_native_refuses_what_is_no_name(text):
    with pytest.raises(InvalidSpec):
        parse_native(text, "image.image")


def test_native_name_with_another_tag():
    assert NativeName("a", "1").tagged("2") == "lxc/a:2"
