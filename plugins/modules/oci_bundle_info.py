#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: oci_bundle_info
short_description: List OCI bundles and the images they are made from
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Returns the bundles that M(pvecri.runtime.oci_bundle) and M(pvecri.runtime.crun_container) made, with what
    is wrong with them, if anything.
  - Can also return the images in the store, and check bundles that anything made.
  - Starts no program.
requirements:
  - root privileges
extends_documentation_fragment:
  - pvecri.runtime.attributes.info
  - pvecri.runtime.paths
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.runtime
options:
  name:
    description:
      - Names of bundles to return. A name that does not exist is left out.
      - If not set, all are returned.
    type: list
    elements: str
  with_config:
    description:
      - Whether to return each bundle's C(config.json), its secret variables hidden.
    type: bool
    default: false
  with_images:
    description:
      - Whether to return the images in the store.
    type: bool
    default: false
  path:
    description:
      - Absolute paths of bundles to check, whatever made them.
    type: list
    elements: path
    default: []
seealso:
  - module: pvecri.runtime.oci_bundle
"""

EXAMPLES = r"""
- name: List all bundles
  pvecri.runtime.oci_bundle_info:
  register: result

- name: Show those that need attention
  ansible.builtin.debug:
    msg: "{{ result.bundles | selectattr('problems') | list }}"

- name: See how a bundle is configured
  pvecri.runtime.oci_bundle_info:
    name: web
    with_config: true

- name: Check bundles of other tools
  pvecri.runtime.oci_bundle_info:
    path:
      - /srv/bundles/one
      - /srv/bundles/two
"""

RETURN = r"""
bundles:
  description: The bundles, ordered by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the bundle.
      returned: always
      type: str
      sample: web
    path:
      description: Its directory, to be given to an OCI runtime.
      returned: always
      type: str
      sample: /var/lib/pvecri/bundles/play/web
    rootfs:
      description: Its root file system, which is empty unless mounted.
      returned: always
      type: str
      sample: /var/lib/pvecri/bundles/play/web/rootfs
    mounted:
      description: Whether everything that it needs is mounted.
      returned: always
      type: bool
    problems:
      description: Why it cannot be used as it is. Empty is good.
      returned: always
      type: list
      elements: str
      sample: []
    source:
      description: What it is made from. Null if the bundle is damaged.
      returned: always
      type: dict
      sample: {kind: image, reference: "docker.io/library/nginx:1.27"}
    image:
      description: The image that it is made from. Null if it is made from an archive or directory.
      returned: always
      type: dict
      sample:
        id: 5ef79149e0ec84a7a9f9284c3f91aa3c20608f8391f5445eabe92ef07dbda03c
        digest: sha256:04ba374043ccd2fc5c593885c0eacddebabd5ca375f9323666f28dfd5a9710e3
        reference: docker.io/library/nginx:1.27
    created:
      description: When it was made, in UTC.
      returned: always
      type: str
      sample: "2026-01-31T12:00:00+00:00"
    spec_hash:
      description: Changes with everything that is asked of the bundle.
      returned: always
      type: str
    volumes:
      description: Named volumes that it uses.
      returned: always
      type: list
      elements: str
      sample: [web-cache]
    config:
      description: Its C(config.json). Null if that is missing or damaged.
      returned: with O(with_config=true)
      type: dict
images:
  description: The images in the store.
  returned: with O(with_images=true)
  type: list
  elements: dict
  contains:
    id:
      description: Digest of the image's configuration, without the algorithm.
      returned: always
      type: str
    digests:
      description: Digests of the image's manifest and of the indexes by which it was fetched.
      returned: always
      type: list
      elements: str
    names:
      description: Its names. Those below C(localhost/pvecri) stand for what was read from a path.
      returned: always
      type: list
      elements: str
      sample: ["docker.io/library/nginx:1.27"]
    platform:
      description: Operating system, processor and variant it is made for.
      returned: always
      type: str
      sample: linux/amd64
    layers:
      description: How many layers it has.
      returned: always
      type: int
      sample: 7
    size_bytes:
      description: Size of its unpacked layers, in bytes. Layers that images share count for each of them.
      returned: always
      type: int
      sample: 192439296
    used_by:
      description: Bundles that need it, as C(play/name), or C(cri/name) for those of a Kubernetes node.
      returned: always
      type: list
      elements: str
      sample: [play/web]
checked:
  description: What is wrong with the bundles at O(path), in the same order.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: The bundle's path.
      returned: always
      type: str
    valid:
      description: Whether nothing is wrong.
      returned: always
      type: bool
    problems:
      description: Place in C(config.json) as JSONPath, broken rule and message.
      returned: always
      type: list
      elements: dict
      sample: [{path: $.process, rule: schema/required, message: "'cwd' is missing"}]
"""

import dataclasses
import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.describe import bundle_as_dict
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.images.source import Platform
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import (
    paths_argument_spec,
    paths_from_options,
    require_root,
)


def describe_images(store: ImageStore) -> list[dict[str, t.Any]]:
    """Return the images of the store as plain data."""
    return [
        {
            "id": image.id,
            "digests": list(image.digests),
            "names": list(image.names),
            "platform": str(
                Platform(
                    os=image.config.os, architecture=image.config.architecture, variant=image.config.variant
                )
            ),
            "layers": len(image.layer_dirs),
            "size_bytes": image.size_bytes,
            "used_by": list(store.users(image)),
        }
        for image in store.list()
    ]


def run(params: dict[str, t.Any], _context: Context) -> Outcome:
    """Read what is asked for."""
    require_root()
    runner = SubprocessRunner()
    paths = paths_from_options(params)
    store = ImageStore(paths, runner)
    manager = BundleManager(paths, store, runner)
    names = manager.names() if params["name"] is None else sorted(set(params["name"]))
    bundles = [bundle for name in names if (bundle := manager.load(name)) is not None]
    checked = [(path, manager.verify(path)) for path in params["path"]]
    values: dict[str, t.Any] = {
        "bundles": [bundle_as_dict(bundle, with_config=params["with_config"]) for bundle in bundles],
        "checked": [
            {
                "path": path,
                "valid": not problems,
                "problems": [dataclasses.asdict(problem) for problem in problems],
            }
            for path, problems in checked
        ],
    }
    if params["with_images"]:
        values["images"] = describe_images(store)
    return Outcome(values=values)


def main() -> t.NoReturn:
    """Run the module."""
    run_module(
        {
            "name": {"type": "list", "elements": "str"},
            "with_config": {"type": "bool", "default": False},
            "with_images": {"type": "bool", "default": False},
            "path": {"type": "list", "elements": "path", "default": []},
            **paths_argument_spec(),
        },
        run,
    )


if __name__ == "__main__":
    main()
