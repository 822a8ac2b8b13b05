#!/usr/bin/python
# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: oci_bundle
short_description: Make OCI bundles from images, archives and directories
version_added: 0.1.0
author:
  - The pvecri authors (@pvecri)
description:
  - Makes a directory that any OCI runtime can run, with C(config.json) by the OCI runtime specification 1.2
    and a mounted root file system.
  - Images are fetched by skopeo into a store of the collection's own. The root file system is an overlay of
    the image's layers and a writable part that belongs to the bundle.
  - A bundle is made whole, checked and only then put in its place, so that a task that fails or is killed
    leaves the old bundle or the new one.
  - A bundle is made again when what is asked of it has changed, or when its image is another one. What a
    container has written to the old root file system is lost then; named volumes stay.
requirements:
  - crun
  - skopeo (not for O(directory))
  - root privileges
  - Linux 5.12 (5.19 for O(namespaces.user=private))
extends_documentation_fragment:
  - pvecri.runtime.container
  - pvecri.runtime.source
  - pvecri.runtime.paths
  - pvecri.runtime.attributes
  - pvecri.runtime.attributes.runtime
attributes:
  check_mode:
    details:
      - Nothing is fetched in check mode. If the image is not on the host, or has to be asked for on every
        run because of O(pull.policy), the prediction goes by what the host has.
  idempotent:
    details:
      - An image is compared by what its name stands for, so a tag that was moved, or the same image under
        another name or digest, is told apart correctly.
options:
  name:
    description:
      - Name of the bundle and of the container that is run from it. Up to 128 letters, digits, C(_), C(.)
        and C(-), beginning with a letter or digit.
      - Required unless O(state=verified).
    type: str
  state:
    description:
      - With V(present), the bundle exists as described. A new one is mounted; one that exists is left
        mounted or not as it is.
      - With V(mounted) or V(unmounted), its root file system is mounted or not, besides. After a reboot
        bundles are there, but not mounted.
      - With V(absent), there is no such bundle. Its anonymous volumes go with it, named volumes stay.
      - V(verified) changes nothing. It fails unless the bundle at O(path), whatever made it, is valid and
        what it refers to is there.
    type: str
    choices: [present, absent, mounted, unmounted, verified]
    default: present
  network_namespace:
    description:
      - V(private) for a network namespace of its own without any interface but C(lo), V(host), or the
        absolute path of a namespace to join, such as V(/run/netns/blue).
    type: str
    default: private
  path:
    description:
      - Absolute path of the bundle to check. Required with O(state=verified), and only for it.
    type: path
notes:
  - A bundle is not replaced, unmounted or removed while a container of the collection runs from it.
  - A V(secret) among O(mounts) is kept in memory and gone after a reboot. The next run of the task brings it
    back; until then the bundle is reported as having a problem.
  - A O(mounts[].type=volume) without O(mounts[].source) and the volumes that an image asks for (VOLUME)
    belong to the bundle.
  - With O(namespaces.user=private) the files of the image appear with shifted owners. The file system of
    O(state_dir) must be able to do that, as ext4, XFS, Btrfs and ZFS 2.2 are.
seealso:
  - module: pvecri.runtime.oci_bundle_info
  - module: pvecri.runtime.crun_container
  - name: OCI runtime specification
    description: What a bundle is.
    link: https://github.com/opencontainers/runtime-spec/blob/v1.2.0/bundle.md
"""

EXAMPLES = r"""
- name: Make a bundle from an image of a registry
  pvecri.runtime.oci_bundle:
    name: web
    image: docker.io/library/nginx:1.27
    env:
      TZ: Europe/Berlin
    mounts:
      - type: volume
        source: web-cache
        destination: /var/cache/nginx
    resources:
      memory: 256MiB

- name: Make a bundle from a private registry, pinned by digest
  pvecri.runtime.oci_bundle:
    name: api
    image: reg.example.org/api@sha256:6b06964cdbbc517102ce5e0cef95152f3c6a7ef703e4057cb574539de91f72e6
    pull:
      username: deploy
      password: "{{ registry_token }}"
      ca_file: /etc/ssl/registry.pem
    secret_env:
      DATABASE_URL: "{{ database_url }}"

- name: Make a bundle from a root file system, in a user namespace of its own
  pvecri.runtime.oci_bundle:
    name: build
    tarball: /srv/rootfs/bookworm.tar.xz
    command: [/bin/bash, -c, make -C /src]
    namespaces:
      user: private
    uid_maps:
      - {container_id: 0, host_id: 100000, size: 65536}
    gid_maps:
      - {container_id: 0, host_id: 100000, size: 65536}

- name: Mount it again after a reboot
  pvecri.runtime.oci_bundle:
    name: web
    state: mounted

- name: See whether a bundle that another tool made is valid
  pvecri.runtime.oci_bundle:
    path: /srv/bundles/other
    state: verified

- name: Remove a bundle
  pvecri.runtime.oci_bundle:
    name: web
    state: absent
