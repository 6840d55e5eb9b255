"""What tests of the page in a browser share."""

from __future__ import annotations

import shutil

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


def marks(page, plot):
    """How many points and bars a plot shows."""
    return page.locator(f"#{plot} .points path, #{plot} .lines path, #{plot} .bars path").count()
