#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: runtime_select
short_description: Choose a container runtime for workloads by a policy
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Answers which runtime a workload gets, V(crun) or V(pve-lxc), by which rule of a policy, and why.
  - The policy is a list of rules over the normalised image reference, the namespace, labels, annotations
    and the runtime handler of a workload. The endpoint for Kubernetes reads the same policy files.
  - The policy is checked before the first answer. A rule that contradicts another one, or that provably can
    never match, is an error that names the rule.
  - Nothing is fetched or changed. The module needs no program and no privilege.
notes:
  - A request that names a runtime handler gets the runtime that O(policy.handlers) gives for it, unless a
    rule with O(policy.rules[].match.runtime_handler) matches it. All other rules are for requests that name
    none, so an explicit choice (in Kubernetes a RuntimeClass) is never overruled by a rule that does not
    speak of it.
  - Among the rules that are for a request the first one that matches decides. When none does,
    O(policy.default) decides.
  - Without O(policy) and O(policy_file) the runtime handlers V(crun) and V(pve-lxc) give the runtimes of
    the same name. Requests without one get V(pve-lxc) when the repository path ends in C(lxc/*), or when
    its last component is C(db-*) or C(vm-*), on any registry. Everything else gets V(crun).
  - Image references are normalised first. C(nginx) is C(docker.io/library/nginx:latest), so its repository
    is C(library/nginx). The tag C(latest) is added only when there is neither a tag nor a digest.
  - A pattern matches the whole value. Given as text it is a glob, in which C(*) stands for any text, C(?)
    for one character, and C([a-z]) and C([!a-z]) for one character of a set. In a repository none of these
    matches C(/), but C(**) as a whole path component stands for any number of components, at the end for at
    least one.
  - "A pattern given as C({regex: text}) is a regular expression in Python's notation, without look-around,
    back-references, named groups, flags, and lazy or possessive quantifiers. C(.) matches every character;
    C(\\d), C(\\w) and C(\\s) are ASCII. Every expression is matched in one step per character, so none can
    be slow."
  - "A pattern may also be given as C({glob: text}). For what a request can lack (tag, namespace, label,
    annotation), C({exists: true}) matches any value and C({exists: false}) matches when there is none."
  - A list of patterns matches when any of them does. A pattern has at most 500 characters.
  - Refused as never matching are a pattern that no valid registry, repository, tag, namespace or runtime
    handler can match, a repository without namespace on C(docker.io), an image that must have neither tag
    nor digest, and a rule all of whose requests are taken by one earlier rule. A rule that several earlier
    rules cover only together is accepted.
seealso:
  - name: CRI runtime handlers
    description: How Kubernetes hands the name of a RuntimeClass to the node.
    link: https://kubernetes.io/docs/concepts/containers/runtime-class/
extends_documentation_fragment:
  - pvecri.runtime.attributes.info
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.runtime
options:
  policy:
    description:
      - The policy itself. It replaces the built-in one as a whole.
      - Mutually exclusive with O(policy_file).
    type: dict
    suboptions:
      default:
        description:
          - The runtime of requests that no rule and no runtime handler decides, V(crun) or V(pve-lxc).
        type: str
        default: crun
      handlers:
        description:
          - The runtime handlers that are known, each with the runtime it stands for, V(crun) or V(pve-lxc).
          - A request that names any other is refused.
          - By default each runtime is known by its own name.
        type: dict
      rules:
        description:
          - The rules in the order in which they are tried, at most 1000. None by default.
        type: list
        elements: dict
        suboptions:
          name:
            description:
              - Name of the rule, unique in the policy. Results and errors use it.
            type: str
            required: true
          runtime:
            description:
              - The runtime of requests that this rule matches, V(crun) or V(pve-lxc).
            type: str
            required: true
          match:
            description:
              - The conditions of the rule, at least one. All of them must hold.
              - The notes say how patterns are written.
            type: dict
            required: true
            suboptions:
              registry:
                description:
                  - Pattern or list of patterns for the registry in lower case with its port, if it has one.
                  - Docker Hub is always V(docker.io).
                type: raw
              repository:
                description:
                  - Pattern or list of patterns for the path on the registry, without tag.
                type: raw
              tag:
                description:
                  - Pattern or list of patterns for the tag. An image with nothing but a digest has none.
                type: raw
              digest:
                description:
                  - Whether the image must be pinned by digest (V(true)) or must not be (V(false)).
                  - By default it makes no difference.
                type: bool
              namespace:
                description:
                  - Pattern or list of patterns for the namespace.
                type: raw
              labels:
                description:
                  - For each label that matters a pattern or list of patterns for its value.
                  - "A label that is missing matches only C({exists: false})."
                type: dict
              annotations:
                description:
                  - For each annotation that matters a pattern or list of patterns for its value.
                  - "An annotation that is missing matches only C({exists: false})."
                type: dict
              runtime_handler:
                description:
                  - Pattern or list of patterns for the runtime handler, one of O(policy.handlers).
                  - A rule without it is for requests that name no runtime handler.
                type: raw
  policy_file:
    description:
      - Path of a file on the target host that holds the policy, at most 1 MiB. Its keys are those of
        O(policy).
      - The name says the format, TOML (C(.toml)), JSON (C(.json)) or YAML (C(.yaml) and C(.yml)).
      - YAML needs PyYAML on the target host (Debian package C(python3-yaml)).
      - Mutually exclusive with O(policy).
    type: path
  image:
    description:
      - Image reference of a single request, C([registry[:port]/]repository[:tag][@digest]), without a
        transport such as C(docker://).
      - Exactly one of O(image) and O(requests) is needed.
    type: str
  namespace:
    description:
      - Namespace of the workload. By default it has none.
    type: str
  labels:
    description:
      - Labels of the workload, text to text. By default it has none.
    type: dict
  annotations:
    description:
      - Annotations of the workload, text to text. By default it has none.
    type: dict
  runtime_handler:
    description:
      - Runtime handler that the workload asks for. By default it asks for none.
    type: str
  requests:
    description:
      - Many requests at once. 10,000 requests against 100 rules take well under a second of computing.
      - Mutually exclusive with the options of a single request.
    type: list
    elements: dict
    suboptions:
      image:
        description:
          - Image reference, as in O(image). It is needed in each request.
        type: str
      namespace:
        description:
          - Namespace of the workload. By default it has none.
        type: str
      labels:
        description:
          - Labels of the workload, text to text. By default it has none.
        type: dict
      annotations:
        description:
          - Annotations of the workload, text to text. By default it has none.
        type: dict
      runtime_handler:
        description:
          - Runtime handler that the workload asks for. By default it asks for none.
        type: str
  on_error:
    description:
      - What to do about an item of O(requests) that has no answer, for example because its image reference
        is malformed.
      - V(fail) ends the module with an error that names the item, such as C(requests[17].image).
      - V(report) goes on; the item's result has RV(selections[].error) and no runtime.
      - An invalid policy is always an error.
    type: str
    choices:
      - fail
      - report
    default: fail
"""

EXAMPLES = r"""
- name: Ask the built-in policy
  pvecri.runtime.runtime_select:
    image: registry.example.com/team/db-orders:16
  register: answer

- name: Show what it said
  ansible.builtin.debug:
    msg: "It runs under {{ answer.selection.runtime }}, because {{ answer.selection.reason }}"

- name: Ask a policy of one's own about several workloads
  pvecri.runtime.runtime_select:
    policy:
      default: crun
      handlers:
        crun: crun
        lxc: pve-lxc
      rules:
        - name: databases
          match:
            repository: ["**/postgres", "**/mariadb"]
            registry: [docker.io, registry.example.com]
          runtime: pve-lxc
        - name: pinned-system-images
          match:
            repository: lxc/**
            digest: true
          runtime: pve-lxc
        - name: nightly
          match:
            tag:
              regex: "nightly-[0-9]{8}"
            namespace: [staging, "test-*"]
            labels:
              tier: backend
              example.com/pinned-node:
                exists: false
          runtime: pve-lxc
        - name: no-lxc-in-the-sandbox
          match:
            runtime_handler: lxc
            namespace: sandbox
          runtime: crun
    requests:
      - image: postgres:16
      - image: registry.example.com/app:nightly-20260101
        namespace: staging
        labels:
          tier: backend
      - image: nginx
        runtime_handler: lxc
  register: answers

- name: List the images that run as LXC containers
  ansible.builtin.debug:
    msg: "{{ answers.selections | selectattr('runtime', 'eq', 'pve-lxc') | map(attribute='image.familiar') }}"

- name: Check a list of images that may hold mistakes, by the built-in policy
  pvecri.runtime.runtime_select:
    requests:
      - image: nginx:1.27
      - image: "Not An Image"
    on_error: report
  register: checked

- name: Show the mistakes
  ansible.builtin.debug:
    msg: "{{ checked.selections | map(attribute='error') | select }}"
"""

RETURN = r"""
selection:
  description: The answer to the single request.
  returned: success, when O(image) is given
  type: dict
  contains: &selection
    runtime:
      description: The runtime, V(crun) or V(pve-lxc); null if RV(selections[].error) says why there is none.
      type: str
      returned: always
      sample: pve-lxc
    runtime_handler:
      description: The runtime handler that the request named, or null.
      type: str
      returned: always
      sample: null
    rule:
      description: Name of the rule that decided, or null when the runtime handler or the default did.
      type: str
      returned: always
      sample: lxc-images
    reason:
      description: Why, in words.
      type: str
      returned: always
      sample: repository 'team/db-orders' matches glob '**/db-*'
    image:
      description: The normalised image reference; null if it is malformed.
      type: dict
      returned: always
      contains:
        canonical:
          description: The whole reference, with nothing left out.
          type: str
          returned: always
          sample: registry.example.com/team/db-orders:16
        familiar:
          description: The shortest form that means the same.
          type: str
          returned: always
          sample: registry.example.com/team/db-orders:16
        registry:
          description: Host of the registry in lower case, with its port if it has one.
          type: str
          returned: always
          sample: registry.example.com
        repository:
          description: Path on the registry.
          type: str
          returned: always
          sample: team/db-orders
        tag:
          description: The tag, or null for an image that has only a digest.
          type: str
          returned: always
          sample: "16"
        digest:
          description: The digest with its algorithm, or null.
          type: str
          returned: always
          sample: null
    error:
      description: What is wrong with the request, or null.
      type: str
      returned: always
      sample: null
selections:
  description: The answers to O(requests), in the same order.
  returned: success, when O(requests) is given
  type: list
  elements: dict
  contains: *selection
refused:
  description: How many of O(requests) have no answer; more than 0 only with O(on_error=report).
  returned: success, when O(requests) is given
  type: int
  sample: 0
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.policy import (
    Policy,
    Request,
    compile_policy,
    load_policy,
)

_PATTERN = {"type": "raw"}

_MATCH_SPEC: dict[str, t.Any] = {
    "registry": _PATTERN,
    "repository": _PATTERN,
    "tag": _PATTERN,
    "digest": {"type": "bool"},
    "namespace": _PATTERN,
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
    "runtime_handler": _PATTERN,
}

_RULE_SPEC: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "runtime": {"type": "str", "required": True},
    "match": {"type": "dict", "required": True, "options": _MATCH_SPEC},
}

