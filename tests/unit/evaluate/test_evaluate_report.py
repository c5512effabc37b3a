import json
import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest

from demo_report import make_demo_content
from edgedistill.core.artefacts import Interval, Judgement
from edgedistill.core.errors import DataError
from edgedistill.evaluate.metrics import calibration_bins
from edgedistill.evaluate.report.content import Answered, Curve, ReportContent, reliability_bins
from edgedistill.evaluate.report.html import render_html
from edgedistill.evaluate.report.markdown import escape_markdown, render_markdown
from edgedistill.evaluate.report.numbers import data_size, duration, milliseconds, ratio
from edgedistill.evaluate.report.outcome import summarise
from edgedistill.evaluate.report.sections import build_sections
from edgedistill.evaluate.report.svg import linear_scale, log_scale

OPTIONAL = sorted(
    field.name
    for field in fields(ReportContent)
    if field.name not in ("task", "description", "created", "ships", "requirements", "reasons")
    and field.name not in ("confidence", "schema_version")
)
HOSTILE = '</td><script>alert(1)</script> | a \n# b ![x](http://e.com/?q="1") <img src=x onerror=y>'


class Page(HTMLParser):
    """Collects tags, attributes and text of a document, and checks that tags nest."""

    VOID = ("meta",)

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture(scope="module")
def content() -> ReportContent:
    return make_demo_content()


def test_content_survives_json(content: ReportContent) -> None:
    text = json.dumps(content.as_json(), allow_nan=False)
    assert ReportContent.from_json(json.loads(text)) == content


def test_content_of_another_schema_or_shape_is_refused(content: ReportContent) -> None:
    with pytest.raises(DataError, match="schema 2"):
        ReportContent.from_json({**content.as_json(), "schema_version": 2})
    with pytest.raises(DataError, match="malformed"):
        ReportContent.from_json({**content.as_json(), "ledger": 3})


def test_numbers_that_are_not_finite_are_named_with_their_place(content: ReportContent) -> None:
    assert content.quality is not None
    model = replace(content.quality.models[0], accuracy=Interval(0.5, 0.1, float("inf")))
    bad = replace(content, quality=replace(content.quality, models=(model,)))
    with pytest.raises(ValueError, match=r"report\.quality\.models\.0\.accuracy\.high is inf"):
        bad.as_json()


def test_a_report_cannot_say_ship_over_a_requirement_that_fails(content: ReportContent) -> None:
    failed = replace(content.requirements[0], holds=False)
    with pytest.raises(ValueError, match="cannot say SHIP"):
        replace(content, requirements=(failed,))
    with pytest.raises(ValueError, match="cannot say SHIP"):
        replace(content, requirements=())


