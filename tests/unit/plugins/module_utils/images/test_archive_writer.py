# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse images whose configuration and layers do not belong together, and leave nothing."""

from __future__ import annotations

import json
import types

import pytest

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, WrongState
from ansible_collections.pvecri.runtime.plugins.module_utils.images.archive_writer import (
    archive_config,
    write_archive,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.model import Image, ImageConfig

DIGEST = f"sha256:{'0' * 64}"
CONFIG = ImageConfig(
    architecture="arm64",
    variant="v8",
    env=(("NOTE", "one\ntwo"),),
    user="web",
    command=("sh",),
    cwd="/srv",
    stop_signal="SIGINT",
)


def files_with(document):
    """Return a store whose image has this configuration."""
    return types.SimpleNamespace(config_document=lambda _image: document)


def test_archive_config_has_platform_and_layers_alone():
    document = json.loads(archive_config(Image(id="0", digest=DIGEST, config=CONFIG), [DIGEST, DIGEST]))
    history = document.pop("history")
    assert document == {
        "architecture": "arm64",
        "variant": "v8",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST, DIGEST]},
    }
    assert len(history) == 2


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"no JSON", "lists no layers"),
        (b"[]", "lists no layers"),
        (b"{}", "lists no layers"),
        (b'{"rootfs": {"diff_ids": 1}}', "lists no layers"),
        (json.dumps({"rootfs": {"diff_ids": ["sha512:00"]}}).encode(), "another digest"),
        (json.dumps({"rootfs": {"diff_ids": [DIGEST, DIGEST]}}).encode(), "1 layers in the store, 2 in its"),
    ],
)
def test_write_archive_refuses_a_configuration_that_does_not_fit(tmp_path, document, words):
    image = Image(id="0", digest=DIGEST, layer_dirs=("/nowhere/diff",))
    with pytest.raises(WrongState, match=words):
        write_archive(image, files_with(document), str(tmp_path / "x.tar"))
    assert list(tmp_path.iterdir()) == []


def test_write_archive_of_an_image_without_layers(tmp_path):
    document = json.dumps({"rootfs": {"diff_ids": []}}).encode()
    image = Image(id="0", digest=DIGEST, config=CONFIG)
    size = write_archive(image, files_with(document), str(tmp_path / "x.tar"))
    assert (tmp_path / "x.tar").stat().st_size == size


def test_write_archive_where_there_is_no_directory_says_so(tmp_path):
    document = json.dumps({"rootfs": {"diff_ids": []}}).encode()
    with pytest.raises(CoreError, match="cannot be written"):
        write_archive(Image(id="0", digest=DIGEST), files_with(document), str(tmp_path / "none" / "x.tar"))
