# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Share image services, registries and a small layout with the tests of this directory."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest

from ansible_collections.pvecri.runtime.tests.support.host import make_registry
from ansible_collections.pvecri.runtime.tests.support.image_service import images
from ansible_collections.pvecri.runtime.tests.support.images import File, OciLayout, tar_layer
from ansible_collections.pvecri.runtime.tests.support.layout_registry import LayoutRegistry

# The fixtures of this directory.
__all__ = ["images", "make_registry"]

#: Bigger than the bytes that a stalling registry sends; does not shrink much.
NOISE = bytes(range(256)) * 4096


@pytest.fixture
def layout(tmp_path: pathlib.Path) -> OciLayout:
    """Images v1 to v3 of one small layer each, without programs."""
    made = OciLayout(tmp_path / "layout")
    for number in (1, 2, 3):
        content = [File("version", str(number).encode()), File("noise", NOISE)]
        made.add_image(f"v{number}", [tar_layer(content)], {"Cmd": ["sh"]}, compress=False)
    return made


@pytest.fixture
def serve(layout: OciLayout) -> t.Iterator[t.Callable[..., LayoutRegistry]]:
    """Return a function that starts a registry with the images of the layout."""
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(LayoutRegistry(layout))
