# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe the options by which several modules say where a root file system comes from."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  image:
    description:
      - Image that the root file system is made of. Without one of O(image), O(tarball) and O(directory), only
        what exists already can be worked on.
      - A reference such as V(nginx:1) or V(docker://quay.io/org/app:2) comes from a registry, through the
        host's C(registries.conf) with its mirrors.
      - V(oci:/path[:name]), V(oci-archive:/path[:name]), V(docker-archive:/path[:name]), V(dir:/path) and
        V(containers-storage:name) are read from this host.
      - Mutually exclusive with O(tarball) and O(directory).
    type: str
  tarball:
    description:
      - Absolute path of a tar archive, plain or compressed, that holds a root file system.
      - Mutually exclusive with O(image) and O(directory).
    type: path
  directory:
    description:
      - Absolute path of a directory that holds a root file system.
      - Mutually exclusive with O(image) and O(tarball).
    type: path
  directory_mode:
    description:
      - With V(overlay), O(directory) stays as it is, and what the container writes is kept with the
        container.
      - With V(direct), the container writes into O(directory).
    type: str
    choices: [overlay, direct]
    default: overlay
  pull:
    description:
      - How an O(image) is fetched.
    type: dict
    suboptions:
      policy:
        description:
          - V(missing) asks the source only if the store of this host has no image of that name.
          - V(always) asks every time, and V(newer) as well, but goes on with what the store has if the
            source does not answer.
          - V(never) takes what the store has, or fails.
        type: str
        choices: [missing, always, newer, never]
        default: missing
      platform:
        description:
          - Which image of an index to take, as C([os/]architecture[/variant]), for example
            V(linux/arm64/v8).
          - If not set, that of this host.
        type: str
      username:
        description: User of the registry, with O(pull.password). If not set, see O(pull.authfile).
        type: str
      password:
        description:
          - Password or token of O(pull.username), required with it. It appears in no output, no file name
            and no command line.
        type: str
      authfile:
        description:
          - File with credentials as C(podman login) and C(docker login) write it. Mutually exclusive with
            O(pull.username).
          - If not set, the files that skopeo looks for, such as C(/run/containers/0/auth.json).
        type: path
      tls_verify:
        description:
          - Whether the registry must use HTTPS with a trusted certificate. If not set, as
            C(registries.conf) says, else V(true).
        type: bool
      cert_dir:
        description:
          - Directory with C(*.crt) of the authorities to trust, and C(*.cert) with C(*.key) of a client
            certificate.
          - Mutually exclusive with O(pull.ca_file). If not set, C(/etc/containers/certs.d).
        type: path
      ca_file:
        description:
          - File with certificates of authorities to trust besides the host's own. Mutually exclusive with
            O(pull.cert_dir).
        type: path
      signature_policy:
        description:
          - Policy file that says which signatures an image must have. If not set,
            C(/etc/containers/policy.json).
        type: path
      retries:
        description: How often a failed request is repeated.
        type: int
        default: 2
      timeout:
        description:
          - Longest time for the whole pull, for example V(30m) or V(1m30s). A plain number is seconds.
        type: str
        default: 30m
"""
