# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Give ``ansible-test --venv`` its bootstrap script for pip, made from the wheel on PyPI.

ansible-test wants to download that script from a host of its own.  A network that
reaches only a package index has no such host, so the script is laid where
ansible-test looks for one that it downloaded earlier: it runs pip out of the
wheel and lets it install itself.
"""

from __future__ import annotations

import importlib.util
import pathlib
import re
import subprocess
import sys

SCRIPT = '''"""Install pip from the wheel beside this file."""
import os
import sys

wheel = os.path.join(os.path.dirname(os.path.abspath(__file__)), {wheel!r})
sys.path.insert(0, wheel)

from pip._internal.cli.main import main

options = [arg for arg in sys.argv[1:] if arg not in ("--no-setuptools", "--no-wheel")]
sys.exit(main(["install", "--force-reinstall", wheel, *options]))
'''


def wanted_version() -> str:
    """Return the version of pip that the installed ansible-test asks for."""
    spec = importlib.util.find_spec("ansible_test")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("ansible-test is not installed beside this Python")
    source = pathlib.Path(spec.submodule_search_locations[0], "_internal", "python_requirements.py")
    found = re.search(r"\bpip=['\"]([0-9.]+)['\"]", source.read_text())
    if found is None:
        raise SystemExit(f"{source} does not name the version of pip: this ansible-test is not known")
    return found[1]


def main() -> None:
    """Lay the script and its wheel, unless they are there."""
    version = wanted_version()
    cache = pathlib.Path.home() / ".ansible/test/cache"
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    if script.exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*download, "-d", str(cache), f"pip=={version}"], check=True)
    temporary = script.with_suffix(".new")
    temporary.write_text(SCRIPT.format(wheel=f"pip-{version}-py3-none-any.whl"))
    temporary.rename(script)


if __name__ == "__main__":
    main()
