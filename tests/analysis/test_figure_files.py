"""Figures stand in one page: their shapes have names of their own, and their text stays what it is."""

import io
import re
import zlib
from pathlib import Path

import matplotlib as mpl
import pytest
from browser import needs_chromium, open_page
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure
from PIL import Image

from analysis.showing.figures import Sketch, write_figure
from lm_eval_tasks.contracts.style import INK

NAMES = ("1-a.b-x", "1-a.b-y")
TEXT = f'url(#x) href="#y" id="z" <b> & {INK} #ffffff'


def make_figure(scale: float) -> Figure:
    """A figure with all that refers to an id: clip paths, markers, and hatches over fills of colours."""
    figure = Figure()
    axis = figure.subplots()
    axis.bar([1, 2], [scale, 2], hatch="//", facecolor="#1f77b4", edgecolor=INK)
    axis.fill_between([1, 2], [scale, 2], hatch="xx", facecolor="#ff7f0e")
    axis.plot([1, 2], [3, scale], marker="o")
    axis.set_title(TEXT)
    return figure


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder of two figures, and both as SVG."""
    folder = tmp_path_factory.mktemp("figures")
    return folder, [write_figure(Sketch(name, "", "", make_figure(i)), folder / name) for i, name in enumerate(NAMES, start=1)]


def test_every_reference_leads_to_an_id_of_its_own_figure(written: tuple[Path, list[str]]):
    ids = []
    for svg, name in zip(written[1], NAMES, strict=True):
        tags = "".join(re.findall(r"<[^>]+>", svg))
        held = re.findall(r'\bid="([^"]+)"', tags)
        ids += held
        assert len(held) == len(set(held)) > 10
        links = {
            kind: re.findall(pattern, tags) for kind, pattern in (("use", r'href="#([^"]*)"'), ("url", r"url\(#([^)]*)\)"))
        }
        assert all(set(found) <= set(held) for found in links.values())
        assert links["use"]
        assert any(f'<pattern id="{link}"' in tags for link in links["url"])
        assert any(f'<clipPath id="{link}"' in tags for link in links["url"])
        assert all(link.startswith(f"{name}-") for link in held)
    assert len(ids) == len(set(ids))


def test_colours_are_the_page_s_and_text_is_left_alone(written: tuple[Path, list[str]]):
    for svg in written[1]:
        assert 'fill="#1f77b4"' in svg
        assert "currentColor" in svg
        tags = "".join(re.findall(r"<[^>]+>", svg))
        assert INK not in tags
        assert TEXT.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;") in svg
    assert sorted(file.name for file in written[0].iterdir()) == [f"{name}.{kind}" for name in NAMES for kind in ("pdf", "png")]


def test_nothing_shows_through_a_png(written: tuple[Path, list[str]]):
    with Image.open(written[0] / f"{NAMES[0]}.png") as image:
        assert image.mode == "RGB"
        assert image.getpixel((0, 0)) == (255, 255, 255)
        assert round(image.info["dpi"][0]) == round(mpl.rcParams["figure.dpi"])


def test_fonts_of_a_pdf_hold_what_shows_their_letters_and_no_more(written: tuple[Path, list[str]]):
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", (written[0] / f"{NAMES[0]}.pdf").read_bytes(), re.DOTALL)
    fonts = [TTFont(io.BytesIO(held)) for held in map(_inflate, streams) if held.startswith(b"\0\1\0\0")]
    assert fonts
    for font in fonts:
        assert {"glyf", "loca", "hmtx"} <= {*font.keys()}
        assert not {"GDEF", "GPOS", "GSUB", "MATH", "kern"} & {*font.keys()}


def _inflate(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return stream


@needs_chromium
def test_two_figures_in_one_page_keep_their_own_hatches(written: tuple[Path, list[str]], tmp_path: Path):
    (tmp_path / "page.html").write_text(f"<!doctype html><meta charset='utf-8'>{''.join(written[1])}")
    steps = """
    seen.lost = [...document.querySelectorAll("[style*='url(#'], [clip-path]")].filter((shape) => {
      const links = [...(shape.getAttribute("style") + shape.getAttribute("clip-path")).matchAll(/url\\(#([^)]*)\\)/g)];
      return !links.length || links.some(([, id]) => document.getElementById(id)?.closest("svg") !== shape.closest("svg"));
    }).length;
    seen.shapes = document.querySelectorAll("[style*='url(#'], [clip-path]").length;
    seen.text = document.querySelector("svg text[style*='12px']").textContent;
    """
    sight = open_page(tmp_path / "page.html", steps, tmp_path / "browser")
    assert sight.console == []
    assert sight.seen["lost"] == 0
    assert sight.seen["shapes"] >= 10
    assert sight.seen["text"] == TEXT
