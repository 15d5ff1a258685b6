"""A figure of the report and its files. Nothing in a figure hangs on colour: conditions are also named beside their row."""

import io
import re
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from fontTools.subset import Options
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from PIL import Image

from lm_eval_tasks.contracts.style import GRID, INK, STYLE

# A PDF's text is set already. To cut the tables by which text is set down to its letters would take longer than all the rest.
Options._drop_tables_default = [*Options().drop_tables, "GDEF", "GPOS", "GSUB", "MATH", "kern"]


class Sketch(NamedTuple):
    """A figure and the words that go with it."""

    name: str
    title: str
    caption: str
    figure: Figure


def write_figure(sketch: Sketch, stem: Path) -> str:
    """Write a figure as PNG and PDF at `stem`, and return it as SVG that takes its ink from the page it stands in."""
    figure, scratch = sketch.figure, io.StringIO()
    with mpl.rc_context({**STYLE, "svg.hashsalt": stem.name, "svg.fonttype": "none"}):
        # Each canvas by itself: `savefig` would draw everything once more before each file.
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba())
        # Without transparency, of which there is none, and packed less hard: as small, in half the time.
        pixels.convert("RGB").save(f"{stem}.png", compress_level=3, dpi=(figure.dpi, figure.dpi))
        figure.set_layout_engine("none")  # laid out once, for all three forms
        FigureCanvasPdf(figure).print_pdf(f"{stem}.pdf", metadata={"CreationDate": None})
        for part in (figure, *figure.axes):
            part.set_facecolor("none")  # the page's own shows through
        FigureCanvasSVG(figure).print_svg(scratch, metadata={"Date": None})
    text = scratch.getvalue()
    return re.sub(r"<[^>]+>", lambda tag: _fit_tag(tag[0], stem.name), text[text.index("<svg") :])


def _fit_tag(tag: str, name: str) -> str:
    """A tag of an SVG with the page's colours, and with ids and what refers to them that no other figure of the page has."""
    tag = tag.replace(INK, "currentColor").replace(GRID, "var(--line)").replace("#ffffff", "var(--card)")
    return re.sub(r"""(\bid="|\bhref="#|url\(#)""", lambda found: f"{found[0]}{name}-", tag)
