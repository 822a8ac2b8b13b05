# Copyright (c) 2026, The pvecri authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write metrics as Prometheus' own parser reads them."""

from __future__ import annotations

import math
import typing as t

import hypothesis
import hypothesis.strategies as st
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pvecri.metrics.text import Family, Histogram, Page

GAUGE = Family("x", "gauge", 'what \\ it\nis of "x"', ("a", "b"))
COUNTER = Family("x_total", "counter", "what it is")
TIMES = Family("x_seconds", "histogram", "what it is", ("a",))

LABEL = st.text()
NUMBER = st.one_of(st.integers(-(2**53), 2**53), st.floats())


def samples(page: Page) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.text())
        for sample in family.samples
    }


def clean(text: str) -> str:
    """Return what UTF-8 can say of a text."""
    return text.encode(errors="replace").decode()


@hypothesis.given(st.dictionaries(st.tuples(LABEL, LABEL), NUMBER, max_size=8))
def test_whatever_stands_in_a_label_is_read_back(values: dict[tuple[str, str], float]) -> None:
    # The parser takes other line ends than the format's for ends, too, when it is given a text.
    odd = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    values = {
        tuple("".join(char for char in label if char not in odd) for label in labels): value
        for labels, value in values.items()
    }
    page = Page()
    page.add(GAUGE, values.items())
    found = samples(page)
    assert len(page.text().split("\n")) == len(values) + 3
    for labels, value in values.items():
        got = found["x", (("a", clean(labels[0])), ("b", clean(labels[1])))]
        assert got == value or (math.isnan(got) and math.isnan(value))


def test_help_and_type_stand_before_the_values() -> None:
    page = Page()
    page.add(GAUGE, [(("1", "2"), 3)])
    page.add(COUNTER, [((), 4)])
    lines = page.text().splitlines()
    assert lines == [
        '# HELP x what \\\\ it\\nis of "x"',
        "# TYPE x gauge",
        'x{a="1",b="2"} 3',
        "# HELP x_total what it is",
        "# TYPE x_total counter",
        "x_total 4",
    ]


def test_values_need_as_many_labels_as_their_family_has() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Page().add(GAUGE, [(("1",), 3)])


@hypothesis.given(st.lists(st.floats(0, 20)))
def test_buckets_count_what_is_up_to_their_bound(values: list[float]) -> None:
    histogram = Histogram((0.1, 1.0, 10.0))
    for value in values:
        histogram.observe(value)
    page = Page()
    page.add_histograms(TIMES, [(("m",), histogram)])
    found = samples(page)
    for bound, text in ((0.1, "0.1"), (1.0, "1.0"), (10.0, "10.0"), (math.inf, "+Inf")):
        expected = sum(value <= bound for value in values)
        assert found["x_seconds_bucket", (("a", "m"), ("le", text))] == expected
    assert found["x_seconds_count", (("a", "m"),)] == len(values)
    assert found["x_seconds_sum", (("a", "m"),)] == pytest.approx(sum(values))


@pytest.mark.parametrize(
    ("value", "text"), [(1, "1"), (0.25, "0.25"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")]
)
def test_numbers(value: t.Any, text: str) -> None:
    page = Page()
    page.add(COUNTER, [((), value)])
    assert page.text().splitlines()[-1] == f"x_total {text}"
