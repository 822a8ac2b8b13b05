# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out ``pvecri logs rotate``."""

from __future__ import annotations

import argparse
import sys

from pvecri.client.client import Client
from pvecri.client.errors import CallFailed, NoEndpoint
from pvecri.config.load import load
from pvecri.rotation.rotate import rotate_all

_NO_ANSWER = 3


def run(options: argparse.Namespace) -> int:
    """Rotate what is to be rotated, say so, and return the exit code."""
    path = options.socket or load(options.config).config.server.socket
    with Client(path) as client:
        try:
            outcome = rotate_all(client, max_bytes=options.max_size, max_files=options.max_files)
        except (NoEndpoint, CallFailed) as exc:
            print(f"error: {exc}", file=sys.stderr)
            return _NO_ANSWER
    for line in outcome.done:
        print(line)
    for problem in outcome.problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if outcome.problems else 0
