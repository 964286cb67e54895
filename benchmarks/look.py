"""Draws how pages of reports look: trains some small configs, writes their reports, and lets Chromium, without a network, take
pictures of them for docs/pictures.

  python look.py [--keep FOLDER]    # with it the pages stay there; runs are made in a temporary folder

Says of each page how large it is. Fails if a page has anything to say on Chromium's console.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from number_tables import ROOT
from results import Failed, answer

AECLI = [sys.executable, "-m", "aecli"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CONSOLE = re.compile(r"CONSOLE.*")


class Page(NamedTuple):
    """A report: of what `train` or `sweep` makes, by which options, and the windows that it is looked at in: the picture's name,
    its width and height in pixels, and whether the system is dark."""

    makes: Sequence[str]
    options: str
    windows: Sequence[tuple[str, int, int, bool]]


PAGES = (
    Page(["train quickstart"], "--make", [("report_run", 1100, 1500, False), ("report_run_narrow", 420, 1500, True)]),
    Page(
        ["train quickstart", "train vq_digits", "train sparse_digits"],
        "--make --metric mse,psnr_db,ssim,explained_variance",  # what is measured alike of all of them
        [("report_variants", 1100, 1500, False)],
    ),
    Page(
        ["sweep quickstart --grid model.beta=0.1,1,10 --seeds 3 --eval --only reconstruction,likelihood"],
        "",
        [("report_sweep", 1100, 1500, True)],
    ),
)
PICTURES = [name for page in PAGES for name, *_ in page.windows]


def browser() -> str:
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        raise Failed(f"no browser: {' or '.join(BROWSERS)} (Debian: apt-get install chromium)")
    return found[0]


def report(page: Page, folder: Path) -> Path:
    """Trains what the page is of, and writes it."""
    runs = folder / "runs"
    for command in page.makes:
        print(f"aecli {command}", flush=True)
        answer([*AECLI, *command.split(), "--runs-dir", str(runs)], {})
    which = ["--sweep", "last"] if page.makes[0].startswith("sweep") else ["--where", "step>0"]
    out = folder / "report.html"
    answer([*AECLI, "report", *which, *page.options.split(), "-o", str(out), "--runs-dir", str(runs)], {})
    return out


def look(page: Path, picture: Path, width: int, height: int, dark: bool) -> None:
    """Takes a picture of a page in a window. Raises Failed if there is none, or the console is not empty."""
    made = page.with_suffix(".png")
    made.unlink(missing_ok=True)
    command = [browser(), "--headless", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    command += [f"--window-size={width},{height}", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    command += ["--no-sandbox"] if os.geteuid() == 0 else []
    command += ["--blink-settings=preferredColorScheme=0"] if dark else []
    done = subprocess.run([*command, f"--screenshot={made}", f"file://{page}"], capture_output=True, text=True, timeout=120)
    if said := CONSOLE.findall(done.stderr):
        raise Failed(f"{page.name} says on the console: {said[0]}")
    if done.returncode or not made.exists():
        raise Failed(f"no picture of {page.name}: {done.stderr[-300:]}")
    shutil.copy(made, picture)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", type=Path, help="a folder for the pages")
    arguments = parser.parse_args()
    try:
        for page in PAGES:
            with tempfile.TemporaryDirectory(prefix="aecli-look-") as temporary:
                made = report(page, Path(temporary))
                for name, width, height, dark in page.windows:
                    look(made, ROOT / "docs" / "pictures" / f"{name}.png", width, height, dark)
                    print(f"{name}: {made.stat().st_size:,} bytes, console empty", flush=True)
                    if arguments.keep is not None:
                        arguments.keep.mkdir(parents=True, exist_ok=True)
                        shutil.copy(made, arguments.keep / f"{name}.html")
    except Failed as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
