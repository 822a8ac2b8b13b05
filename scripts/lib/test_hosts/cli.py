# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of scripts/hosts."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import typing as t
from pathlib import Path

from test_hosts import keeper, machine, roots
from test_hosts.ground import HostError


def main() -> int:
    """Run one command; return the exit code."""
    args = _parser().parse_args()
    try:
        code: int | None = args.command(args)
    except HostError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/hosts", description="Debian hosts with systemd for tests.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, command: t.Callable[[argparse.Namespace], int | None], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    sub = add("up", _up, "make a host, or power it on; prints how to reach it as JSON")
    sub.add_argument("name")
    sub.add_argument("--release", choices=roots.RELEASES, default=roots.RELEASES[0])
    sub = add(
        "down", _down, "remove hosts with all that belongs to them; patterns such as 'mine-*' are taken"
    )
    sub.add_argument("name", nargs="+")
    sub = add("reboot", _reboot, "reboot a host and wait until it answers")
    sub.add_argument("name")
    sub.add_argument("--hard", action="store_true", help="cut its power instead of asking it")
    sub = add("ssh", _ssh, "run a command on a host, or a shell")
    sub.add_argument("name")
    sub.add_argument("argv", nargs=argparse.REMAINDER, metavar="COMMAND")
    add("list", _list, "print every host of the machine as JSON, one a line")
    sub = add("inventory", _inventory, "print an inventory for Ansible (JSON) of the hosts named")
    sub.add_argument("name", nargs="+")
    sub = add("roots", _roots, "make the root file systems without booting a host")
    sub.add_argument("--release", choices=roots.RELEASES, action="append")
    sub = add("keep", _keep, argparse.SUPPRESS)
    sub.add_argument("name")
    sub.add_argument("index", type=int)
    sub.add_argument("root", type=Path)
    return parser


def _up(args: argparse.Namespace) -> None:
    print(json.dumps(machine.up(args.name, args.release).describe(), indent=2))


def _down(args: argparse.Namespace) -> None:
    known = [record.name for record in machine.records()]
    for pattern in args.name:
        is_pattern = any(c in pattern for c in "*?[")
        for name in fnmatch.filter(known, pattern) if is_pattern else [pattern]:
            machine.down(name)


def _reboot(args: argparse.Namespace) -> None:
    print(json.dumps(machine.reboot(args.name, args.hard).describe(), indent=2))


def _ssh(args: argparse.Namespace) -> t.NoReturn:
    host = machine.find(args.name).describe()
    argv = ["ssh", *_ssh_options(host), "-i", host["key"], f"root@{host['address']}", *args.argv]
    os.execv("/usr/bin/ssh", argv)  # noqa: S606


def _ssh_options(host: dict[str, t.Any]) -> list[str]:
    settings = {"UserKnownHostsFile": host["known_hosts"], "IdentitiesOnly": "yes", "BatchMode": "yes"}
    settings |= {"GlobalKnownHostsFile": "/dev/null", "StrictHostKeyChecking": "yes", "LogLevel": "ERROR"}
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _list(_options: argparse.Namespace) -> None:
    for record in machine.records():
        print(json.dumps(record.describe()))


def _inventory(args: argparse.Namespace) -> None:
    hosts = [machine.find(name).describe() for name in args.name]
    print(json.dumps({"all": {"hosts": {host["name"]: _variables(host) for host in hosts}}}, indent=2))


def _variables(host: dict[str, t.Any]) -> dict[str, t.Any]:
    return {
        "ansible_host": host["address"],
        "ansible_user": host["user"],
        "ansible_ssh_private_key_file": host["key"],
        "ansible_ssh_common_args": " ".join(_ssh_options(host)),
        "ansible_python_interpreter": "/usr/bin/python3",
    }


def _roots(args: argparse.Namespace) -> None:
    for release in args.release or roots.RELEASES:
        print(roots.ensure_root(release))


def _keep(args: argparse.Namespace) -> int:
    return keeper.main(args.name, args.index, args.root)
