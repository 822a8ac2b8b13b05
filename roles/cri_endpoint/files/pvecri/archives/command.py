# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out ``pvecri images load`` and ``pvecri images list``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import sys
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError, InvalidSpec
from pvecri.archives.loading import Loaded, Loader, store_of
from pvecri.config.load import load
from pvecri.images.catalogue import Catalogue, Entry
from pvecri.pve.parts import natives_of

_MIB = 1 << 20


def run_load(options: argparse.Namespace) -> int:
    """Load every file that can be loaded; return 1 when one could not."""
    if options.name is not None and len(options.files) > 1:
        raise InvalidSpec(
            "name", f"{len(options.files)} files cannot all have one name", hint="Load one by one"
        )
    config = load(options.config).config
    loader = Loader(store_of(config, SubprocessRunner()), signature_policy=config.images.policy_file or None)
    loaded: list[Loaded] = []
    problems: list[str] = []
    for file in options.files:
        try:
            for each in loader.load(file, options.name):
                loaded.append(each)
                if not options.json:
                    print(f"{'loaded' if each.changed else 'unchanged':<9} {each.name} {each.id}", flush=True)
        except CoreError as exc:
            problems.append(str(exc))
            print(f"error: {exc}", file=sys.stderr)
    if options.json:
        changed = any(each.changed for each in loaded)
        images = [dataclasses.asdict(each) for each in loaded]
        print(json.dumps({"changed": changed, "images": images, "problems": problems}, indent=1))
    return 1 if problems else 0


def run_list(options: argparse.Namespace) -> int:
    """Print the images that clients of the endpoint see; it need not run."""
    config = load(options.config).config
    pinned = [*config.images.pinned, *([config.images.pause_image] if config.images.pause_image else [])]
    runner, log = SubprocessRunner(), logging.getLogger(__name__)
    store = store_of(config, runner)
    catalogue = Catalogue(store, pinned, log, natives_of(config.pve, store.paths, log))
    images = sorted((_plain(entry) for entry in catalogue.snapshot().by_id.values()), key=_order)
    if options.json:
        print(json.dumps({"images": images}, indent=1))
        return 0
    for image in images:
        for name in image["names"] or ["<none>"]:
            print(f"{image['id'][7:20]}  {image['size_bytes'] / _MIB:9.1f} MiB  {name}")
    return 0


def _plain(entry: Entry) -> dict[str, t.Any]:
    return {
        "id": entry.message.id,
        "names": list(entry.message.repo_tags),
        "digests": list(entry.message.repo_digests),
        "size_bytes": entry.message.size,
        "pinned": entry.is_pinned,
    }


def _order(image: dict[str, t.Any]) -> tuple[t.Any, ...]:
    return (not image["names"], image["names"], image["id"])
