#!/usr/bin/env python3
"""Runs a command in a pseudo-terminal and draws its screen, at a telling moment, as an SVG.

`scripts/picture.sh` calls it:

    picture.py --out FILE --verdicts N --minutes M -- node solo …

pyte reads what the command prints; this file only waits, and turns cells into text and rectangles. Characters
that are two cells wide are not expected.
"""
import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from html import escape
from itertools import groupby

import pyte

COLUMNS, ROWS = 110, 30
# One cell in the picture's units, wide enough for the common monospace fonts at 14 units.
CELL_WIDTH, CELL_HEIGHT, FONT_SIZE, MARGIN = 8.4, 19, 14, 16
BACKGROUND, FOREGROUND = "#0d1117", "#e6edf3"
# All at 6:1 or more against the background.
COLOURS = {
    "black": "#9198a1", "red": "#ff7b72", "green": "#56d364", "brown": "#e3b341",
    "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#56d4dd", "white": "#e6edf3",
}
FONTS = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace"
VERDICT = re.compile(r"^\d\d:\d\d:\d\dZ +(keep|discard|crash) ")
# Half done, give or take: the bar then shows what it is.
HALF_DONE = re.compile(r"#\d+ +training .* [3-7]\d %")
# How long a node may take to end after Ctrl-C before it is killed, seconds.
PATIENCE = 30


class Screen(pyte.Screen):
    """pyte's screen, which knows no faint text: here it is grey."""

    def select_graphic_rendition(self, *attributes, **others):
        """Turns faint (2) into bright black (90), but where 2 is a part of a colour's number."""
        if not {38, 48} & set(attributes):
            attributes = [90 if attribute == 2 else attribute for attribute in attributes]
        super().select_graphic_rendition(*attributes, **others)


def start(command):
    """Starts the command on a terminal of our size and returns the process and the terminal's other end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    return process, ours


def is_telling(screen, verdicts):
    """Says whether the screen has enough verdicts, a keep among them, and a run that is half done."""
    found = [match[1] for match in map(VERDICT.match, screen.display) if match]
    return len(found) >= verdicts and "keep" in found and any(map(HALF_DONE.search, screen.display))


def watch(command, verdicts, minutes):
    """Returns the command's screen at the first telling moment, or when the minutes are over or it ended."""
    screen = Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    process, terminal = start(command)
    deadline = time.monotonic() + 60 * minutes
    try:
        while time.monotonic() < deadline:
            # A redraw comes in several pieces; when nothing follows for a while, the screen is whole.
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    stream.feed(os.read(terminal, 65536))
                except OSError:
                    print("picture: the command ended by itself", file=sys.stderr)
                    break
            elif is_telling(screen, verdicts):
                break
        else:
            print(f"picture: {minutes} minutes are over; this is what stands there", file=sys.stderr)
        return [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(ROWS)]
    finally:
        end(process, terminal)


def end(process, terminal):
    """Ends the command as Ctrl-C would, and reads what it still says, so that it never waits for a reader."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                os.read(terminal, 65536)
            except OSError:
                time.sleep(0.1)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    os.close(terminal)


def colour(name, default):
    """Returns the picture's colour for the one that pyte names or gives as six hexadecimal digits."""
    if name == "default":
        return default
    return COLOURS.get(name.removeprefix("bright"), f"#{name}")


def look(cell):
    """Returns a cell's foreground, background and weight; cells that look alike are drawn together."""
    foreground, background = colour(cell.fg, FOREGROUND), colour(cell.bg, BACKGROUND)
    if cell.reverse:
        foreground, background = background, foreground
    return foreground, background, cell.bold


def draw_row(cells, top):
    """Returns the elements of one row."""
    last = max((at for at, cell in enumerate(cells) if cell.data.strip() or cell.bg != "default"), default=-1)
    elements = []
    for (foreground, background, bold), group in groupby(enumerate(cells[:last + 1]), lambda at: look(at[1])):
        group = list(group)
        first, text = group[0][0], "".join(cell.data for _, cell in group)
        left, width = MARGIN + first * CELL_WIDTH, len(group) * CELL_WIDTH
        if background != BACKGROUND:
            elements.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
                            f'height="{CELL_HEIGHT}" fill="{background}"/>')
        # Words apart by two blanks or more are placed each by itself, so that columns stand in any font.
        for word in re.finditer(r"\S+(?: \S+)*", text):
            style = ' font-weight="bold"' if bold else ""
            style += f' fill="{foreground}"' if foreground != FOREGROUND else ""
            elements.append(
                f'<text x="{left + word.start() * CELL_WIDTH:.1f}" y="{top + 0.75 * CELL_HEIGHT:.1f}" '
                f'textLength="{len(word[0]) * CELL_WIDTH:.1f}" lengthAdjust="spacingAndGlyphs"{style}>'
                f"{escape(word[0])}</text>")
    return elements


def draw(rows, title):
    """Returns the screen as an SVG, without the empty rows below it."""
    while rows and not any(cell.data.strip() for cell in rows[-1]):
        rows = rows[:-1]
    width, height = 2 * MARGIN + COLUMNS * CELL_WIDTH, 2 * MARGIN + len(rows) * CELL_HEIGHT
    elements = [each for at, row in enumerate(rows) for each in draw_row(row, MARGIN + at * CELL_HEIGHT)]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'height="{height:.0f}" role="img" aria-labelledby="title">',
        f'<title id="title">{escape(title)}</title>',
        f'<rect width="100%" height="100%" rx="8" fill="{BACKGROUND}"/>',
        f'<g font-family="{FONTS}" font-size="{FONT_SIZE}" fill="{FOREGROUND}">',
        *elements,
        "</g>",
        "</svg>",
        ""])


def main():
    """Watches the command and writes the picture."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True)
    parser.add_argument("--verdicts", type=int, required=True, help="how many the screen shall show")
    parser.add_argument("--minutes", type=float, required=True, help="how long to wait for that")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    # As after Ctrl-C: the command is ended, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("picture: stopped"))
    rows = watch(arguments.command, arguments.verdicts, arguments.minutes)
    shown = " ".join([os.path.basename(arguments.command[0]), *arguments.command[1:]])
    picture = draw(rows, f"A terminal in which `{shown}` runs: verdicts above, the run in progress below")
    with open(arguments.out, "w", encoding="utf-8") as file:
        file.write(picture)


if __name__ == "__main__":
    main()
