# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold the reader of image references to the grammar that container tools share."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.images.reference import (
    ImageReference,
    check_digest,
    check_tag,
    quoted,
)

SHA256 = "sha256:" + "0123456789abcdef" * 4
SHA384 = "sha384:" + "0123456789abcdef" * 6
SHA512 = "sha512:" + "0123456789abcdef" * 8


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("nginx", "docker.io", "library/nginx", "latest", None),
        ("nginx:1.25", "docker.io", "library/nginx", "1.25", None),
        (f"nginx@{SHA256}", "docker.io", "library/nginx", None, SHA256),
        (f"nginx:1.25@{SHA256}", "docker.io", "library/nginx", "1.25", SHA256),
        (f"a/b@{SHA384}", "docker.io", "a/b", None, SHA384),
        (f"a/b@{SHA512}", "docker.io", "a/b", None, SHA512),
        ("docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("index.docker.io/nginx", "docker.io", "library/nginx", "latest", None),
        ("index.docker.io/grafana/grafana:11", "docker.io", "grafana/grafana", "11", None),
        ("DOCKER.IO/nginx", "docker.io", "library/nginx", "latest", None),
        ("grafana/grafana", "docker.io", "grafana/grafana", "latest", None),
        ("a/b/c/d:x", "docker.io", "a/b/c/d", "x", None),
        ("localhost/app", "localhost", "app", "latest", None),
        ("LocalHost/app", "localhost", "app", "latest", None),
        ("localhost:5000/app:2", "localhost:5000", "app", "2", None),
        ("localhost:5000", "docker.io", "library/localhost", "5000", None),
        ("registry:5000/app", "registry:5000", "app", "latest", None),
        ("registry/app", "docker.io", "registry/app", "latest", None),
        ("Registry.Example.com:443/app", "registry.example.com:443", "app", "latest", None),
        ("192.0.2.7:5000/a/b:c", "192.0.2.7:5000", "a/b", "c", None),
        ("[2001:db8::1]:5000/app:2", "[2001:db8::1]:5000", "app", "2", None),
        ("[2001:DB8::1]/app", "[2001:db8::1]", "app", "latest", None),
        ("quay.io/nginx", "quay.io", "nginx", "latest", None),
        ("xn--bcher-kva.example/app", "xn--bcher-kva.example", "app", "latest", None),
        ("lxc/debian-12:bookworm", "docker.io", "lxc/debian-12", "bookworm", None),
        ("a__b/c---d/e.f/g_h", "docker.io", "a__b/c---d/e.f/g_h", "latest", None),
        ("oci:latest", "docker.io", "library/oci", "latest", None),
        ("app:_Tag.with-all_0", "docker.io", "library/app", "_Tag.with-all_0", None),
        ("0/0:0", "docker.io", "0/0", "0", None),
        ("f" * 63, "docker.io", "library/" + "f" * 63, "latest", None),
        ("f" * 64 + ":1", "docker.io", "library/" + "f" * 64, "1", None),
        ("app:" + "t" * 128, "docker.io", "library/app", "t" * 128, None),
        ("quay.io/" + "r" * 247, "quay.io", "r" * 247, "latest", None),
    ],
)
def test_parse_normalises(text, registry, repository, tag, digest):
    assert ImageReference.parse(text) == ImageReference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    ("text", "part", "allowed"),
    [
        ("", "needed", "docker.io/library/nginx:1"),
        (None, "needed", "docker.io/library/nginx:1"),
        (7, "needed", "docker.io/library/nginx:1"),
        ("ngi nx", "' ' at position 4", "printable ASCII"),
        ("nginx\n", r"'\n' at position 6", "printable ASCII"),
        ("n\u0456ginx", r"'\u0456' at position 2", "printable ASCII"),
        ("docker://nginx:1", "'docker://'", "Write 'nginx:1'"),
        ("https://quay.io/a", "'https://'", "Write 'quay.io/a'"),
        ("oci:/srv/layout", "'oci:'", "registry/repository:tag"),
        ("oci-archive:./a.tar", "'oci-archive:'", "registry/repository:tag"),
        ("containers-storage:[overlay@/x]a", "'containers-storage:'", "registry/repository:tag"),
        ("e" * 64, "ID of an image", "registry/repository@sha256"),
        ("nginx:", "tag after ':' is empty", "'latest'"),
        ("nginx:-x", "'-x' is no tag", "neither '.' nor '-'"),
        ("nginx:.x", "'.x' is no tag", "neither '.' nor '-'"),
        ("nginx:a+b", "'a+b' is no tag", "letters, digits"),
        ("nginx:" + "t" * 129, "129 characters", "at most 128"),
        ("nginx@", "'' is no digest", "sha256:<64 hexadecimal digits>"),
        ("nginx@latest", "'latest' is no digest", "sha256:<64"),
        ("nginx@md5:0123", "'md5:0123' is no digest", "sha512:<128"),
        ("nginx@sha256:" + "0" * 63, "63 hexadecimal digits", "sha256 has 64"),
        ("nginx@sha512:" + "0" * 64, "64 hexadecimal digits", "sha512 has 128"),
        ("nginx@sha256:" + "A" * 64, "'" + "A" * 64 + "' in the digest", "0-9 and a-f"),
        (f"nginx@{SHA256}@{SHA256}", "is not hexadecimal", "0-9 and a-f"),
        ("nginx@sha256:", "'' in the digest", "0-9 and a-f"),
        ("Nginx", "'Nginx' is no path component", "lower case: 'nginx'"),
        ("MyOrg/app", "'MyOrg' is no path component", "if 'MyOrg' is a registry, add its port"),
        ("quay.io/a/App", "'App' is no path component", "lower case: 'app'"),
        ("a___b", "'a___b'", "one or two underscores"),
        ("a..b/c/d", "'a..b' is no name of a registry", "host name"),
        ("a/b..c", "'b..c'", "one dot"),
        ("-a", "'-a'", "Path components"),
        ("a-/b", "'a-'", "Path components"),
        ("a/b$", "'b$'", "Path components"),
        ("/a", "starts with '/'", "registry/repository:tag"),
        ("a/", "ends with '/'", "registry/repository:tag"),
        ("quay.io/", "ends with '/'", "registry/repository:tag"),
        ("a//b", "has '//'", "registry/repository:tag"),
        (":1", "before the tag or digest is empty", "registry/repository:tag"),
        (f"@{SHA256}", "before the tag or digest is empty", "registry/repository:tag"),
        ("a:b/c", "'b' is no port of registry 'a'", "1 to 65535"),
        ("a:/c", "'' is no port of registry 'a'", "1 to 65535"),
        ("a:0/c", "'0' is no port", "1 to 65535"),
        ("a:65536/c", "'65536' is no port", "1 to 65535"),
        ("a:123456789/c", "'123456789' is no port", "1 to 65535"),
        ("-a.example/c", "'-a.example' is no name of a registry", "host name"),
        ("a_b.example/c", "'a_b.example' is no name of a registry", "host name"),
        ("[::1/c", "'[::1' is no name of a registry", "IPv6"),
        ("[::g]/c", "'[::g]' is no name of a registry", "IPv6"),
        ("[fe80::1%eth0]/c", "'[fe80::1%eth0]' is no name of a registry", "IPv6"),
        ("[::1]x/c", "'[::1]' is no name of a registry", "IPv6"),
        ("[::1]:x/c", "'x' is no port of registry '[::1]'", "1 to 65535"),
        ("quay.io/" + "r" * 248, "has 256 characters", "at most 255"),
        ("r" * 238, "has 256 characters", "at most 255"),
    ],
)
def test_parse_refuses_and_quotes_the_bad_part(text, part, allowed):
    with pytest.raises(InvalidSpec) as caught:
        ImageReference.parse(text, field="requests[3].image")
    assert caught.value.field == "requests[3].image"
    assert part in caught.value.problem
    assert allowed in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "canonical", "familiar", "pullable"),
    [
        (
            "nginx",
            "docker.io/library/nginx:latest",
            "nginx:latest",
            "docker.io/library/nginx:latest",
        ),
        ("library/a/b:1", "docker.io/library/a/b:1", "library/a/b:1", "docker.io/library/a/b:1"),
        ("a/b:1", "docker.io/a/b:1", "a/b:1", "docker.io/a/b:1"),
        ("docker.io/x.org/b:1", "docker.io/x.org/b:1", "docker.io/x.org/b:1", "docker.io/x.org/b:1"),
        ("docker.io/localhost/b", *["docker.io/localhost/b:latest"] * 3),
        ("quay.io/b:1", "quay.io/b:1", "quay.io/b:1", "quay.io/b:1"),
        (
            f"nginx:1@{SHA256}",
            f"docker.io/library/nginx:1@{SHA256}",
            f"nginx:1@{SHA256}",
            f"docker.io/library/nginx@{SHA256}",
        ),
    ],
)
def test_forms_of_a_reference(text, canonical, familiar, pullable):
    reference = ImageReference.parse(text)
    assert (reference.canonical, str(reference)) == (canonical, canonical)
    assert reference.familiar == familiar
    assert reference.pullable == pullable


