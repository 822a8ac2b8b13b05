# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: to_toml
short_description: Write a dictionary as TOML
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Writes a dictionary as a TOML document (version 1.0) that reads back as the same. Dictionaries at its top
    become sections, those below them inline tables.
positional: _input
options:
  _input:
    description:
      - The dictionary. Values are texts, whole numbers, numbers, booleans, lists and dictionaries; C(null) is
        something that TOML has not, and is refused.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Write a configuration
  ansible.builtin.copy:
    dest: /etc/pvecri/config.toml
    content: "{{ {'log': {'level': 'debug'}} | pvecri.runtime.to_toml }}"
    mode: "0600"
"""

RETURN = r"""
_value:
  description: The document.
  type: str
  sample: |
    [log]
    level = "debug"
"""

import collections.abc as c
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.pvecri.runtime.plugins.module_utils import toml
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec


def to_toml(document: t.Any) -> str:
    """Return a document; raises AnsibleFilterError for what TOML has not, with the place."""
    if not isinstance(document, c.Mapping):
        raise AnsibleFilterError(f"to_toml: a dictionary is wanted, not {type(document).__name__}")
    try:
        return toml.document(document)
    except InvalidSpec as exc:
        raise AnsibleFilterError(f"to_toml: {exc}") from exc


class FilterModule:
    """Give Ansible the filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """Return filters by name."""
        return {"to_toml": to_toml}
