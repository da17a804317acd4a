"""python docs/screenshots.py REPORT_DIR

Draws the pictures of docs/how_to/explore.md anew, in docs/images/: the interactive page
of K3 laziness in a report, in a Chromium without a window (needs playwright).
"""

import shutil
import sys
from pathlib import Path

from playwright import sync_api

IMAGES = Path(__file__).resolve().parent / "images"
SHOTS = (
    ("explorer_light", 1400, 1000, "light"),
    ("explorer_dark", 1400, 1000, "dark"),
    ("explorer_narrow", 400, 1300, "light"),
)


def main(report: Path) -> None:
    (page_file,) = (report / "explore").glob("*laziness*.html")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)))
    with sync_api.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for name, width, height, theme in SHOTS:
            context = browser.new_context(
                viewport={"width": width, "height": height}, color_scheme=theme
            )
            page = context.new_page()
            page.goto(page_file.as_uri())
            page.wait_for_selector("#main:not([hidden])")
            page.locator("[role=gridcell]").nth(3).click()
            page.screenshot(path=IMAGES / f"{name}.png", animations="disabled")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
