# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say how the daemon is started from this checkout: with the host's Python, measured as the tests are."""

from __future__ import annotations

import atexit
import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile
import typing as t

PYTHON = "/usr/bin/python3"

#: Directory with ``ansible_collections``, and the one with ``pvecri``.
_COLLECTIONS = pathlib.Path(__file__).parents[5]
_PACKAGE = pathlib.Path(__file__).parents[2] / "roles/cri_endpoint/files"


def serve_argv(config_file: str, *, profile: str | None = None) -> list[str]:
    """Return the argument list of the daemon; ``profile`` is a file for cProfile's figures."""
    if profile and measured() is None:
        return [PYTHON, "-P", "-m", "cProfile", "-o", profile, *_serve(config_file)]
    return command_argv(*_serve(config_file)[2:])


def _serve(config_file: str) -> list[str]:
    return ["-m", "pvecri", "serve", "--config", config_file]


def command_argv(*arguments: str) -> list[str]:
    """Return the argument list of a command of ``pvecri``."""
    options = measured()
    measuring = [] if options is None else ["-m", "coverage", "run", *options]
    return [PYTHON, "-P", *measuring, "-m", "pvecri", *arguments]


def environment() -> dict[str, str]:
    """Return the environment of the daemon."""
    places = [str(_COLLECTIONS), str(_PACKAGE)]
    if measured() is not None:
        places.append(coverage_package())
    passed_on = {name: os.environ[name] for name in ("PYTHONPYCACHEPREFIX",) if name in os.environ}
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": ":".join(places),
        **passed_on,
    }


def measured() -> list[str] | None:
    """Return the options by which coverage measures the daemon as it measures these tests, if it does."""
    # Not imported for it: what is not loaded does not measure.
    if "coverage" not in sys.modules:
        return None
    current = sys.modules["coverage"].Coverage.current()
    if current is None:
        return None
    config = current.config
    rc_file = ["--rcfile", config.config_file] if config.config_file else []
    data_file = f"{os.path.abspath(config.data_file)}.endpoint"
    return [*rc_file, "--data-file", data_file, "--parallel-mode"]


@functools.lru_cache(maxsize=1)
def coverage_package() -> str:
    """Return a directory that has nothing but coverage, for the host's Python that runs the daemon."""

    directory = tempfile.mkdtemp(prefix="pvecri-coverage-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    os.symlink(os.path.dirname(sys.modules["coverage"].__file__ or ""), f"{directory}/coverage")
    return directory


def toml(sections: t.Mapping[str, t.Mapping[str, t.Any]]) -> str:
    lines = []
    for section, keys in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = {_value(value)}" for key, value in keys.items()]
    return "\n".join(lines) + "\n"


def _value(value: t.Any) -> str:
    if isinstance(value, dict):
        inner = ", ".join(f"{json.dumps(key)} = {_value(item)}" for key, item in value.items())
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    # Strings, numbers and truth values are written alike in JSON and TOML.
    return json.dumps(value)
