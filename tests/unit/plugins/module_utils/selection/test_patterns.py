# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold globs to their definition and regular expressions to Python's own."""

from __future__ import annotations

import fnmatch
import re
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.pvecri.runtime.plugins.module_utils.errors import InvalidSpec
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.automaton import Bank
from ansible_collections.pvecri.runtime.plugins.module_utils.selection.patterns import glob, regex


def matches(pattern, text):
    return bool(Bank([pattern.node]).match(text))


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("web", ["web"], ["", "we", "web1", "Web"]),
        ("", [""], ["a"]),
        ("*", ["", "a", "a/b", "ü\n"], []),
        ("db-*", ["db-", "db-1/x"], ["db", "xdb-1"]),
        ("*x*x", ["xx", "axbx"], ["x", "axb"]),
        ("a?c", ["abc", "a/c"], ["ac", "abbc"]),
        ("[a-c]1", ["a1", "c1"], ["d1", "1"]),
        ("[!a-c]1", ["d1", "/1"], ["a1", "1"]),
        ("[^a]", ["b", "^"], ["a"]),
        ("[]a]", ["]", "a"], ["["]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[[]x[*]", ["[x*"], ["x", "[xx"]),
        ("a.b+c", ["a.b+c"], ["axbbc"]),
        ("a\\*", ["a\\", "a\\x"], ["a*"]),
        ("{a,b}", ["{a,b}"], ["a", "b"]),
    ],
)
def test_glob_matches(text, yes, no):
    pattern = glob(text, "f")
    assert [value for value in yes if not matches(pattern, value)] == []
    assert [value for value in no if matches(pattern, value)] == []


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("library/nginx", ["library/nginx"], ["nginx", "library/nginx/x"]),
        ("library/*", ["library/nginx", "library/"], ["library", "library/a/b"]),
        ("*", ["a"], ["a/b"]),
        ("?/[!x]", ["a/b"], ["//b", "a//", "a/x"]),
        ("**", ["a", "a/b", "a/b/c"], [""]),
        ("**/db-*", ["db-1", "a/db-1", "a/b/db-1"], ["a/db-1/x", "adb-1", "/db-1"]),
        ("lxc/**", ["lxc/a", "lxc/a/b"], ["lxc", "x/lxc/a"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["a", "ab", "a/xb", "a/b/c"]),
        ("**/**/a", ["a", "b/a", "b/c/a"], ["b/ac"]),
        ("**/x/**", ["x/a", "b/x/a/c"], ["x", "b/x", "bx/a"]),
    ],
)
def test_glob_of_a_path_keeps_to_components(text, yes, no):
    pattern = glob(text, "f", path=True)
    assert [value for value in yes if not matches(pattern, value)] == []
    assert [value for value in no if matches(pattern, value)] == []


@given(st.text("ab*?[]!-", max_size=7), st.lists(st.text("ab-]![", max_size=5), max_size=10))
def test_glob_agrees_with_the_shell_where_it_accepts(text, values):
    try:
        pattern = glob(text, "f")
    except InvalidSpec:
        pattern = None
    assert pattern or "[" in text, "only classes can be malformed"
    for value in values if pattern else []:
        assert matches(pattern, value) == fnmatch.fnmatchcase(value, text)


REGEX_PARTS = st.one_of(
    st.sampled_from("ab12_-. \n.*+?()|^$[]{}\\"),
    st.sampled_from(
        ["\\d", "\\w", "\\s", "\\D", "\\W", "\\S", "\\.", "\\-", "\\t", "\\b", "\\1", "(?:", "(?="]
    ),
    st.sampled_from(["[ab]", "[^ab]", "[a-z0-9]", "[]a]", "[a-]", "[-a]", "[\\d_]", "[\\W]", "[^\\s]"]),
    st.sampled_from(["{2}", "{1,2}", "{,2}", "{1,}"]),
)


@settings(max_examples=400)
@given(
    st.lists(REGEX_PARTS, max_size=8).map("".join),
    st.lists(st.text("ab12_-. \n\t\u00fc\u0665]", max_size=6), max_size=12),
)
def test_regex_means_what_python_means(text, values):
    try:
        pattern = regex(text, "f")
    except InvalidSpec:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        python = re.compile(text, re.ASCII | re.DOTALL)
    bank = Bank([pattern.node])
    for value in values:
        assert bool(bank.match(value)) == bool(python.fullmatch(value)), value


@pytest.mark.parametrize(
    ("text", "yes", "no"),
    [
        ("v[0-9]+", ["v1", "v123"], ["v", "xv1", "v1x"]),
        ("^v[0-9]+$", ["v1"], ["v", "xv1"]),
        ("a\\$", ["a$"], ["a"]),
        ("(db|vm)-(?:a|b){2}", ["db-ab", "vm-bb"], ["db-a", "db-abb"]),
        ("", [""], ["a"]),
        ("a|", ["a", ""], ["b"]),
        ("a{0}b", ["b"], ["ab"]),
        ("[\\]\\[]", ["]", "["], ["\\"]),
    ],
)
def test_regex_matches_the_whole_value(text, yes, no):
    pattern = regex(text, "f")
    assert [value for value in yes if not matches(pattern, value)] == []
    assert [value for value in no if matches(pattern, value)] == []


@pytest.mark.parametrize(
    ("text", "problem", "hint"),
    [
        ("a**", "second quantifier '*' follows the first at character 3", "use a group"),
        ("a+?", "second quantifier '?'", "Lazy"),
        ("a{2}+", "second quantifier '+'", "possessive"),
        ("*a", "nothing to repeat before '*' at character 1", "'\\*'"),
        ("(|+)", "nothing to repeat before '+'", "'\\+'"),
        ("{2}", "nothing to repeat before '{'", "'\\{'"),
        ("a{", "'{' starts no repetition at character 2", "'{2,5}'"),
        ("a{x}", "'{' starts no repetition", "'{2,5}'"),
        ("a{1;2}", "'{' starts no repetition", "'{2,5}'"),
        ("a{}", "no bounds", "'{2,5}'"),
        ("a{,}", "no bounds", "'{2,5}'"),
        ("a{256}", "more than 255", "'*' or '+'"),
        ("a{0,999}", "more than 255", "'*' or '+'"),
        ("a{5,2}", "lower bound is above", "Swap"),
        ("(a", "group is not closed at character 1", "'\\('"),
        ("a)", "unexpected ')' at character 2", "'\\)'"),
        ("(?=a)", "'(?=' is not supported", "one pass"),
        ("(?P<n>a)", "'(?P' is not supported", "one pass"),
        ("(?i)a", "'(?i' is not supported", "one pass"),
        ("(a)\\1", "'\\1' is not supported", "Known are"),
        ("\\bx", "'\\b' is not supported", "Known are"),
        ("a\\", "nothing follows the backslash at character 2", "'\\\\'"),
        ("[]", "empty or not closed at character 1", "'\\['"),
        ("[^]", "empty or not closed", "'\\['"),
        ("x[ab", "empty or not closed at character 2", "'\\['"),
        ("[z-a]", "range 'z-a' is empty at character 2", "'a-z'"),
        ("[\\d-z]", "needs a character on both sides", "'\\-'"),
        ("[a-\\w]", "needs a character on both sides", "'\\-'"),
        ("a^b", "anchor '^' stands where it cannot match at character 2", "whole value"),
        ("a$b", "anchor '$' stands where", "whole value"),
        ("(a$)", "anchor '$' stands where", "whole value"),
        ("a|^b", "anchor '^' stands where", "whole value"),
        ("((((((((((((((((((((((a))))))))))))))))))))))", "nested too deeply", "20 levels"),
        ("(a{200}){200}", "has 40000 places", "At most 2000"),
        ("a" * 501, "501 characters", "At most 500"),
    ],
)
def test_regex_refuses_with_the_place_and_the_remedy(text, problem, hint):
    with pytest.raises(InvalidSpec) as caught:
        regex(text, "policy.rules[0].match.tag.regex")
    assert caught.value.field == "policy.rules[0].match.tag.regex"
    assert problem in caught.value.problem.replace("\\\\", "\\")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "path", "problem"),
    [
        ("[", False, "empty or not closed at character 1"),
        ("a[!]", False, "empty or not closed at character 2"),
        ("[b-a]", False, "range 'b-a' is empty"),
        ("a/[b/c]", True, "empty or not closed"),
        ("a/**b", True, "'**' in 'a/**b' is not a whole path component"),
        ("a" * 501, True, "501 characters"),
    ],
)
def test_glob_refuses_with_the_place(text, path, problem):
    with pytest.raises(InvalidSpec) as caught:
        glob(text, "f", path=path)
    assert problem in caught.value.problem
    assert caught.value.hint


@pytest.mark.parametrize("text", ["(a+)+b", "(a|a)*b", "(a*)*b", "a*a*a*a*a*a*a*b", "(.*)(.*)(.*)(.*)x"])
def test_regex_that_ruins_a_backtracking_matcher_is_read_in_one_pass(text):
    bank = Bank([regex(text, "f").node])
    assert not bank.match("a" * 20_000 + "c")
    # One state per step at most: the cost is the length, not a power of it.
    assert len(bank._states) < 10


def test_pattern_says_how_it_was_written():
    assert str(glob("a*", "f")) == "glob 'a*'"
    assert str(regex("a+", "f")) == "regex 'a+'"
    assert glob("a", "f") == glob("a", "g")
    assert glob("a", "f") != regex("a", "f")


def test_pattern_is_exact_when_it_matches_its_own_text_alone():
    assert [glob(text, "f").is_exact for text in ("a", "a.b/c", "", "a*", "a?", "[a]")] == [True] * 3 + [
        False
    ] * 3
    assert not regex("a", "f").is_exact
