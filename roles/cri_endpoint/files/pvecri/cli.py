# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the command line and do what it says."""

from __future__ import annotations

import argparse
import sys
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import CoreError
from pvecri.config.load import load
from pvecri.config.model import CONFIG_FILE


def main(argv: t.Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 called wrongly."""
    options = _parser().parse_args(argv)
    try:
        return int(options.run(options))
    except CoreError as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pvecri", description="The container runtime endpoint of this node."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="run the endpoint in the foreground")
    serve.add_argument("--config", metavar="FILE", help=f"configuration (default: {CONFIG_FILE})")
    serve.add_argument("--log-level", choices=("debug", "info", "warning", "error"))
    serve.set_defaults(run=_serve)
    return parser


def _serve(options: argparse.Namespace) -> int:
    from pvecri.daemon.daemon import run  # noqa: PLC0415 - the other commands need no gRPC

    return run(load(options.config), log_level=options.log_level)
