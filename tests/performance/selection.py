# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure runtime_select: 10,000 requests against 100 rules."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.selection import proofs
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    Policy,
    Request,
    compile_policy,
)
from ansible_collections.pvecri.runtime.tests.performance.context import Context, ModuleProcess
from ansible_collections.pvecri.runtime.tests.performance.measure import Case, interleaved
from ansible_collections.pvecri.runtime.tests.performance.report import Section, Target, timing_table

TITLE = "runtime_select: 10,000 requests against 100 rules"

RULES = 100
REQUESTS = 10_000


def policy_document() -> dict[str, t.Any]:
    """Return 100 rules of five kinds, globs and regular expressions over all that can be matched."""
    rules = []
    for number in range(RULES):
        match: dict[str, t.Any] = [
            {"repository": f"**/app-{number}-*"},
            {
                "registry": f"reg{number}.example.com",
                "repository": "team/**",
                "tag": {"regex": r"v[0-9]+\.[0-9]+"},
            },
            {"namespace": f"ns-{number}-*", "labels": {"tier": f"*<{number}>*"}},
            {
                "labels": {"app": [f"web-{number}", f"api-{number}"]},
                "annotations": {"example.org/x": {"regex": f"(a|b)+{number}.*"}},
            },
            {"repository": {"regex": f".*/(vm|db)-{number}[a-z]*"}, "tag": f"{number}-*"},
        ][number % 5]
        runtime = "pve-lxc" if number % 2 else "crun"
        rules.append({"name": f"rule-{number}", "match": match, "runtime": runtime})
    return {"rules": rules}


def requests(*, distinct: bool) -> list[dict[str, t.Any]]:
    """Return 10,000 requests: all different in every field, or made of 500 images in 50 namespaces."""
    source = random.Random(1)
    made = []
    for serial in range(REQUESTS):
        number, unique = source.randrange(RULES), serial if distinct else source.randrange(5)
        kind = source.choice(["app", "db", "vm", "web"])
        tag = source.choice(["v1.2", "latest", f"{number}-1"])
        made.append(
            {
                "image": f"reg{number}.example.com/team/{kind}-{number}-{unique}:{tag}",
                "namespace": f"ns-{number % 50}-{unique}",
                "labels": {"app": f"web-{number}", "tier": f"a<{source.randrange(RULES)}>{unique}"},
                "annotations": {"example.org/x": f"abab{number}z{unique}"},
            }
        )
    return made


def measure(context: Context) -> Section:
    """Time the core in this process, and the module in its own."""
    document = policy_document()
    every, typical = requests(distinct=True), requests(distinct=False)
    images = [{"image": request["image"]} for request in every]
    compiled: list[Policy] = []

    def compile_afresh() -> None:
        proofs.forget_proofs()
        compiled[:] = [compile_policy(document)]

    def select(items: list[dict[str, t.Any]]) -> t.Callable[[], object]:
        return lambda: [compiled[0].select(Request.from_mapping(item)).as_dict() for item in items]

    context.progress("core")
    core = interleaved(
        [
            Case("compile the policy", compile_afresh),
            Case("select, every request different", select(every), before=compile_afresh),
            Case("select, 500 images in 50 namespaces", select(typical), before=compile_afresh),
        ],
        context.runs,
        progress=context.progress,
    )
    context.progress("module")
    module = ModuleProcess(context, "pvecri.runtime.runtime_select")
    bare = _BareModule(context)
    whole = interleaved(
        [
            Case(
                "module, image only",
                module.run,
                before=lambda: module.arguments({"policy": document, "requests": images}),
            ),
            Case(
                "module, with labels and annotations",
                module.run,
                before=lambda: module.arguments({"policy": document, "requests": every}),
            ),
            Case("Ansible alone: same arguments, as long a result, no work", bare.run),
        ],
        context.runs,
        progress=context.progress,
    )
    bare_run = whole[2].median
    return Section(
        "selection",
        TITLE,
        "The core is timed in one process with a policy compiled afresh for each run. The module is timed as "
        "a process of its own, from the start of Python to the last byte of its result.",
        (timing_table("Core", core), timing_table("Module process", whole)),
        (
            Target(
                "core, compiling and selecting, every request different",
                core[0].median + core[1].median,
                1,
                "s",
            ),
            Target("module process, image only", whole[0].median, 1, "s"),
            Target(
                "module process beyond Ansible's own share, all fields", whole[1].median - bare_run, 1, "s"
            ),
        ),
    )


_BARE = """
import json, os
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pvecri.runtime.plugins.modules.runtime_select import ARGUMENT_SPEC
module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
with open(os.environ["PVECRI_BENCH_ANSWERS"], encoding="utf-8") as stream:
    answers = json.load(stream)
module.exit_json(changed=False, selections=answers, refused=0)
"""


class _BareModule:
    """Run a module that only takes its arguments and returns an answer that was prepared."""

    def __init__(self, context: Context) -> None:
        module = ModuleProcess(context, "pvecri.runtime.runtime_select")
        parameters = {"policy": policy_document(), "requests": requests(distinct=True)}
        directory = context.directory("bare")
        self._files = [os.path.join(directory, name) for name in ("arguments.json", "answers.json")]
        os.rename(module.arguments(parameters), self._files[0])
        answers = module(parameters)["selections"]
        with open(self._files[1], "w", encoding="utf-8") as stream:
            json.dump(answers, stream)

    def run(self) -> None:
        subprocess.run(
            [sys.executable, "-c", _BARE, self._files[0]],
            env={**os.environ, "PVECRI_BENCH_ANSWERS": self._files[1]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
