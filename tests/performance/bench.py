# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure this collection against its targets and its peers, and print a report.

Run it by ``scripts/bench``, which installs what the comparisons need.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
import tempfile
import time
import traceback
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.context import Context
from ansible_collections.pvecri.runtime.tests.performance.report import (
    Section,
    Unavailable,
    as_json,
    machine,
    markdown,
)

#: Sections in the order they run; each is a module of this package with TITLE and measure().
SECTIONS = ("selection", "bundle", "crun", "podman", "endpoint", "pve", "lxc")

_PACKAGE = "ansible_collections.pvecri.runtime.tests.performance"


def _section(name: str) -> t.Any:
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure the collection against its targets and its peers.\n"
        "The result is a report, not a test: a target that is missed is marked,\n"
        "and the exit code tells only whether everything could be measured.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="sections:\n" + "\n".join(f"  {name:<11} {_section(name).TITLE}" for name in SECTIONS),
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=SECTIONS,
        metavar="SECTION",
        help="measure this section; may be given several times (default: all)",
    )
    parser.add_argument(
        "--runs", type=_positive, default=7, metavar="N", help="counted runs of every case (default: 7)"
    )
    parser.add_argument(
        "--markdown",
        type=_file,
        metavar="FILE",
        help="write the report to FILE (default: to standard output)",
    )
    parser.add_argument(
        "--json", type=_file, metavar="FILE", help="write all figures, every single run included, to FILE"
    )
    parser.add_argument(
        "--thorough",
        action="store_true",
        help="measure the endpoint with 500 pods, too, some 15 minutes more",
    )
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument(
        "--peers-python", default=os.environ.get("PVECRI_PEERS_PYTHON"), help=argparse.SUPPRESS
    )
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs")
    return int(text)


def _file(text: str) -> str:
    # Known at once, not after half an hour of measuring.
    if not os.path.isdir(os.path.dirname(text) or ".") or os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return text


def measure_section(name: str, context: Context) -> Section:
    """Return the section, or why it is not there; a defect in it does not cost the others."""
    module = _section(name)
    try:
        return t.cast("Section", module.measure(context))
    except Unavailable as exc:
        return Section(name, module.TITLE, unavailable=str(exc))
    except Exception as exc:  # a report says what it lacks rather than being lost
        traceback.print_exc()
        return Section(name, module.TITLE, unavailable=f"it failed: {type(exc).__name__}: {str(exc)[:1000]}")


def main() -> int:
    """Run the sections that were asked for; return 1 if one of them could not be measured."""
    options = _parser().parse_args()
    # Sections stop what they started on their way out; without this, TERM would skip that.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()

    def progress(text: str) -> None:
        if not options.quiet:
            print(f"[{time.monotonic() - started:5.0f}s] {text}", file=sys.stderr, flush=True)

    facts = machine(options.peers_python or None)
    sections = []
    for name in dict.fromkeys(options.only or SECTIONS):
        with tempfile.TemporaryDirectory(prefix="pvecri-bench.") as work_dir:
            sections.append(
                measure_section(
                    name,
                    Context(
                        options.runs,
                        work_dir,
                        options.peers_python or None,
                        lambda text, name=name: progress(f"{name}: {text}"),
                        options.thorough,
                    ),
                )
            )
    _write(options.markdown, markdown(sections, facts, options.runs))
    if options.json:
        _write(options.json, as_json(sections, facts, options.runs) + "\n")
    return int(any(section.unavailable for section in sections))


def _write(path: str | None, text: str) -> None:
    if path is None:
        print(text)
        return
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)


if __name__ == "__main__":
    sys.exit(main())