_POLICY_SPEC: dict[str, t.Any] = {
    "default": {"type": "str", "default": "crun"},
    "handlers": {"type": "dict"},
    "rules": {"type": "list", "elements": "dict", "options": _RULE_SPEC},
}

_REQUEST_SPEC: dict[str, t.Any] = {
    "image": {"type": "str"},
    "namespace": {"type": "str"},
    "labels": {"type": "dict"},
    "annotations": {"type": "dict"},
    "runtime_handler": {"type": "str"},
}

ARGUMENT_SPEC: dict[str, t.Any] = {
    "policy": {"type": "dict", "options": _POLICY_SPEC},
    "policy_file": {"type": "path"},
    **_REQUEST_SPEC,
    "requests": {"type": "list", "elements": "dict", "options": _REQUEST_SPEC},
    "on_error": {"type": "str", "choices": ["fail", "report"], "default": "fail"},
}


def answer(policy: Policy, request: dict[str, t.Any]) -> dict[str, t.Any]:
    """Return the selection for one request as plain data."""
    return {**policy.select(Request.from_mapping(request)).as_dict(), "error": None}


def refusal(request: dict[str, t.Any], problem: InvalidSpec) -> dict[str, t.Any]:
    """Return what stands in the place of a selection that there is not."""
    return {
        "runtime": None,
        "runtime_handler": request.get("runtime_handler"),
        "rule": None,
        "reason": "the request is invalid",
        "image": None,
        "error": str(problem),
    }