def test_html_opens_offline_and_runs_nothing(content: ReportContent) -> None:
    document = render_html(content)
    page = Page(document)
    assert not {"script", "link", "iframe", "img", "object", "form"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert "src" not in names
    assert not any(name.startswith("on") for name in names)
    targets = [value or "" for name, value in page.attributes if name == "href"]
    anchors = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert len(targets) >= 13
    assert set(targets) <= anchors
    assert not re.search(r"https?://|url\(|@import", document)
    assert page.tags.count("svg") == 9


def test_every_section_and_both_ends_say_the_verdict(content: ReportContent) -> None:
    titles = [section.title for section in build_sections(content)]
    for text in (render_html(content), render_markdown(content)):
        assert all(title in text for title in titles)
        assert text.count("SHIP") >= 2
        assert "DO NOT SHIP" not in text
    assert "Not in this report" not in titles


def test_a_negative_verdict_gives_its_reasons() -> None:
    content = make_demo_content(required_retention=0.999)
    assert not content.ships
    assert content.reasons[0].startswith("retention: at least 99.90% required")
    for text in (render_html(content), render_markdown(content)):
        assert text.count("DO NOT SHIP") >= 2
        assert "judged on" in text
        assert "does not hold" in text
    assert "1 of 8 requirements does not hold" in summarise(content)


@pytest.mark.parametrize("name", OPTIONAL)
def test_each_missing_part_is_coped_with(content: ReportContent, name: str) -> None:
    empty = next(field for field in fields(ReportContent) if field.name == name).default
    without = replace(content, **{name: empty})
    Page(render_html(without))
    assert render_markdown(without) != render_markdown(content)


def test_a_report_of_nothing_but_a_verdict_names_what_it_lacks() -> None:
    judgement = Judgement("size", "at most 2 MB", "1.9 MB", 1.9, True)
    bare = ReportContent("t", "", "2026-11-21", True, (judgement,))
    sections = build_sections(bare)
    assert [section.anchor for section in sections] == ["requirements", "missing"]
    Page(render_html(bare))
    assert "- fidelity ledger" in render_markdown(bare)


def test_without_controls_the_report_says_that_none_was_made(content: ReportContent) -> None:
    assert content.quality is not None
    alone = replace(content.quality, models=content.quality.models[:2])
    text = render_markdown(replace(content, quality=alone))
    assert "No comparison with the linear control was made" in text
    assert "Distillation brought" not in text


def test_without_out_of_bounds_texts_the_recall_is_open(content: ReportContent) -> None:
    assert content.boundary is not None
    bare = replace(content.boundary, groups=(), roc=None, scores=(), false_abstention=None)
    text = render_html(replace(content, boundary=bare))
    assert "how many the guard refuses is open" in text
    assert "Out-of-bounds ROC" not in text


def test_user_text_is_shown_and_never_acts(content: ReportContent) -> None:
    assert content.edge_cases is not None
    failure = Answered(HOSTILE, HOSTILE, HOSTILE)
    hostile = replace(
        content,
        task=HOSTILE,
        description=HOSTILE,
        reasons=(HOSTILE,),
        edge_cases=replace(content.edge_cases, failures=(failure,)),
        candidates=tuple(replace(c, name=HOSTILE, note=HOSTILE) for c in content.candidates),
        non_goals=(HOSTILE,),
    )
    page = Page(render_html(hostile))
    assert not {"script", "img"} & set(page.tags)
    assert sum(HOSTILE in text for text in page.texts) >= 6
    markdown = render_markdown(hostile)
    assert "<script" not in markdown.replace("\\<", "")
    assert "\n# b" not in markdown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a|b", r"a\|b"),
        ("two\nlines", "two lines"),
        ("1. first", r"1\. first"),
        ("99.25%", "99.25%"),
        ("- item", r"\- item"),
        ("-0.5 points", "-0.5 points"),
        ("`x` *y* _z_", r"\`x\` \*y\* \_z\_"),
        ("https://e.com", "https&#58;//e.com"),
    ],
)
def test_markdown_escapes(text: str, expected: str) -> None:
    assert escape_markdown(text) == expected


def test_markdown_tables_have_as_many_cells_as_headings(content: ReportContent) -> None:
    width = None
    for line in render_markdown(content).splitlines():
        if not line.startswith("|"):
            width = None
            continue
        cells = len(re.split(r"(?<!\\)\|", line))
        assert width in (None, cells), line
        width = cells


def test_scales_hold_their_values_between_round_ticks() -> None:
    scale = linear_scale(0.928, 0.957)
    assert scale.ticks == (0.92, 0.93, 0.94, 0.95, 0.96)
    assert linear_scale(3.0, 3.0).fraction(3.0) == pytest.approx(0.5)
    log = log_scale(0.35, 29.0)
    assert 0 < log.fraction(0.35) < log.fraction(1.0) < log.fraction(29.0) < 1
    assert {1.0, 10.0} <= set(log.ticks)
    assert log_scale(2.0, 2.0).fraction(2.0) == pytest.approx(0.5)
    assert len(log_scale(0.0011, 0.0013).ticks) >= 2


def test_one_candidate_with_no_latency_still_plots(content: ReportContent) -> None:
    only = replace(content.candidates[0], latency_p95_ms=0.0)
    Page(render_html(replace(content, candidates=(only,))))


def test_numbers_read_well() -> None:
    assert [data_size(n) for n in (142, 6_310, 1_843_211)] == ["142 B", "6.3 kB", "1.84 MB"]
    assert [milliseconds(v) for v in (0.0712, 3.456, 31.49, 1071.7)] == [
        "0.071 ms",
        "3.46 ms",
        "31.5 ms",
        "1072 ms",
    ]
    assert [ratio(3.15, 0.085), ratio(3.0, 2.0), ratio(1.0, 0.0)] == ["37×", "1.5×", "–"]
    assert [duration(1.84), duration(212.4), duration(119.7)] == [
        "1.8 s",
        "3 min 32 s",
        "2 min 0 s",
    ]


def test_curves_are_thinned_and_keep_both_ends() -> None:
    curve = Curve.from_arrays(np.arange(5000), np.arange(5000) / 2, max_points=100)
    assert (len(curve.x), curve.x[0], curve.x[-1], curve.y[-1]) == (100, 0, 4999, 2499.5)
    with pytest.raises(ValueError, match="equally long"):
        Curve.from_arrays([1.0], [1.0, 2.0])


def test_reliability_bins_leave_out_the_empty_ones() -> None:
    bins = reliability_bins(calibration_bins([0.9, 0.95], [True, False]))
    assert [(round(b.low, 3), b.num_rows) for b in bins] == [(0.867, 1), (0.933, 1)]
