# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve a stand-in for the Proxmox VE API on loopback, for scripts/demo.

    python fake_pve.py [--parent PID] FOLDER

Listens on a free port of 127.0.0.1 with a certificate made for this run, and then writes
FOLDER/pve.env (mode 0600): how to log in, as shell assignments of the variables that the modules read.
It ends with the process PID, where one is given.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import pathlib
import secrets
import shlex
import signal

from fakepve import FakePve
from fakepve.certs import make_cert

HOST = "127.0.0.1"
USER = "root@pam"
TOKEN_ID = "demo"  # noqa: S105 - its name, not its secret
TEMPLATE = "vztmpl/debian-13-standard_13.1-2_amd64.tar.zst"
_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int) -> None:
    """Ask the kernel to end this process when the one with pid ``parent`` dies."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the parent has gone")


def write_login(folder: pathlib.Path, variables: dict[str, str]) -> None:
    """Write the login file under another name and rename it: whoever sees it can log in."""
    temporary = folder / ".pve.env.new"
    temporary.touch(mode=0o600)
    temporary.write_text("".join(f"{name}={shlex.quote(value)}\n" for name, value in variables.items()))
    temporary.rename(folder / "pve.env")


async def serve(folder: pathlib.Path) -> None:
    """Serve until a signal ends the process."""
    certificate, key, _der = make_cert(str(folder), hosts=(HOST,))
    secret = secrets.token_hex(16)
    pve = FakePve(user=USER, password=secrets.token_hex(16), host=HOST, port=0)
    pve.time_scale = 0.05  # tasks take a moment, as on a real cluster, not a minute
    pve.apitokens[f"{USER}!{TOKEN_ID}"] = secret
    pve.store_file("local", TEMPLATE.removeprefix("vztmpl/"), 0, "vztmpl")
    await pve.start(certificate, key)
    variables = {"HOST": HOST, "PORT": str(pve.port), "CA_PATH": certificate, "USER": USER}
    variables |= {"TOKEN_ID": TOKEN_ID, "TOKEN_SECRET": secret, "TEMPLATE": f"local:{TEMPLATE}"}
    write_login(folder, {f"PVE_{name}": value for name, value in variables.items()})
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    (folder / "pve.env").unlink(missing_ok=True)
    await pve.stop()


def main() -> None:
    """Read the arguments and serve."""
    parser = argparse.ArgumentParser(description="Serve a stand-in for the Proxmox VE API on loopback.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--parent", type=int, help="pid of the process to end with")
    arguments = parser.parse_args()
    if arguments.parent:
        end_with_parent(arguments.parent)
    (arguments.folder / "pve.env").unlink(missing_ok=True)
    asyncio.run(serve(arguments.folder))


if __name__ == "__main__":
    main()
