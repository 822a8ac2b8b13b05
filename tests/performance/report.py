# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold what was measured and print it: Markdown for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import traceback
import typing as t

from ansible_collections.pvecri.runtime.tests.performance.measure import Series

Cell = str | int | float | None

#: Programs whose versions matter to the figures, with the argument that prints it.
_PROGRAMS = {
    "crun": "--version",
    "conmon": "--version",
    "skopeo": "--version",
    "umoci": "--version",
    "podman": "--version",
}


class Unavailable(Exception):
    """Tell that a section cannot be measured here, and why."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under ``columns``; numbers are printed with three digits that count."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    series: tuple[Series, ...] = ()


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that was promised: ``value`` must not exceed ``limit``, or not fall below it; in ``unit``."""

    text: str
    value: float
    limit: float
    unit: str
    is_minimum: bool = False

    @property
    def is_met(self) -> bool:
        """Whether the promise holds."""
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit


@dataclasses.dataclass(frozen=True)
class Section:
    """All that one section found out; ``unavailable`` says what is missing of it, and why."""

    name: str
    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    targets: tuple[Target, ...] = ()
    unavailable: str = ""


def attempted(part: t.Callable[[], Table]) -> tuple[list[Table], str]:
    """Return the table of one part of a section, or none and why: the other parts still count."""
    try:
        return [part()], ""
    except Unavailable as exc:
        return [], str(exc)
    except Exception as exc:  # a report says what it lacks rather than being lost
        traceback.print_exc()
        return [], f"{type(exc).__name__}: {str(exc)[:1000]}"


def timing_table(title: str, series: t.Sequence[Series], *, baseline: str | None = None) -> Table:
    """Return a table of times in milliseconds, and the ratio of each median to that of ``baseline``."""
    base = next((item.median for item in series if item.name == baseline), None)
    columns: tuple[str, ...] = ("case", "median ms", "min ms", "max ms", "cpu ms")
    if base is not None:
        columns = (*columns, f"ratio to «{baseline}»")
    rows = []
    for item in series:
        figures = (item.median, min(item.seconds), max(item.seconds), item.cpu_median)
        row: tuple[Cell, ...] = (item.name, *(figure * 1000 for figure in figures))
        rows.append((*row, item.median / base) if base is not None else row)
    return Table(title, columns, tuple(rows), tuple(series))


#: Collections that are measured beside ours.
_PEERS = ("containers.podman", "community.proxmox")

_PRINT_VERSIONS = """
import importlib.util, json, os, sys
for name in sys.argv[1:]:
    folder = importlib.util.find_spec(f"ansible_collections.{name}").submodule_search_locations[0]
    with open(os.path.join(folder, "MANIFEST.json"), encoding="utf-8") as stream:
        print(json.load(stream)["collection_info"]["version"])
"""


def machine(peers_python: str | None = None) -> dict[str, Cell]:
    """Describe where, and against which versions, the figures were taken."""
    facts: dict[str, Cell] = {
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "kernel": platform.release(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load when started": round(os.getloadavg()[0], 2),
    }
    for program, argument in _PROGRAMS.items():
        if shutil.which(program):
            done = subprocess.run([program, argument], capture_output=True, text=True, check=False)
            facts[program] = (done.stdout or done.stderr).strip().partition("\n")[0]
    if peers_python is not None:
        done = subprocess.run(
            [peers_python, "-c", _PRINT_VERSIONS, *_PEERS], capture_output=True, text=True, check=True
        )
        facts.update(zip(_PEERS, done.stdout.split(), strict=True))
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = (line.partition(":")[2].strip() for line in stream if line.startswith("model name"))
            return next(names, "unknown")
    except OSError:
        return "unknown"


def markdown(sections: t.Sequence[Section], facts: t.Mapping[str, Cell], runs: int) -> str:
    """Return the whole report as Markdown."""
    parts = ["# Measurements", ""]
    parts += [f"- {name}: {value}" for name, value in facts.items()]
    parts += [f"- counted runs per case: {runs}, the cases of a table in turn"]
    parts += ["- cpu: median of the processors' time, which suffers less from what else the machine does", ""]
    for section in sections:
        parts += [f"## {section.title}", ""]
        if section.text:
            parts += [section.text, ""]
        if section.unavailable:
            parts += [f"Not measured: {section.unavailable}", ""]
        for table in section.tables:
            parts += _markdown_table(table)
        for target in section.targets:
            verdict = "met" if target.is_met else "MISSED"
            parts.append(
                f"- {verdict}: {target.text}: {number(target.value)} {target.unit} "
                f"({'at least' if target.is_minimum else 'at most'} {number(target.limit)} {target.unit})"
            )
        parts += [""] if section.targets else []
    return "\n".join(parts)


def _markdown_table(table: Table) -> list[str]:
    lines = [f"**{table.title}**", "", f"| {' | '.join(table.columns)} |"]
    lines.append("|---" + "|---:" * (len(table.columns) - 1) + "|")
    lines += [f"| {' | '.join(number(cell) for cell in row)} |" for row in table.rows]
    return [*lines, ""]


def number(cell: Cell) -> str:
    """Print a cell: floats with three significant digits, never in scientific notation."""
    if cell is None:
        return "–"
    if not isinstance(cell, float):
        return str(cell)
    size = abs(cell)
    return f"{cell:.0f}" if size >= 100 else f"{cell:.1f}" if size >= 10 else f"{cell:.2f}"


def as_json(sections: t.Sequence[Section], facts: t.Mapping[str, Cell], runs: int) -> str:
    """Return the whole report as JSON, every single time included."""
    return json.dumps(
        {
            "machine": dict(facts),
            "runs": runs,
            "sections": [
                {
                    "name": section.name,
                    "title": section.title,
                    "text": section.text,
                    "unavailable": section.unavailable or None,
                    "tables": [
                        {
                            "title": table.title,
                            "columns": table.columns,
                            "rows": table.rows,
                            "series": [series.as_dict() for series in table.series],
                        }
                        for table in section.tables
                    ],
                    "targets": [
                        {**dataclasses.asdict(target), "is_met": target.is_met} for target in section.targets
                    ],
                }
                for section in sections
            ],
        },
        indent=2,
        ensure_ascii=False,
    )