def test_as_dict_is_the_whole_reference():
    assert ImageReference.parse("nginx").as_dict() == {
        "canonical": "docker.io/library/nginx:latest",
        "familiar": "nginx:latest",
        "registry": "docker.io",
        "repository": "library/nginx",
        "tag": "latest",
        "digest": None,
    }


def test_quoted_escapes_and_cuts():
    assert quoted("a'b\x1b") == '"a\'b\\x1b"'
    assert len(quoted("x" * 5000)) < 110


def test_checks_name_the_field_they_were_given():
    for check, bad in ((check_tag, "-"), (check_digest, "x")):
        with pytest.raises(InvalidSpec) as caught:
            check(bad, field="template.tag")
        assert caught.value.field == "template.tag"


# The grammar once more, as the distribution project prints it, for comparison with the reader.
ALNUM = st.text("abcxyz019", min_size=1, max_size=6)
SEPARATOR = st.sampled_from([".", "_", "__", "-", "--", "-----"])
COMPONENT = st.builds(
    lambda first, rest: first + "".join(sep + part for sep, part in rest),
    ALNUM,
    st.lists(st.tuples(SEPARATOR, ALNUM), max_size=2),
)
HOST = st.one_of(
    st.sampled_from(["localhost", "docker.io", "index.docker.io", "quay.io", "192.0.2.1", "[2001:db8::5]"]),
    st.builds(lambda a, b: f"{a}.{b}", ALNUM, ALNUM),
)
REGISTRY = st.builds(
    lambda host, port: host if port is None else f"{host}:{port}", HOST, st.none() | st.integers(1, 65535)
)
TAG = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,127}", fullmatch=True)
DIGEST = st.builds(
    lambda name, hexes: f"{name[0]}:{(hexes * name[1])[: name[1]]}",
    st.sampled_from([("sha256", 64), ("sha384", 96), ("sha512", 128)]),
    st.text("0123456789abcdef", min_size=1, max_size=4),
)


@given(REGISTRY, st.lists(COMPONENT, min_size=1, max_size=4), st.none() | TAG, st.none() | DIGEST)
def test_parse_accepts_the_whole_grammar_and_every_form_reads_back(registry, path, tag, digest):
    text = f"{registry}/{'/'.join(path)}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    reference = ImageReference.parse(text)
    assert reference.tag == (tag or (None if digest else "latest"))
    assert reference.digest == digest
    assert reference.repository.split("/")[-len(path) :] == path
    assert ImageReference.parse(reference.canonical) == reference
    assert ImageReference.parse(reference.familiar) == reference
    assert len(reference.familiar) <= len(reference.canonical)


FULL_GRAMMAR = re.compile(
    r"(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])"
    r"(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?"
    r"(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


@given(st.text("aB1.-_:/@[]% \n", max_size=12) | st.text(max_size=8))
def test_parse_never_accepts_what_the_grammar_refuses(text):
    try:
        reference = ImageReference.parse(text)
    except InvalidSpec:
        return
    assert FULL_GRAMMAR.fullmatch(text)
    assert FULL_GRAMMAR.fullmatch(reference.canonical)
    assert ImageReference.parse(reference.canonical) == reference
