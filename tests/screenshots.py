"""Pictures of every page for people to look at, and what each page weighs: python tests/screenshots.py OUT [--site build/html]

Each page at desktop and phone width, light and dark, whole, as PNG files in OUT. The table: what a reader's browser loads for the page,
uncompressed, without what it loads later on demand; and the whole site.
"""

import argparse
from pathlib import Path

from browser import DESKTOP, NO_BROWSER, PHONE, find_chromium, open_chromium, serve, visit
from project import ROOT

MB = 1e6
SHOW_DRAWINGS = "() => Promise.allSettled((window.mriViewers || []).map(viewer => (viewer.element.scrollIntoView(), viewer.ready)))"


def picture_page(chromium, address: str, name: str, out: Path) -> int:
    """Write the four pictures of a page and return what it weighs in bytes."""
    weight = 0
    for size in (DESKTOP, PHONE):
        with visit(chromium, address + name, inside=address, viewport=size) as opened:
            weight = weight or opened.weight()
            opened.settle()
            opened.page.evaluate(SHOW_DRAWINGS)
            for theme in ("light", "dark"):
                opened.set_theme(theme)
                picture = out / f"{name.removesuffix('.html').replace('/', '-')}-{size['width']}-{theme}.png"
                opened.page.screenshot(path=picture, full_page=True)
    return weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--site", type=Path, default=ROOT / "build" / "html")
    parser.add_argument("--pages", default="", help="only pages whose address holds one of these words, separated by commas")
    asked = parser.parse_args()
    path = find_chromium()
    if path is None:
        parser.exit(1, f"{NO_BROWSER}\n")
    asked.out.mkdir(parents=True, exist_ok=True)
    names = sorted(str(page.relative_to(asked.site)) for page in asked.site.rglob("*.html") if "_static" not in page.parts)
    with serve(asked.site) as address, open_chromium(path) as chromium:
        for name in names:
            if any(word in name for word in asked.pages.split(",")):
                print(f"{name:<40} {picture_page(chromium, address, name, asked.out) / MB:6.2f} MB", flush=True)
    print(f"{'the whole site':<40} {sum(file.stat().st_size for file in asked.site.rglob('*') if file.is_file()) / MB:6.2f} MB")


if __name__ == "__main__":
    main()
