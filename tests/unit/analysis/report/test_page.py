"""The page stands alone, tells what the audit found, and trusts no text of the run."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest

from qmml_md.analysis.audit import audit
from qmml_md.analysis.causes.classes import Cause
from qmml_md.analysis.report.page import FIGURES, significant, whole, write_report
from qmml_md.errors import AuditError
from qmml_md.records.database import Commit
from qmml_md.records.rows import Event


class Page(HTMLParser):
    """Collects ids, tags and every address that a browser would fetch."""

    VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})

    def __init__(self, text):
        super().__init__()
        self.ids, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.addresses.append(value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def reported(told, write_story, tmp_path_factory):
    """The honest run with its report, for tests that only read."""
    run = write_story(told, tmp_path_factory.mktemp("reported") / "run")
    audit(run)
    write_report(run)
    return run


@pytest.fixture
def page(reported):
    return (reported.audit / "report.html").read_text(encoding="utf-8")


def test_page_needs_nothing_from_outside(page):
    parsed = Page(page)
    assert parsed.open == []
    assert all(address.startswith("#") for address in parsed.addresses)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(parsed.tags)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_ids_are_unique(page):
    ids = Page(page).ids
    assert len(ids) == len(set(ids))


def test_every_figure_is_drawn_and_saved(page, reported):
    for name, _, title, _ in FIGURES:
        assert title in page
        tree = ET.parse(reported.audit / "figures" / f"{name}.svg")  # noqa: S314 - written just now
        assert tree.getroot().tag.endswith("svg")
    assert page.count("<svg") == len(FIGURES)


def test_figures_say_units_on_their_axes(page):
    for text in ("time (ps)", "change (kJ/mol)", "difference (eV/Å)", "temperature (K)", "wall time (s)",
                 "disagreement σ of the ensemble (eV/Å)", "on the labels (eV/Å)"):  # fmt: skip
        assert text in page


def test_page_tells_the_verdict_the_updates_and_the_numbers(page, reported):
    document = json.loads((reported.audit / "audit.json").read_text())
    assert "This trajectory passes its audit." in page
    assert "1 accepted · 1 refused" in page
    assert "the anchors moved by 0.2 eV/Å, more than 0.1" in page
    assert significant(document["updates"][0]["booked"], 6) in page
    assert all(check["name"] in page for check in document["checks"])
    assert "Spearman ρ = " in page
    assert "EOH1 O3" in page


def test_failed_audit_says_why_in_the_headline(story, tell):
    story.config["audit"]["force_rmse_eV_per_A"] = 1e-4
    run = tell(story)
    audit(run)
    text = write_report(run).read_text(encoding="utf-8")
    headline = text[: text.index("The run at a glance")]
    assert "This trajectory fails its audit." in headline
    assert "the RMSE of the force difference to the final model exceeds 0.0001 eV/Å" in headline
    assert "first out of tolerance" in text


def test_text_of_the_run_is_escaped(story, tell):
    story.config["title"] = "<script>alert(1)</script> & $x_$"
    run = tell(story)
    audit(run)
    text = write_report(run).read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_run_without_labels_and_updates_still_has_a_report(story, tell, monkeypatch):
    story.frames, story.entries, story.swaps = [story.frames[0]], [], [0]
    story.segment_models, story.models, story.tables = [0], story.models[:1], False
    run = tell(story)
    audit(run)
    text = write_report(run).read_text(encoding="utf-8")
    for sentence in ("No atom was in Region A for any time.", "No update was attempted.", "the ledger is empty"):
        assert sentence in text


def test_hindsight_names_every_model_and_where_to_begin_again(story, tell):
    story.config["audit"]["force_rmse_eV_per_A"] = 1e-4
    run = tell(story)
    document = json.loads(audit(run).path.read_text())
    text = write_report(run).read_text(encoding="utf-8")
    assert f"qmml run --from {run.root}@0</code>" in text
    table = text[text.index("Hindsight") : text.index("Updates of the model")]
    for row in document["hindsight"]:
        assert row["model"][:12] in table
        assert significant(row["force_rmse"]) in table
    assert table.count(">Fail<") == 1
    assert table.count(">Pass<") == 1


def test_run_within_tolerance_names_no_command(page):
    assert "qmml run --from" not in page
    assert "kT/ns/dof (95 %)" in page
    assert "<dt>Discarded</dt><dd>nothing</dd>" in page


def test_ramps_are_told_and_shaded(ramp_story, tell, page):
    run = tell(ramp_story)
    audit(run)
    text = write_report(run).read_text(encoding="utf-8")
    assert "ramp, 6 steps" in text
    assert ">ramp<" in text
    assert ">ramp<" not in page
    hindsight = text[text.index("Hindsight") : text.index("Updates of the model")]
    assert " → " in hindsight


def test_discarded_stretches_are_told(story, tell):
    run = tell(story)
    database = run.open_database()
    place = database.place()
    last = story.entries[-1]
    database.commit(Commit(entries=[dataclasses.replace(last, step=200)]))
    lost = {"from_step": 120, "to_step": 80, "entries": 1, "segments": 0}
    database.commit(
        Commit(rewind_to=place, events=[Event(step=80, time=0.04, kind="rewind", message="back", data=lost)])
    )
    database.close()
    audit(run)
    text = write_report(run).read_text(encoding="utf-8")
    assert "40 steps, run again · rewinds 1 · segments 0 · ledger entries 1" in text
    assert "run again from here" in text


def test_report_is_the_same_when_written_again(run):
    audit(run)
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


def test_report_before_the_audit_is_refused(run):
    with pytest.raises(AuditError, match="has not been audited yet"):
        write_report(run)


def test_audit_of_another_version_is_refused(run):
    audit(run)
    path = run.audit / "audit.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(AuditError, match="another version"):
        write_report(run)


def test_numbers_read_well():
    assert significant(-0.00012345) == "−0.000123"
    assert significant(None) == significant(float("inf")) == whole(None) == "–"
    assert whole(1234567) == "1\u2009234\u2009567"


def test_the_page_names_the_likely_cause(story, tell):
    story.every_frame(lambda f: dataclasses.replace(f, forces_used=-f.forces_used))
    run = tell(story)
    diagnosis = audit(run).diagnoses[0]
    page = write_report(run).read_text(encoding="utf-8")
    assert f"Likely cause: {diagnosis.cause}." in page
    assert diagnosis.cause == Cause.NOT_GRADIENT
