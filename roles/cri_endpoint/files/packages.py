# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep on record which Debian packages the role brought, and find those that nothing else needs.

usage: packages.py note RECORD         before an installation: remember which packages there are
       packages.py came RECORD         after it: add those that came to the record
       packages.py removable RECORD    print, as a JSON list, what can go without anything else going
"""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

_FORM = "${db:Status-Status}\t${binary:Package}\t${Essential}\t${Pre-Depends}, ${Depends}\t${Provides}\n"


class Package(t.NamedTuple):
    """An installed package."""

    is_essential: bool
    #: What it needs: for each need the names of which one has to be there.
    needs: tuple[frozenset[str], ...]
    provides: frozenset[str]


def installed() -> dict[str, Package]:
    """Return what is installed, by name without architecture."""
    said = subprocess.run(
        ["/usr/bin/dpkg-query", "--show", f"--showformat={_FORM}"], check=True, capture_output=True, text=True
    )
    return parse(said.stdout)


def parse(text: str) -> dict[str, Package]:
    """Return the packages of dpkg-query's output."""
    packages = {}
    for line in text.splitlines():
        status, name, essential, needs, provides = line.split("\t")
        if status == "installed":
            packages[_name(name)] = Package(
                essential == "yes",
                tuple(frozenset(map(_name, need.split("|"))) for need in needs.split(",") if need.strip()),
                frozenset(_name(part) for part in provides.split(",") if part.strip()),
            )
    return packages


def removable(brought: t.Iterable[str], packages: t.Mapping[str, Package]) -> list[str]:
    """Return those of ``brought`` without which all other packages have what they need."""
    going = {name for name in brought if name in packages and not packages[name].is_essential}
    while True:
        staying = {name: package for name, package in packages.items() if name not in going}
        there = set(staying).union(*(package.provides for package in staying.values()))
        wanted = {
            name
            for package in staying.values()
            for need in package.needs
            if not need & there
            for name in going
            if name in need or packages[name].provides & need
        }
        if not wanted:
            return sorted(going)
        going -= wanted


def _name(text: str) -> str:
    return re.split(r"[\s(:]", text.strip(), maxsplit=1)[0]


def _read(path: pathlib.Path) -> dict[str, list[str]]:
    try:
        content: dict[str, list[str]] = json.loads(path.read_text())
    except FileNotFoundError:
        content = {}
    return content


def _write(path: pathlib.Path, content: dict[str, list[str]]) -> None:
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    with temporary.open("w") as stream:
        json.dump(content, stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(path)


def main(argv: t.Sequence[str]) -> int:
    """Do what the first argument says."""
    act, path = argv[0], pathlib.Path(argv[1])
    record = _read(path)
    if act == "note":
        # What a run that was cut short has noted counts: its packages came after that.
        if "before" not in record:
            _write(path, {**record, "before": sorted(installed())})
    elif act == "came":
        came = set(installed()).difference(record.pop("before", installed()))
        _write(path, {"brought": sorted(came.union(record.get("brought", [])))})
    elif act == "removable":
        print(json.dumps(removable(record.get("brought", []), installed())))
    else:
        print(__doc__, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
