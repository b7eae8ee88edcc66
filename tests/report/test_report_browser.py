"""The pages in a real browser: no error, no request, nothing too wide for a phone, sliders that move."""

import html
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import tiny_run
from support.written_runs import write_run

from semiseg.report import write_comparison, write_report
from semiseg.report.page import LIMIT, fitting
from semiseg.report.pictures import Gallery, Picture, Row
from semiseg.training.experiment import train

CHROMIUM = shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian's package `chromium`)")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND")
FETCHED = re.compile(r"""<(?:img|script|link|iframe|image|use)\b[^>]*\b(?:src|href)\s*=\s*["']?(?!data:|#|["'])""")


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess:
    """Load a page in a browser of its own."""
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, "--enable-logging=stderr", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


def console_lines(found: subprocess.CompletedProcess) -> list[str]:
    """What the page wrote to the console, errors of scripts among it."""
    return [line for line in found.stderr.splitlines() if "CONSOLE" in line]


def in_frame(page: Path, width: int, script: str) -> Path:
    """A page with `page` in a frame `width` pixels wide; `script` gets its document as `d` and returns the title."""
    frame = page.with_name("frame.html")
    text = html.escape(page.read_text("utf-8"), quote=True)
    told = f"const d = this.contentDocument; document.title = (() => {{ {script} }})()"
    frame.write_text(f'<iframe width="{width}" height="900" srcdoc="{text}" onload="{html.escape(told)}"></iframe>')
    return frame


def title_of(found: subprocess.CompletedProcess) -> str:
    return re.search("<title>(.*?)</title>", found.stdout)[1]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The report of a run, and of two."""
    folder = tmp_path_factory.mktemp("pages")
    for method in ("supervised", "prototype"):
        train(tiny_run.tiny_config(folder / method, method), console=tiny_run.QUIET)
    both = write_comparison([folder / "supervised", folder / "prototype"], folder / "both.html", "Both", "it helped")
    return {"one": write_report(folder / "prototype"), "both": both}


@needs_chromium
@pytest.mark.parametrize("name", ["one", "both"])
def test_a_page_loads_without_error_or_request(pages, name):
    found = browse(pages[name], "--dump-dom")
    assert console_lines(found) == []
    assert "mIoU" in found.stdout
    assert "--at: 50%" in found.stdout  # the script ran


@needs_chromium
def test_errors_and_requests_would_be_seen(tmp_path):
    page = tmp_path / "bad.html"
    page.write_text("<img src='https://example.org/a.png'><script>nowhere()</script>")
    assert len(console_lines(browse(page, "--dump-dom"))) >= 1
    assert FETCHED.search(page.read_text())


@pytest.mark.parametrize("name", ["one", "both"])
def test_nothing_is_fetched_and_the_page_is_small(pages, name):
    text = pages[name].read_text("utf-8")
    assert not FETCHED.search(text)
    assert "url(" not in text
    assert len(text.encode()) < LIMIT


@needs_chromium
@pytest.mark.parametrize("name", ["one", "both"])
def test_a_phone_does_not_scroll_sideways(pages, name):
    frame = in_frame(pages[name], 360, "return d.documentElement.scrollWidth")
    assert 0 < int(title_of(browse(frame, "--dump-dom", "--window-size=600,1000"))) <= 360


@needs_chromium
def test_a_slider_uncovers_the_prediction(pages):
    script = """
        const range = d.querySelector('.slide input');
        range.value = 80;
        range.dispatchEvent(new Event('input'));
        const box = range.previousElementSibling;
        return getComputedStyle(box.querySelector('.over')).clipPath + box.getBoundingClientRect().width"""
    found = title_of(browse(in_frame(pages["one"], 800, script), "--dump-dom"))
    assert found.startswith("inset(")
    assert "80%" in found or " 20%" in found


@needs_chromium
def test_light_and_dark(pages, tmp_path):
    shades = []
    for name, flags in {"light": (), "dark": ("--blink-settings=preferredColorScheme=0",)}.items():
        shot = tmp_path / f"{name}.png"
        browse(pages["both"], *flags, "--window-size=1000,1200", f"--screenshot={shot}", "--hide-scrollbars")
        pixels = np.asarray(Image.open(shot).convert("L"))
        assert pixels.shape[1] == 1000
        shades.append(np.median(pixels))
    assert shades[0] > 200 > 60 > shades[1]


def test_a_page_of_an_interrupted_run_has_what_there_is(tmp_path):
    run = write_run(tmp_path / "run", "prototype", (40.0, 47.0), finished=False)
    text = write_report(run).read_text("utf-8")
    assert "not finished, step 50 of 100" in text
    assert "Accuracy by confidence" in text  # of the last evaluation
    assert "Confusion:" not in text  # whose counts are kept at the end


def test_rows_that_do_not_fit_are_left_out_and_that_is_said():
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    photograph = Picture(noise, "photograph", "", "")
    masks = [Picture(noise // 128 * 255, title, "", "") for title in ("truth", "a", "b")]
    shown = Gallery("Rule.", [Row(str(number), "", [photograph, *masks]) for number in range(5)], [])
    assert fitting(shown, LIMIT) == shown
    row = len(photograph.uri) + 4 * len(masks[0].uri) + 5000  # the truth lies below both predictions
    found = fitting(shown, 2 * row + 10)
    assert [row.title for row in found.rows] == ["0", "1"]
    assert found.rule == "Rule. 3 of 5 rows are left out, to keep the page small."
