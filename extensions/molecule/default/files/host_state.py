# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Say what is on a host, and what has become different since.

host_state.py save FILE        write the state
host_state.py compare FILE [--packages-gone]
                               print every difference to a saved state; exit code 1 when there is one

Needs only Python's standard library: it runs on the host.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import pathlib
import stat
import subprocess
import sys
import typing as t

State = dict[str, dict[str, str]]

NOT_WALKED = ("/proc", "/sys", "/dev")
Globs = dict[str, dict[str, str]]

# What may differ, and why.
EXPECTED: Globs = {
    "files": {
        "/root/host_state*": "this program and what it saved",
        "/root/.ansible*": "Ansible's own temporary folder",
        "/tmp/ansible_*": "of the task that runs this",  # noqa: S108
        "/run/ansible*": "Ansible's",
        "/tmp/systemd-private-*": "of services of Debian's",  # noqa: S108
        "/var/tmp/systemd-private-*": "of services of Debian's",  # noqa: S108
        "/run/systemd/*": "systemd's own volatile files; units are compared by name",
        "/run/user/*": "of the ssh session",
        "/run/utmp": "of the ssh session",
        "/run/motd.dynamic": "written at each login",
        "/run/sudo/*": "written at each call",
        "/run/log/*": "the journal",
        "/run/sshd.pid": "another process after a reboot",
        "/run/crond.*": "another process after a reboot",
        "/run/dbus/*": "another socket after a reboot",
        "/run/udev/*": "made at boot",
        "/run/initctl": "made at boot",
        "/run/agetty.reload": "made at boot",
        "/run/xtables.lock": "iptables never removes its lock; gone with the next boot",
        "/run/crun": "the folder that all users of crun share; gone with the next boot",
        "/var/log/*": "logs, the journal and apt's history",
        "/var/lib/dpkg/*": "dpkg's records",
        "/var/lib/apt/*": "apt's lists and records",
        "/var/cache/*": "apt's packages, and caches of ldconfig and debconf",
        "/var/lib/systemd/*": "random seed, time stamps of timers and the like",
        "/etc/ld.so.cache": "written anew whenever a package with a library comes or goes",
    },
    "units": {
        "session-*.scope": "of the ssh session",
        "user*": "of the ssh session",
        "run-user-*": "of the ssh session",
    },
    "groups": {
        "/user.slice*": "of the ssh session",
        "/system.slice/systemd-*": "services that systemd starts on demand",
    },
    "mounts": {"/run/user/*": "of the ssh session", "/run/credentials/*": "of systemd's services"},
    "settings": {
        "*/nf_conntrack_count": "connections of this moment",
        "*/netfilter/*": "there as soon as the kernel has a rule that needs them",
    },
}
# What packages leave that were installed and stay, beside the files that dpkg knows as theirs.
PACKAGES: Globs = {
    "files": {
        "/etc/alternatives/*": "made by update-alternatives",
        "/var/lib/ucf*": "ucf's records",
        "/usr/share/info/dir*": "list of manuals",
        "/usr/share/mime/*": "list of types",
        "*/__pycache__*": "compiled when they were installed",
        "/etc/systemd/user/*": "links of enabled units, of gnupg's",
        "/etc/networks": "made by netbase",
        "/var/lib/containers*": "skopeo's notes on layers, which others who use the library share",
    },
}


def run(*argv: str) -> list[str]:
    """Return the lines that a command prints; none when the host lacks it."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    return done.stdout.splitlines()


def packaged() -> set[str]:
    """Return every path that a package owns, links on the way resolved."""
    names: set[str] = set()
    folders: dict[str, str] = {}
    for listing in pathlib.Path("/var/lib/dpkg/info").glob("*.list"):
        for path in listing.read_text().splitlines():
            folder, _slash, name = path.rpartition("/")
            if folder not in folders:
                folders[folder] = os.path.realpath(folder or "/").rstrip("/")
            names.add(f"{folders[folder]}/{name}")
    return names


def files() -> dict[str, str]:
    """Return every file with its type, owner, mode and, where it is short or in /etc, its content's hash."""
    found = {}
    for folder, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in NOT_WALKED]
        for name in [*names, *folders]:
            path = os.path.join(folder, name)
            try:
                found[path] = _file(path)
            except FileNotFoundError:
                continue
    return found


def _file(path: str) -> str:
    info = os.lstat(path)
    words = [stat.filemode(info.st_mode), f"{info.st_uid}:{info.st_gid}"]
    if stat.S_ISLNK(info.st_mode):
        words.append(os.readlink(path))
    elif stat.S_ISREG(info.st_mode) and path.startswith(("/etc/", "/usr/local/", "/root/", "/home/")):
        words.append(hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()[:16])
    return " ".join(words)


