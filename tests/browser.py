"""A page in a real headless Chromium, opened from a file, worked by a script as a reader would and looked at; its elements."""

import json
import re
import shutil
import subprocess
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome here")

# What a text of data may hold, and no page may take for anything but text.
HOSTILE = (
    "</script><script>alert(1)</script><!-- <script> --><img src=x onerror=\"document.title='moved'\"> &amp; \u2028 "
    "**b** `c` | [l](javascript:alert(2)) $x_1^2$ \\frac{a}{b} 5% #~ \" ' \u202eעברית مرحبا\u202c 汉字 {{ 7 * 7 }} {% raw %} "
    "averyveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryverylongword"
)

# The page is shown in a frame, which can be narrower than a window, and sends what it has seen to the frame's page.
FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0">
<iframe style="border:0;width:{width}px;height:{height}px" src="{source}"></iframe><pre hidden></pre><script>
addEventListener("message", (event) => {{ document.querySelector("pre").textContent = JSON.stringify(event.data); }});
</script>"""
DRIVER = """<script>(async () => {{
const seen = {{}};
try {{ {steps} }} catch (error) {{ console.error(`driver: ${{error.stack}}`); }}
parent.postMessage(seen, "*");
}})();</script>"""


class Sight(NamedTuple):
    """What a browser made of a page."""

    seen: dict  # what the steps put there
    console: list[str]
    picture: Path


def open_page(page: Path, steps: str, folder: Path, fragment: str = "", width: int = 1280, dark: bool = False) -> Sight:
    """Open a copy of a page, run `steps` (JavaScript that fills the object `seen`) at its end, and take a picture."""
    folder.mkdir()
    (folder / "page.html").write_text(page.read_text() + DRIVER.format(steps=steps))
    (folder / "frame.html").write_text(FRAME.format(width=width, height=1000, source=f"page.html{fragment}"))
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=5000",
        "--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", f"--window-size={width},1000", "--dump-dom",
        "--host-resolver-rules=MAP * ~NOTFOUND",  # no network: a page has all that it shows
        f"--screenshot={folder / 'picture.png'}", *(["--force-dark-mode"] if dark else []), (folder / "frame.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    told = re.search(r"<pre hidden[^>]*>(.*?)</pre>", done.stdout, re.DOTALL)
    assert told, done.stderr[-2000:]
    assert told[1], done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Sight(json.loads(unescape(told[1])), console, folder / "picture.png")


class Elements(HTMLParser):
    """The elements of a page, with their attributes, and the text of its scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts[-1] += data
