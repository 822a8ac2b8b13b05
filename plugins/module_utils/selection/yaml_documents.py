# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read plain data from YAML, refusing what a reader would not expect of it; needs PyYAML."""

from __future__ import annotations

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import MissingDependency
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import quoted

try:
    import yaml
except ImportError:  # pragma: no cover - Ansible itself needs PyYAML; a host without it has none
    yaml = None  # type: ignore[assignment]


def read(text: str) -> t.Any:
    """Return the data of one YAML document; raises ValueError, for a key that stands twice too."""
    if yaml is None:
        raise MissingDependency(
            "a policy in YAML needs PyYAML",
            hint="Install the Debian package 'python3-yaml', or write the policy in TOML or JSON",
        )
    try:
        return _document(text)
    except yaml.YAMLError as exc:
        raise ValueError(" ".join(str(exc).split())) from exc


def _document(text: str) -> t.Any:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        _refuse_double_keys(root, set())
        return None if root is None else loader.construct_document(root)
    finally:
        loader.dispose()


def _refuse_double_keys(node: t.Any, seen: set[int]) -> None:
    """Walk the nodes, as the constructor would let the last of two equal keys win."""
    if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
        return
    seen.add(id(node))
    if not isinstance(node, yaml.MappingNode):
        for item in node.value:
            _refuse_double_keys(item, seen)
        return
    keys = set()
    for key, value in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in keys:
                line = key.start_mark.line + 1
                raise ValueError(f"the key {quoted(key.value)} stands twice in one mapping (line {line})")
            keys.add(key.value)
        _refuse_double_keys(value, seen)