def answer_all(policy: Policy, requests: list[dict[str, t.Any]], *, report: bool) -> list[dict[str, t.Any]]:
    """Answer every request in order; raise for the first bad one unless errors are reported."""
    answers = []
    for number, request in enumerate(requests):
        try:
            answers.append(answer(policy, request))
        except InvalidSpec as exc:
            problem = InvalidSpec(f"requests[{number}].{exc.field}", exc.problem, hint=exc.hint)
            if not report:
                raise problem from exc
            answers.append(refusal(request, problem))
    return answers


def perform(params: dict[str, t.Any], _context: Context) -> Outcome:
    """Compile the policy and answer the request or the requests."""
    if params["policy_file"] is not None:
        policy = load_policy(params["policy_file"])
    else:
        policy = compile_policy(params["policy"])
    if params["requests"] is None:
        return Outcome(values={"selection": answer(policy, params)})
    selections = answer_all(policy, params["requests"], report=params["on_error"] == "report")
    refused = sum(selection["error"] is not None for selection in selections)
    return Outcome(values={"selections": selections, "refused": refused})


def main() -> t.NoReturn:
    run_module(
        ARGUMENT_SPEC,
        perform,
        mutually_exclusive=[["policy", "policy_file"], *([key, "requests"] for key in _REQUEST_SPEC)],
        required_one_of=[["image", "requests"]],
    )


if __name__ == "__main__":
    main()
