#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: Keep a set of small files at once
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Writes, corrects and removes many small files in one task, in the order of the list.
  - The whole set is looked at before anything is written. What O(files[].validate) refuses, and a file in the
    way that somebody else made, fail the task and change nothing.
  - A file is replaced in one step, and missing directories above it are made. Files belong to the user and
    group that the task runs as.
extends_documentation_fragment:
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.node
options:
  files:
    description:
      - The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description:
          - Absolute path of the file. With O(files[].state=absent) also a directory, which is removed if it
            is empty.
        type: path
        required: true
      content:
        description:
          - The whole text of the file. Needed with O(files[].state=present), without effect otherwise.
          - By default there is none.
        type: str
      mode:
        description:
          - Permission bits, octal, in quotes.
        type: str
        default: "0644"
      state:
        description:
          - Whether the file is there or not.
        type: str
        choices: [present, absent]
        default: present
      owned:
        description:
          - Whether whatever is at this path counts as made by us.
          - Otherwise a file does so that has O(marker) in its first kilobyte, or the very content that is
            wanted.
        type: bool
        default: false
      validate:
        description:
          - Command that has to accept the content, with C(%s) for the path of a file with it.
          - In check mode it is left out if the program is not there.
        type: list
        elements: str
        default: []
      secret:
        description:
          - Whether diff mode must not show the content. Set C(no_log) for the task, too.
        type: bool
        default: false
  marker:
    description:
      - What stands in the first kilobyte of files that we made.
      - A file without it is never replaced, and is left there by O(files[].state=absent).
    type: str
    default: "# Managed by Ansible (pvecri.runtime.cri_endpoint)"
"""

EXAMPLES = r"""
- name: Have one file and not the other
  pvecri.runtime.managed_files:
    files:
      - path: /etc/sysctl.d/60-example.conf
        content: |
          # Managed by Ansible (pvecri.runtime.cri_endpoint)
          net.ipv4.ip_forward = 1
      - path: /etc/sysctl.d/61-example.conf
        state: absent
"""

RETURN = r"""
changed_paths:
  description: The files and directories that were changed, made or removed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/sysctl.d/60-example.conf]
kept:
  description: Files that should be absent and stay, since somebody else made them.
  returned: success
  type: list
  elements: str
  sample: []
"""

import re
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.host import managed

_FILE_SPEC: dict[str, t.Any] = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "mode": {"type": "str", "default": "0644"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "owned": {"type": "bool", "default": False},
    "validate": {"type": "list", "elements": "str", "default": []},
    "secret": {"type": "bool", "default": False, "no_log": False},
}

ARGUMENT_SPEC: dict[str, t.Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": _FILE_SPEC,
        "required_if": [("state", "present", ("content",))],
    },
    "marker": {"type": "str", "default": managed.MARKER},
}


def wanted(entry: dict[str, t.Any]) -> managed.Wanted:
    """Return an entry of the option ``files`` as the core takes it."""
    if not re.fullmatch(r"0?[0-7]{3}|[0-7]{4}", entry["mode"]):
        raise InvalidSpec("files.mode", f"'{entry['mode']}' is no octal mode, such as \"0644\"")
    return managed.Wanted(
        path=entry["path"],
        content=entry["content"] if entry["state"] == "present" else None,
        mode=int(entry["mode"], 8),
        owned=entry["owned"],
        validate=tuple(entry["validate"]),
        secret=entry["secret"],
    )


def perform(params: dict[str, t.Any], context: Context) -> Outcome:
    """Look at all files, then change those that differ."""
    changes, kept = managed.plan([wanted(entry) for entry in params["files"]], params["marker"])
    runner = SubprocessRunner()
    if context.check_mode:
        managed.validate(changes, runner, lenient=True)
    else:
        managed.apply(changes, runner)
    return Outcome(
        bool(changes),
        [change.diff() for change in changes],
        {"changed_paths": [change.wanted.path for change in changes], "kept": kept},
    )


def main() -> t.NoReturn:
    run_module(ARGUMENT_SPEC, perform)


if __name__ == "__main__":
    main()
