# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Share the real store, images and registries with the tests of this directory."""

from __future__ import annotations

from ansible_collections.pvecri.runtime.tests.support.host import (
    busybox,
    busybox_path,
    core,
    make_registry,
    null_device,
)

# The fixtures of this directory.
__all__ = ["busybox", "busybox_path", "core", "make_registry", "null_device"]