def mounts() -> dict[str, str]:
    """Return what is mounted where."""
    found = {}
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        before, _dash, after = line.partition(" - ")
        point = before.split()[4]
        found[point] = " ".join(after.split()[:2]) + ("," + found[point] if point in found else "")
    return found


def rules() -> dict[str, str]:
    """Return the rules and chains of the packet filter; a built-in chain without a rule is none."""
    found = {}
    for tool in ("iptables-save", "ip6tables-save"):
        table = ""
        for line in run(tool):
            if line.startswith("*"):
                table = line[1:]
            elif line.startswith(":") and line.split()[1] == "-":
                found[f"{tool[:-5]} {table} chain {line.split()[0][1:]}"] = ""
            elif line.startswith("-A"):
                found[f"{tool[:-5]} {table} {line}"] = ""
    for line in run("nft", "list", "tables"):
        if not line.endswith((" filter", " nat", " mangle", " raw")):
            found[f"nft {line}"] = ""
    return found


def units() -> dict[str, str]:
    """Return the units that systemd has a file of, and those that are loaded and not as they should be."""
    lines = run("systemctl", "list-unit-files", "--no-legend", "--plain")
    found = {line.split()[0]: line.split()[1] for line in lines}
    for line in run(
        "systemctl", "list-units", "--all", "--no-legend", "--plain", "--state", "failed,not-found"
    ):
        found[line.split()[0]] = " ".join(line.split()[1:3])
    return found


def processes() -> dict[str, str]:
    """Return processes that are a container's or the endpoint's, by name and number."""
    found = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
            group = path.with_name("cgroup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        name = os.path.basename(words[0])
        if (
            name in ("conmon", "crun")
            or "pvecri" in " ".join(words[:3])
            or "crun" in group
            or "kubepods" in group
        ):
            found[f"{path.parent.name} {' '.join(words)[:120]}"] = ""
    return found


def cgroups() -> dict[str, str]:
    """Return every control group."""
    tree = "/sys/fs/cgroup"
    return {folder[len(tree) :]: "" for folder, _folders, _files in os.walk(tree) if folder != tree}


def network() -> dict[str, str]:
    """Return namespaces, interfaces with their addresses, and routes."""
    found = {f"namespace {line.split()[0]}": "" for line in run("ip", "netns", "list")}
    for line in run("ip", "-o", "address"):
        words = line.split()
        if words[2] in ("inet", "inet6") and not words[3].startswith("fe80:"):
            found[f"address {words[1]} {words[3]}"] = ""
    found |= {f"interface {line.split()[0].partition('@')[0]}": "" for line in run("ip", "-br", "link")}
    return found | {f"route {line.strip()}": "" for line in run("ip", "route")}


def settings() -> dict[str, str]:
    """Return the kernel's settings of the network that do not belong to one interface."""
    found = {}
    for path in sorted(pathlib.Path("/proc/sys/net").rglob("*")):
        of = path.parent.name if path.parent.parent.name in ("conf", "neigh") else "all"
        if path.is_file() and of in ("all", "default") and "random" not in path.name:
            try:
                found[str(path)] = path.read_text().strip()
            except OSError:
                continue
    return found


SECTIONS: dict[str, t.Callable[[], dict[str, str]]] = {
    "files": files,
    "mounts": mounts,
    "rules": rules,
    "units": units,
    "processes": processes,
    "groups": cgroups,
    "network": network,
    "settings": settings,
}


def differences(before: State, after: State, owned: set[str], expected: list[Globs]) -> list[str]:
    """Return a line for each thing that came, went or changed without being expected to."""
    lines = []
    for section, then in before.items():
        now = after[section]
        globs = [glob for table in expected for glob in table.get(section, {})]
        for key in sorted(then.keys() | now.keys()):
            old, new = then.get(key), now.get(key)
            if old == new or any(fnmatch.fnmatch(key, glob) for glob in globs):
                continue
            if old is None and _is_of_package(section, key, new or "", owned):
                continue
            what = "new" if old is None else "gone" if new is None else "changed"
            lines.append(f"{section}: {key}: {what}: {old} -> {new}")
    return lines


def _is_of_package(section: str, key: str, value: str, owned: set[str]) -> bool:
    if section == "units":
        return f"/usr/lib/systemd/system/{key}" in owned
    return section == "files" and (key in owned or "/etc/alternatives/" in value)


def main(command: str, file: str, *options: str) -> int:
    """Run one of the two commands."""
    state = {name: look() for name, look in SECTIONS.items()}
    path = pathlib.Path(file)
    if command == "save":
        path.write_text(json.dumps(state))
        return 0
    expected = [EXPECTED] if "--packages-gone" in options else [EXPECTED, PACKAGES]
    lines = differences(json.loads(path.read_text()), state, packaged(), expected)
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
