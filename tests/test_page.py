"""The page of all runs, as text and in a real browser; and what notebooks' pages ask for."""

import base64
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from conftest import PARAMS, TASK
from PIL import Image

from lib import PROJECT
from lib.explain import page, thumbnails
from lib.runner import chain, kernels
from lib.score import ledger, runs

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>"
WIDTHS = (1280, 390)  # of a screen, and of a phone


def make_run(folder, name, right, folds=(0, 1), finish=True, **params):
    """Write a run whose share ``right`` of labels is predicted as it is; return it."""
    given = PARAMS | {"experiment": name, "work_dir": str(folder / "work")} | params
    run = runs.start(str(folder / "runs"), given, TASK)
    for fold in folds:
        run.write_fold(fold, *predictions(fold, right))
        history = {"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "valid_log_loss": [2.0, 1.5, 1.2]}
        scores = pd.DataFrame({**history, "score": [0.1, right / 2, right]})
        scores.to_csv(run.fold(fold) / "history.csv", index=False)
    if finish:
        runs.finish(run, list(folds))
        (run.folder / "03_train.html").write_text("<p>trained</p>")
    return run


def predictions(fold, right):
    rng = np.random.default_rng(fold)
    label = rng.integers(0, 18, 90)
    guess = np.where(rng.random(90) < right, label, rng.integers(0, 18, 90))
    keys = pd.Index([f"{fold}/{k}" for k in range(90)], name="key")
    table = pd.DataFrame(np.eye(18)[guess], keys, TASK.columns())
    return table.assign(fold=fold, label=label, person=keys), table


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Four runs and two submissions, with texts that would do harm, and their page."""
    folder = tmp_path_factory.mktemp("place")
    make_run(folder, "good", 0.9, why=EVIL, expect="more")
    make_run(folder, "bad", 0.2, backbone=[EVIL], epochs=100)
    make_run(folder, "begun", 0.5, folds=(0,), finish=False)
    (make_run(folder, "broken", 0.5).folder / "task.yaml").write_text("attributes: 3")
    for path in ("work/01_eda.html", "runs/bench/08 100%.html", "submissions/first.html"):
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text("<p>a notebook</p>")
    rows = pd.DataFrame({column: ["", ""] for column in ledger.COLUMNS})
    rows = rows.assign(name=["first", EVIL], oof_score=["0.5", ""], public=["", "0.4"], notes=EVIL)
    rows.assign(runs="good").to_csv(folder / "submissions/ledger.csv", index=False)
    page.write(folder / "runs", folder / "submissions")
    return folder


@pytest.fixture
def soup(place):
    return BeautifulSoup((place / "runs/index.html").read_text("utf-8"), "html.parser")


def tables(soup):
    """Return the rows of each table, as texts by column (the first one is called name)."""
    return [
        [
            {"name": row.th["data-value"]} | {
                cell["data-label"]: cell.text for cell in row.find_all("td", {"data-label": True})
            }
            for row in table.tbody.find_all("tr")
        ]
        for table in soup.find_all("table")
    ]  # fmt: skip


# What it says


def test_runs_are_listed_best_first_with_their_scores_in_the_words_of_their_files(place, soup):
    found, submissions = tables(soup)
    assert [row["name"] for row in found] == ["good", "bad", "begun", "broken"]
    for row in found[:2]:
        kept = json.loads((place / f"runs/{row['name']}/metrics.json").read_text())
        shown = [row[name] for name in ("out-of-fold", *TASK.names)]
        assert shown == [f"{kept[name]:.3f}" for name in ("oof_score", *TASK.names)]
    assert [row["name"] for row in submissions] == ["first", EVIL]
    assert [row["out-of-fold score"] for row in submissions] == ["0.5000", ""]
    assert [row["public"] for row in submissions] == ["", "0.4000"]


def test_a_run_that_is_not_finished_or_cannot_be_read_is_a_row_that_says_why(soup):
    rows = soup.find("table").tbody.find_all("tr")
    remarks = {row.th["data-value"]: [each.text for each in row.th("span")] for row in rows}
    assert remarks["good"] == []
    assert remarks["begun"] == ["unfinished", "folds trained: 1"]
    state, reason = remarks["broken"]
    assert state == "refused"
    assert "attributes: list at least one" in reason


def test_only_parameters_that_differ_are_told(soup):
    (good, *_) = soup.find("table").tbody.find_all("tr")
    differs = {each.dt.text: each.dd.text for each in good.dl.find_all("div")}
    assert set(differs) == {"backbone", "epochs"}
    assert differs["epochs"] == str(PARAMS["epochs"])


def test_texts_of_files_are_text_on_the_page(place, soup):
    text = (place / "runs/index.html").read_text("utf-8")
    assert len(soup.find_all("script")) == 1
    assert not [image for image in soup.find_all("img") if image["src"] == "x"]
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 5  # why, backbone, name, notes
    assert EVIL in soup.find("table").tbody.find("tr").text


def test_links_are_relative_and_lead_to_every_notebook(place, soup):
    links = {link["href"] for link in soup.find_all("a")}
    assert links == {"good/03_train.html", "bad/03_train.html", "broken/03_train.html",
                     "../submissions/first.html", "../work/01_eda.html",
                     "bench/08%20100%25.html"}  # fmt: skip


def test_a_folder_without_runs_has_a_page(tmp_path):
    (tmp_path / "runs").mkdir()
    assert "There are no runs yet" in page.write(tmp_path / "runs", tmp_path).read_text()


# Thumbnails


def test_a_confusion_is_a_pixel_per_cell_darker_for_a_larger_share(place):
    run = runs.load(str(place / "runs"), "good")
    oof = run.oof()
    guess = oof[TASK.columns()].to_numpy().argmax(1)
    for name, picture in zip(TASK.names, thumbnails.confusions(run), strict=True):
        data = base64.b64decode(picture["uri"].removeprefix("data:image/png;base64,"))
        shares = pd.crosstab(TASK.decode(oof["label"].to_numpy())[name], TASK.decode(guess)[name],
                             normalize="index")  # fmt: skip
        red = np.asarray(Image.open(io.BytesIO(data)))[..., 0]
        np.testing.assert_array_equal(red, (255 - 255 * shares).round())


def test_curves_show_the_mean_losses_and_the_score_of_each_fold():
    losses = {"loss": [2, 1, 0], "valid_log_loss": [2, 2, np.nan]}
    whole = pd.DataFrame({"epoch": [1, 2, 3], **losses, "score": [0, 0.5, 1]})
    begun = whole.iloc[:2].assign(score=[0, 0.25])
    lines = [
        [tuple(map(int, point.split(","))) for point in line["points"].split()]
        for line in BeautifulSoup(thumbnails.curves([whole, begun]), "html.parser")("polyline")
    ]
    assert lines == [
        [(1, 1), (30, 20), (59, 39)], [(1, 1), (30, 1)],
        [(1, 39), (30, 20), (59, 1)], [(1, 39), (30, 30)],
    ]  # fmt: skip


def test_a_long_training_has_no_more_points_than_can_be_seen():
    epochs = np.arange(1, 1001)
    history = pd.DataFrame({"epoch": epochs, "score": epochs, "loss": 1, "valid_log_loss": 1})
    assert len(thumbnails.curves([history])) < 3000


def test_pictures_are_made_again_only_when_a_file_of_their_run_changes(tmp_path, monkeypatch):
    run = make_run(tmp_path, "a", 0.5)
    make_run(tmp_path, "b", 0.5)
    page.write(tmp_path / "runs", tmp_path)
    made = []
    monkeypatch.setattr(thumbnails, "_made", lambda folder: made.append(folder.name) or {
        "curves": "", "confusions": [], "fault": ""})  # fmt: skip
    page.write(tmp_path / "runs", tmp_path)
    assert made == []
    with (run.fold(1) / "history.csv").open("a") as file:
        file.write("4,0.4,1.1,0.6\n")
    page.write(tmp_path / "runs", tmp_path)
    assert made == ["a"]


def test_a_run_whose_tables_are_damaged_has_no_pictures_and_says_why(tmp_path):
    (make_run(tmp_path, "a", 0.5).folder / "oof.parquet").write_text("nothing")
    pictures = thumbnails.of_runs(tmp_path / "runs", ["a"])["a"]
    assert pictures["confusions"] == []
    assert "arquet" in pictures["fault"]


# The command


def test_the_command_writes_the_page_and_names_it(place, capsys):
    submissions = f"submissions_dir={place / 'submissions'}"
    assert chain.main(["--index", str(place / "runs"), "-p", submissions]) == 0
    assert capsys.readouterr().out == f"{place}/runs/index.html\n"


def test_what_is_wrong_is_one_line_and_the_page_stays_as_it_was(tmp_path, capsys):
    assert chain.main(["--index", str(tmp_path / "none")]) == 2
    assert "none is no folder of runs" in capsys.readouterr().err
    (tmp_path / "index.html").write_text("before")
    (tmp_path / "ledger.csv").write_text("name;time\n")
    assert chain.main(["--index", str(tmp_path), "-p", f"submissions_dir={tmp_path}"]) == 2
    assert "separate fields by commas" in capsys.readouterr().err
    assert (tmp_path / "index.html").read_text() == "before"


@pytest.mark.parametrize("more", [["params/demo.yaml"], ["-p", "epochs=3"], ["--stages", "eda"]])
def test_it_runs_nothing(more, capsys):
    with pytest.raises(SystemExit, match="2"):
        chain.main([*more, "--index"])
    assert "--index runs nothing" in capsys.readouterr().err


def test_the_page_needs_no_torch():
    code = "import sys, lib.explain.page; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


# In a browser


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium of the system's packages."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])


@pytest.fixture
def opened(browser):
    """Return a function that opens a file; fails at the end if the page complained or reached out.

    Any request but that for the file itself counts, and every line on the console.
    """
    complaints, context = [], browser.new_context()

    def visit(path, width=WIDTHS[0]):
        tab = context.new_page()
        tab.set_viewport_size({"width": width, "height": 900})
        address = Path(path).resolve().as_uri()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("dialog", lambda dialog: complaints.append(dialog.message) or dialog.dismiss())
        tab.on("request", lambda sent: sent.url.startswith("data:") or sent.url == address
               or complaints.append(sent.url))  # fmt: skip
        tab.goto(address, wait_until="networkidle")
        return tab

    yield visit
    context.close()
    assert complaints == []


def names(tab):
    return tab.eval_on_selector_all(
        "table:first-of-type tbody th", "cells => cells.slice(0, 4).map(c => c.dataset.value)"
    )


def test_harmful_texts_are_shown(place, opened):
    assert opened(place / "runs/index.html").get_by_text(EVIL).first.is_visible()


def test_a_click_or_a_key_on_a_heading_sorts_and_says_so(place, opened):
    tab = opened(place / "runs/index.html")
    score, run = (tab.get_by_role("button", name=name, exact=True).first
                  for name in ("out-of-fold", "run"))  # fmt: skip
    assert names(tab) == ["good", "bad", "begun", "broken"]
    score.click()
    assert names(tab) == ["bad", "good", "begun", "broken"]  # what has no score stays at the end
    assert tab.locator("th[aria-sort]").first.get_attribute("aria-sort") == "ascending"
    run.focus()
    tab.keyboard.press("Enter")
    assert names(tab) == ["bad", "begun", "broken", "good"]
    tab.keyboard.press("Enter")
    assert names(tab) == ["good", "broken", "begun", "bad"]
    assert tab.locator("th[aria-sort]").all_inner_texts() == ["run"]


def test_every_link_opens(place, opened):
    tab = opened(place / "runs/index.html")
    addresses = tab.eval_on_selector_all("a", "links => links.map(link => link.href)")
    assert len(addresses) == 6
    for address in addresses:
        assert Path(url2pathname(urlsplit(address).path)).is_file()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_screen(place, opened, width, tmp_path):
    tab = opened(place / "runs/index.html", width)
    tab.screenshot(path=tmp_path / f"{width}.png", full_page=True)
    assert tab.evaluate("document.documentElement.scrollWidth") == width
    for image in tab.locator("img").all():
        assert image.evaluate("image => image.naturalWidth") > 0


def test_the_page_of_an_executed_notebook_asks_for_nothing_and_scrolls_what_is_wide(
    tmp_path, opened
):
    table = pd.DataFrame([["0.123456789"] * 40]).to_html()
    output = {"output_type": "display_data", "data": {"text/html": table}, "metadata": {}}
    code = {"cell_type": "code", "id": "b", "source": "x" * 300, "outputs": [output]}
    cells = [
        {"cell_type": "markdown", "id": "a", "source": "# It costs $5, not $6", "metadata": {}},
        code | {"execution_count": 1, "metadata": {}},
    ]
    notebook = {"cells": cells, "metadata": {"papermill": {}}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "running.ipynb").write_text(json.dumps(notebook))
    html = kernels._store(tmp_path / "running.ipynb", tmp_path / "done.ipynb", "key")
    for width in WIDTHS:
        tab = opened(html, width)
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        for box in (".jp-OutputArea-output", ".jp-InputArea-editor .highlight"):
            wide = tab.locator(box).first
            assert wide.evaluate("box => box.scrollWidth > box.clientWidth")
            assert wide.evaluate("box => getComputedStyle(box).overflowX") == "auto"
        assert tab.get_by_text("It costs $5, not $6").is_visible()
