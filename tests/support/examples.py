# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the EXAMPLES of a module as a playbook."""

from __future__ import annotations

import importlib
import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

BIN = pathlib.Path(sys.executable).parent


def examples_of(module: str) -> str:
    """Return the text of a module's EXAMPLES."""
    path = f"ansible_collections.pvecri.runtime.plugins.modules.{module}"
    return str(importlib.import_module(path).EXAMPLES)


def play_of(tasks: str, variables: t.Mapping[str, t.Any] | None = None) -> str:
    """Return a playbook on localhost with the text of ``tasks``."""
    indented = "\n".join(f"    {line}" if line.strip() else "" for line in tasks.strip().splitlines())
    given = json.dumps({"ansible_python_interpreter": sys.executable, **(variables or {})})
    return f"- hosts: localhost\n  gather_facts: false\n  vars: {given}\n  tasks:\n{indented}\n"


def run_play(
    play: str, folder: pathlib.Path, environment: t.Mapping[str, str], *, inside: t.Sequence[str] = ()
) -> str:
    """Run a playbook and return what it printed; fails the test if a task fails.

    ``inside`` is put before the command, such as nsenter with its arguments.
    """
    file = folder / "play.yml"
    file.write_text(play)
    collections = next(p for p in sys.path if os.path.isdir(os.path.join(p, "ansible_collections", "pvecri")))
    done = subprocess.run(
        [*inside, BIN / "ansible-playbook", "-v", "--diff", "-i", "localhost,", "-c", "local", file],
        env={
            "PATH": f"{BIN}:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(folder),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_COLLECTIONS_PATH": collections,
            "ANSIBLE_NOCOLOR": "1",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert re.search(r"failed=0 ", printed), printed
    return printed
