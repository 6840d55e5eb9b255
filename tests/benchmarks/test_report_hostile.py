"""Text that models, plugins and data sets write neither runs in the page nor breaks it: proved in a real browser."""

from __future__ import annotations

import json

import pytest
from browsing import marks
from record_factory import HOSTILE, MARKUP, rewrite, write_record

from benchmarks.report.page import report

TEXTS = [*MARKUP.values(), *HOSTILE.values()]
LONG = "z" * 1_000_000


def as_utf8(text):
    """Arrow takes no lone surrogates."""
    return text.encode("utf-8", "replace").decode()


def plant(runs, number, text):
    """A complete record that says a hostile text wherever a model, a plugin or a data set has a say."""
    outcomes = [[False]] * len(TEXTS)
    record = write_record(runs, algo=f"algo{number}", base=outcomes, final=outcomes, actions=[text, text])
    name = text if text.isprintable() and len(text) <= 200 else f"algo{number}"
    for file, changes in {
        "summary.json": {"algo": name, "metrics_final": {"solved": 0.0, name: 0.5}},
        "manifest.json": {"command": text, "device": text[:500], "packages": {text: text}},
    }.items():
        record.write_json(file, json.loads((record.folder / file).read_text()) | changes)
    rows = record.read_rows("samples.parquet")
    for row in rows:
        row["problem"] = as_utf8(f"wordle/{TEXTS[int(row['problem'].removeprefix('wordle/word'))]}")
        turns, messages = json.loads(row["turns"]), json.loads(row["messages"])
        messages[0]["content"] = text
        for turn in turns:
            turn["feedback"] = text
            turn["rewards"][text] = 0.5
            turn["spans"][text] = [0, 3]
        row["turns"], row["messages"] = json.dumps(turns), json.dumps(messages)
    turns = json.loads(rows[0]["turns"])
    turns[0]["action"] = LONG + text
    rows[0]["turns"] = json.dumps(turns)
    rewrite(record, "samples.parquet", rows)
    points = [
        {"spent/flops": c, "spent/rollouts": c, "solved": c / 2, f"reward/{as_utf8(text)}": c} for c in (0.0, 1.0)
    ]
    record.write_rows("curve.parquet", points)
    said = as_utf8(text)
    credit = {"update": 1, "rollout": 0, "problem": said, "solved": False, "score": 0.5, "turn": 0, "action": said}
    credit |= {"rewards": json.dumps({text: 1.0}), "ends": [1, len(said)], "advantages": [0.5, -0.5]}
    record.keep("credit_first.parquet", [credit])
    seed = {"candidate": 0, "parents": [], "kept": True, "best": False, "why": said, "text": "Play.", "score": 0.1}
    child = {**seed, "candidate": 1, "parents": [0], "best": True, "text": f"Play. {said}"}
    record.keep("proposals.parquet", [seed, child, {**seed, "kept": False, "parents": [0], "text": None}])
    record.write_status("complete")


@pytest.mark.slow
def test_what_models_and_plugins_write_neither_runs_nor_breaks_the_page(visit, tmp_path):
    runs = tmp_path / "runs"
    for number, text in enumerate(TEXTS):
        plant(runs, number, text)
    report(runs, tmp_path / "report.html")
    page = visit(tmp_path / "report.html")
    names = page.locator("#board tbody tr:not(.details) th .name").all_inner_texts()
    for text in MARKUP.values():
        assert any(text in name for name in names), text
    page.evaluate("document.querySelectorAll('#board tbody button, .claim summary').forEach(one => one.click())")
    for which in ("all", "format", "longest"):
        page.select_option("#which", which)
        for _ in range(len(TEXTS)):
            page.click("#next")
            assert page.locator("#viewer .card").count() == 2 + len(TEXTS)
    for number in range(len(TEXTS)):
        page.select_option("#learner", index=number)
        assert page.locator("#strips .gained").count() == 1
    assert page.locator("#trees .card").count() == len(TEXTS)
    for element in page.locator("#curves .legendtext, #viewer .card, #board tbody th").all()[:20]:
        element.hover(force=True)
    assert page.evaluate("window.owned") is None
    assert page.evaluate("({}).polluted") is None
    assert page.locator("main img, main iframe, main script, main a[href^=java]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    for plot in ("curves", "pareto", "targets", "phases"):
        assert marks(page, plot) >= len(TEXTS), plot


def test_the_policy_of_the_page_stops_a_script_that_got_in(browser, tmp_path):
    """The last wall: even an element that a fault of ours let in would not run, and could not call home."""
    write_record(tmp_path / "runs")
    report(tmp_path / "runs", tmp_path / "report.html")
    page = browser.new_page()
    refused = []
    page.on("console", lambda message: refused.append(message.text) if message.type == "error" else None)
    page.goto((tmp_path / "report.html").as_uri())
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            script.textContent = 'window.owned = 1';
            const image = document.createElement('img');
            image.src = 'https://example.org/leak.png';
            image.setAttribute('onerror', 'window.owned = 2');
            document.body.append(script, image);
        }"""
    )
    page.wait_for_timeout(300)
    assert page.evaluate("window.owned") is None
    assert len(refused) >= 2
    page.close()
