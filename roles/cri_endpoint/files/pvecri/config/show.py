# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a configuration as TOML that reads back as the same, with where each value is from."""

from __future__ import annotations

import dataclasses

from ansible_collections.pvecri.runtime.plugins.module_utils import toml
from pvecri.config.load import Loaded
from pvecri.config.model import Config


def show(loaded: Loaded, *, with_docs: bool = False) -> str:
    """Return the effective configuration; ``with_docs`` adds what each key means."""
    lines = [f"# effective configuration; file: {loaded.path or 'none, all of it is defaults'}"]
    for section in dataclasses.fields(Config):
        table = getattr(loaded.config, section.name)
        lines += ["", f"[{section.name}]"]
        for key in dataclasses.fields(table):
            item = getattr(table, key.name)
            value = f"0o{item:03o}" if key.metadata["octal"] else toml.value(item)
            line = loaded.lines.get((section.name, key.name))
            if with_docs:
                lines += ["", f"# {key.metadata['doc']}"]
            lines.append(f"{key.name} = {value}  # {f'line {line}' if line else 'default'}")
    return "\n".join(lines) + "\n"