"""

RETURN = r"""
bundle:
  description:
    - The bundle as it is after the task. In check mode, as it was before.
    - Null if there is none, and with O(state=verified).
  returned: success
  type: dict
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
      description: What the task says that it is made from.
      returned: always
      type: dict
      sample: {kind: image, reference: "docker.io/library/nginx:1.27"}
    image:
      description: The image that it is made from. Null if it is made from an archive or directory.
      returned: always
      type: dict
      contains:
        id:
          description: Digest of the image's configuration, without the algorithm.
          returned: always
          type: str
          sample: 5ef79149e0ec84a7a9f9284c3f91aa3c20608f8391f5445eabe92ef07dbda03c
        digest:
          description: Digest of the image's manifest.
          returned: always
          type: str
          sample: sha256:04ba374043ccd2fc5c593885c0eacddebabd5ca375f9323666f28dfd5a9710e3
        reference:
          description: The image's normalised name.
          returned: always
          type: str
          sample: docker.io/library/nginx:1.27
    created:
      description: When it was made, in UTC.
      returned: always
      type: str
      sample: "2026-01-31T12:00:00+00:00"
    spec_hash:
      description: Changes with everything that is asked of the bundle.
      returned: always
      type: str
      sample: 0f343b0931126a20f133d67c2b018a3b5a1ab2a3b6bb1b56f0e1d9d0d2b6a2b1
    volumes:
      description: Named volumes that it uses.
      returned: always
      type: list
      elements: str
      sample: [web-cache]
problems:
  description: What is wrong with the bundle at O(path). Empty when it is valid.
  returned: with O(state=verified), also on failure
  type: list
  elements: dict
  contains:
    path:
      description: Place in C(config.json), as JSONPath.
      returned: always
      type: str
      sample: $.process.cwd
    rule:
      description: Rule that is broken.
      returned: always
      type: str
      sample: schema/required
    message:
      description: How it is broken.
      returned: always
      type: str
      sample: "'cwd' is missing"
error:
  description: Kind of the failure, such as V(invalid_spec), V(not_found) or V(command_failed).
  returned: failure
  type: str
  sample: invalid_spec
field:
  description: Option or place that is wrong.
  returned: failure with RV(error=invalid_spec)
  type: str
  sample: mounts[0].source
"""

import typing as t

from ansible_collections.pvecri.runtime.plugins.module_utils.ansible_edge import Context, Outcome, run_module
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.describe import bundle_as_dict
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.manager import BundleManager
from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.service import Request, State, perform
from ansible_collections.pvecri.runtime.plugins.module_utils.command import SubprocessRunner
from ansible_collections.pvecri.runtime.plugins.module_utils.images.store import ImageStore
from ansible_collections.pvecri.runtime.plugins.module_utils.options.argument_spec import (
    SOURCE_MUTUALLY_EXCLUSIVE,
    container_argument_spec,
    source_argument_spec,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.container import spec_from_options
from ansible_collections.pvecri.runtime.plugins.module_utils.options.paths import (
    paths_argument_spec,
    paths_from_options,
    require_root,
)
from ansible_collections.pvecri.runtime.plugins.module_utils.options.source import source_from_options

_VERIFIED = "verified"


def run(params: dict[str, t.Any], context: Context) -> Outcome:
    """Bring one bundle to the state that is asked for."""
    if params["state"] == _VERIFIED:
        # The whole schema, which other runs can do without.
        from ansible_collections.pvecri.runtime.plugins.module_utils.bundle.verify import (  # noqa: PLC0415
            require_valid,
        )

        require_valid(params["path"])
        return Outcome(values={"bundle": None, "problems": []})
    require_root()
    runner = SubprocessRunner()
    paths = paths_from_options(params)
    manager = BundleManager(paths, ImageStore(paths, runner), runner)
    request = Request(
        name=params["name"],
        state=State(params["state"]),
        spec=spec_from_options(params),
        source=source_from_options(params),
    )
    result = perform(manager, request, check=context.check_mode)
    return Outcome(
        changed=result.changed,
        diff=result.differences.as_diff(),
        values={"bundle": None if result.bundle is None else bundle_as_dict(result.bundle)},
        warnings=result.warnings,
    )


def main() -> t.NoReturn:
    """Run the module."""
    run_module(
        {
            "name": {"type": "str"},
            "state": {"type": "str", "choices": [*State, _VERIFIED], "default": State.PRESENT.value},
            "network_namespace": {"type": "str", "default": "private"},
            "path": {"type": "path"},
            **container_argument_spec(),
            **source_argument_spec(),
            **paths_argument_spec(),
        },
        run,
        mutually_exclusive=[["name", "path"], *SOURCE_MUTUALLY_EXCLUSIVE],
        required_if=[
            *(["state", state.value, ["name"]] for state in State),
            ["state", _VERIFIED, ["path"]],
        ],
    )


if __name__ == "__main__":
    main()
