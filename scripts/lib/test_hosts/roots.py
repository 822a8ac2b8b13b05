# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Root file systems, made once per release and recipe, and packages that all hosts of a release share."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import os
import subprocess
import time
from pathlib import Path

from test_hosts.ground import CACHE, HostError, die_with_parent, locked, remove_tree, run, write_file

RELEASES = ("trixie", "bookworm")
MIRROR = os.environ.get("PVECRI_DEBIAN_MIRROR") or "http://deb.debian.org/debian"
SECURITY_MIRROR = os.environ.get("PVECRI_DEBIAN_SECURITY_MIRROR") or "http://deb.debian.org/debian-security"
PACKAGES = ["systemd", "systemd-sysv", "dbus", "udev", "python3", "python3-apt", "openssh-server", "iproute2"]
PACKAGES += ["ca-certificates", "sudo", "kmod", "procps", "cron"]
# What runs so goes with all its processes and mounts when it is killed.
ALONE = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc"]
# Lists in it grow old, and with them the packages that a host would ask for.
ROOT_DAYS = 30
UNUSED_DAYS = 7
PACKAGE_DAYS = 60


def archives(release: str) -> Path:
    """Return the folder of a release's packages."""
    return CACHE / "apt" / release


def copy(release: str, target: Path) -> None:
    """Copy the root file system of a release, which is made when there is none of this recipe yet."""
    with locked(CACHE / f"{release}.lock"):
        root = _ensure_root(release)
        run("cp", "-a", "--reflink=auto", str(root), str(target), timeout_s=900)


def ensure_root(release: str) -> Path:
    """Make the root file system of a release when there is none of this recipe yet; return its path."""
    with locked(CACHE / f"{release}.lock"):
        return _ensure_root(release)


def _ensure_root(release: str) -> Path:
    root = CACHE / "roots" / f"{release}-{_key(release)}"
    used = root.with_name(f"{root.name}.used")
    if not root.exists() or _age_days(used.with_suffix(".made")) > ROOT_DAYS:
        for old in [*root.parent.glob(f".{release}-*"), root]:
            remove_tree(old)
        new = root.with_name(f".{root.name}")
        _debootstrap(release, new)
        _configure(release, new)
        used.with_suffix(".made").touch()
        new.rename(root)
    used.touch()
    # Those of other recipes may be another checkout's.
    for old in root.parent.glob(f"{release}-*.used"):
        if _age_days(old) > UNUSED_DAYS:
            remove_tree(old.with_suffix(""))
            old.with_suffix(".made").unlink(missing_ok=True)
            old.unlink()
    return root


def _age_days(path: Path) -> float:
    return (time.time() - path.stat().st_mtime) / 86400 if path.exists() else float("inf")


def _key(release: str) -> str:
    """Return what names a recipe: all that decides what is in a root file system."""
    recipe = [inspect.getsource(step) for step in (_debootstrap, _configure, resolve)]
    recipe += [*PACKAGES, release, MIRROR, SECURITY_MIRROR, _proxies()]
    return hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]


def _debootstrap(release: str, root: Path) -> None:
    archives(release).mkdir(parents=True, exist_ok=True)
    root.mkdir(parents=True)
    log = CACHE / f"debootstrap-{release}.log"
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    argv += [f"--cache-dir={archives(release)}", release, str(root), MIRROR]
    argv = [*ALONE, *argv]
    with open(log, "w") as file:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            check=False,
            preexec_fn=die_with_parent,
        )
    if done.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-15:])
        raise HostError(
            f"debootstrap of {release} failed; check the network, or name a mirror in PVECRI_DEBIAN_MIRROR."
            f" Its last words (whole log: {log}):\n{tail}"
        )


def _configure(release: str, root: Path) -> None:
    sources = [f"deb {MIRROR} {release} main", f"deb {MIRROR} {release}-updates main"]
    sources.append(f"deb {SECURITY_MIRROR} {release}-security main")
    write_file(root / "etc/apt/sources.list", "\n".join(sources) + "\n")
    # A host lives for minutes: what it writes need not survive a power cut, and nobody reads manuals there.
    write_file(root / "etc/dpkg/dpkg.cfg.d/test-host", "force-unsafe-io\npath-exclude=/usr/share/man/*\n")
    languages = 'Acquire::Languages "none";\nAPT::Install-Recommends "false";\n'
    write_file(root / "etc/apt/apt.conf.d/90test-host", languages + _proxies())
    # Tests come from one address and often; Debian 12's sshd has no such penalties.
    penalties = "" if release == "bookworm" else "PerSourcePenalties no\n"
    write_file(root / "etc/ssh/sshd_config.d/test-host.conf", f"UseDNS no\n{penalties}MaxStartups 100\n")
    journal = "[Journal]\nStorage=persistent\nRateLimitBurst=0\n"
    write_file(root / "etc/systemd/journald.conf.d/test-host.conf", journal)
    # They would run into whatever a test measures.
    for timer in ("apt-daily", "apt-daily-upgrade", "dpkg-db-backup", "e2scrub_all", "fstrim"):
        (root / f"etc/systemd/system/{timer}.timer").symlink_to("/dev/null")
    for key in root.glob("etc/ssh/ssh_host_*"):
        key.unlink()
    resolve(root)
    with contextlib.suppress(FileNotFoundError):
        (root / "var/lib/dbus/machine-id").unlink()
    run(*ALONE, "chroot", str(root), "apt-get", "-q", "update", timeout_s=300)
    run("chroot", str(root), "apt-get", "clean")


def resolve(root: Path) -> None:
    """Give a root the machine's name servers; a resolver on loopback is out of a host's reach."""
    path = Path("/etc/resolv.conf")
    upstream = Path("/run/systemd/resolve/resolv.conf")
    text = path.read_text() if path.exists() else ""
    if "nameserver 127." in text and upstream.exists():
        text = upstream.read_text()
    with contextlib.suppress(FileNotFoundError):
        (root / "etc/resolv.conf").unlink()
    write_file(root / "etc/resolv.conf", text)


def _proxies() -> str:
    """Return the machine's proxy settings of apt."""
    dump = run("apt-config", "dump", check=False).stdout.splitlines()
    return "".join(
        f"{line}\n" for line in dump if line.startswith(("Acquire::http::Proxy ", "Acquire::https::Proxy "))
    )


def give_packages(release: str, root: Path) -> None:
    """Put the packages that earlier hosts fetched into a host's apt cache, as links: they cost nothing."""
    target = root / "var/cache/apt/archives"
    for package in archives(release).glob("*.deb"):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(package, target / package.name)


def keep_packages(release: str, root: Path) -> None:
    """Keep the packages that a host has fetched.  apt renames a package only when it is complete."""
    store = archives(release)
    store.mkdir(parents=True, exist_ok=True)
    for package in (root / "var/cache/apt/archives").glob("*.deb"):
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            os.link(package, store / package.name)
    for package in store.glob("*.deb"):
        # The change time is that of the last link: the last host that was given it.
        with contextlib.suppress(FileNotFoundError):
            if time.time() - package.stat().st_ctime > PACKAGE_DAYS * 86400:
                package.unlink()
