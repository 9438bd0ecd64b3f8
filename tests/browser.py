"""A headless Chromium for the tests: pages of this computer only, every other address refused and written down.

Playwright keeps an event loop running in its thread for as long as it is open, which other tests cannot stand: open it in a fixture of
one module, never of the session.
"""

import functools
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).parents[1]
AXE = ROOT / "tests" / "vendor" / "axe" / "axe.min.js"
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
NO_BROWSER = "no Chromium: install it (Debian and Ubuntu: apt-get install chromium; elsewhere: .venv/bin/playwright install chromium)"
FLAGS = [
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),  # WebGL 2
    "--disable-gpu-rasterization",  # Debian turns it on: with no GPU each page is then painted in software twice
    *("--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what slips past the route below finds nobody either
]
LEFT = "net::ERR_ABORTED"  # the reader went on before it was there
PLACE = re.compile(r"at \(([^,]+), ([^)]+)\)")  # what the quantizer says of the codeword that the keyboard holds
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

# The page stands still: scripts that answer later (equations, widgets), images that load on sight, fonts, transitions.
SETTLED = """async () => {
  if (window.MathJax && MathJax.startup && MathJax.startup.promise) await MathJax.startup.promise;
  document.querySelectorAll('img[loading=lazy]').forEach(image => { image.loading = 'eager'; });
  await Promise.allSettled([...document.images].filter(image => image.src).map(image => image.decode()));
  await document.fonts.ready;
  await new Promise(resolve => requestAnimationFrame(() => requestAnimationFrame(resolve)));
  const ends = document.getAnimations().filter(each => each.effect.getComputedTiming().endTime < 5000);
  await Promise.allSettled(ends.map(each => each.finished));
}"""
# A view of a widget is a script that the widget manager answers with an element behind it.
WIDGETS_SHOWN = """() => [...document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')]
  .every(view => view.parentElement.querySelector('.jupyter-widgets, .widget-subarea > *'))"""
THEMED = "theme => !('mode' in document.documentElement.dataset) || document.documentElement.dataset.theme === theme"
BROKEN_IMAGES = "() => [...document.images].filter(image => !image.naturalWidth).map(image => image.src.slice(0, 200))"
LINKS = "() => [...document.querySelectorAll('a[href]')].map(link => link.href)"
ANCHORS = "() => [...document.querySelectorAll('[id], a[name]')].map(place => place.id || place.name)"
VIOLATIONS = """async rules => {
  document.querySelectorAll('details').forEach(each => { each.open = true; });
  for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);  // boxes that came into view learn that they scroll
  const found = await axe.run(document, {runOnly: rules, resultTypes: ['violations']});
  return found.violations.flatMap(({id, help, nodes}) => nodes.map(node => `${id} (${help}): ${node.target.join(' ')}: `
    + (node.any.concat(node.all, node.none).map(check => check.message).join('; ').slice(0, 300))));
}"""
# What stands out to the right of the screen and is not in a box of its own that scrolls.
STANDS_OUT = """() => {
  const width = document.documentElement.clientWidth;
  const kept = element => {
    for (let box = element; box && box !== document.body; box = box.parentElement) {
      const style = getComputedStyle(box);
      if (style.position === 'fixed' || (box !== element && style.overflowX !== 'visible')) return true;
    }
    return false;
  };
  const found = [...document.body.querySelectorAll('*')].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > width + 1 && element.checkVisibility() && !kept(element);
  });
  const named = element => [element.tagName.toLowerCase(), element.id && '#' + element.id, ...element.classList].filter(Boolean).join('.');
  return {page: document.documentElement.scrollWidth - width, elements: found.slice(0, 5).map(named)};
}"""


def find_chromium() -> str | None:
    """Return the path of a Chromium on this computer: an installed one, else the one that Playwright has downloaded; or None."""
    from playwright.sync_api import sync_playwright

    for path in filter(None, map(shutil.which, NAMES)):
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:  # Ubuntu's says only how to install it
            return path
    with sync_playwright() as playwright:
        downloaded = Path(playwright.chromium.executable_path)
    return str(downloaded) if downloaded.is_file() else None


@contextmanager
def open_chromium(path: str) -> Iterator:
    """Start a headless Chromium that can draw volumes (WebGL 2) and end it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args) -> None:
        pass

    def copyfile(self, source, outputfile) -> None:
        with suppress(ConnectionError):  # the reader went on before it was there
            super().copyfile(source, outputfile)


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on this computer, at any free port, and give its address, with a slash at the end."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=folder)) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()


@dataclass
class Visit:
    """A page that is open, and what was seen of it since it was asked for.

    `errors`: errors in the console, errors of scripts, addresses that were not answered. `outside`: addresses beyond this site.
    """

    page: object
    errors: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    requests: list = field(default_factory=list)

    def settle(self) -> None:
        """Wait until equations, widgets and images are there and nothing moves."""
        self.page.wait_for_function(WIDGETS_SHOWN)
        self.page.evaluate(SETTLED)

    def weight(self) -> int:
        """Return the bytes of everything the page has loaded so far, as the server has it (not compressed); settling loads the rest."""
        return sum(request.sizes()["responseBodySize"] for request in self.requests)

    def set_theme(self, theme: str) -> None:
        """Show the page as a reader sees it whose computer prefers "light" or "dark"."""
        self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
        self.page.wait_for_function(THEMED, arg=theme)
        self.page.evaluate(SETTLED)

    def violations(self) -> list[str]:
        """Return what axe-core holds against the page (WCAG 2.1 A and AA), everything folded open."""
        if not self.page.evaluate("() => 'axe' in window"):
            # AMD must not see it: on pages with widgets, RequireJS would take the script for a module without a name.
            script = AXE.read_text(encoding="utf-8")
            self.page.evaluate(f"() => {{ const define = undefined, module = undefined, exports = undefined; {script} }}")
        return self.page.evaluate(VIOLATIONS, list(RULES))


@contextmanager
def visit(chromium, address: str, inside: str, **options) -> Iterator[Visit]:
    """Open an address in a profile of its own (nothing kept from other visits); only addresses that begin with `inside` are let through."""
    context = chromium.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", "color_scheme": "light", **options})
    context.set_default_timeout(30_000)
    try:
        seen = Visit(context.new_page())
        _watch(seen, inside)
        seen.page.goto(address)
        yield seen
    finally:
        with suppress(Exception):  # a context that is gone already needs no closing
            context.close()


def _watch(seen: Visit, inside: str) -> None:
    """Refuse and write down requests to anywhere else; write down errors and what was loaded."""

    def refuse(route) -> None:
        seen.outside.append(route.request.url)
        route.abort()

    page = seen.page
    page.route(lambda url: not url.startswith((inside, "data:", "blob:")), refuse)
    page.on("websocket", lambda socket: None if inside.split("//")[1] in socket.url else seen.outside.append(socket.url))
    page.on("console", lambda message: seen.errors.append(f"console: {message.text}") if message.type == "error" else None)
    page.on("pageerror", lambda error: seen.errors.append(f"script: {error.stack or error}"))
    page.on("requestfinished", lambda request: seen.requests.append(request))
    page.on("requestfailed", lambda request: seen.errors.append(f"not loaded: {request.url}") if request.failure != LEFT else None)
    page.on("response", lambda response: seen.errors.append(f"{response.status}: {response.url}") if response.status >= 400 else None)


def wait_until(page, changed, what: str, seconds: float = 20) -> None:
    """Return once `changed()` is true, asking again after each drawing of the page; AssertionError names `what` was waited for."""
    deadline = time.monotonic() + seconds
    while not changed():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        page.evaluate("() => new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve, 20)))")


def changes(page, canvas, act, what: str) -> None:
    """Do something and wait until the picture on a canvas is another one."""
    before = canvas.screenshot()
    act()
    wait_until(page, lambda: canvas.screenshot() != before, f"the picture did not change: {what}")


def says(page, widget, before: str) -> str:
    """Wait until a widget says something else than before, and return it."""
    said = widget.locator(".drlib-said")
    wait_until(page, lambda: said.inner_text() != before, f"other words than {before!r}")
    return said.inner_text()


def drag_codeword(page, widget) -> None:
    """Drag a codeword of the quantizer's plane from its right border to the middle by the mouse; it lies where it was let go.

    The keyboard chooses the codeword, takes it to the border, which tells how far the plane reaches, and says afterwards where it lies.
    """
    canvas, said = widget.locator(".drlib-plane"), widget.locator(".drlib-said")

    def press(key: str) -> tuple[float, float]:
        page.keyboard.press(key)
        return tuple(float(number.replace("\N{MINUS SIGN}", "-")) for number in PLACE.search(said.inner_text()).groups())

    canvas.scroll_into_view_if_needed()
    canvas.focus()
    last, place = None, press("PageDown")
    while place != last:
        last, place = place, press("Shift+ArrowRight")
    extent, height = place
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + (1 - height / extent) / 2 * box["height"])
    page.mouse.down()
    changes(page, canvas, lambda: page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=5), "drag")
    page.mouse.up()
    x, y = press("ArrowLeft")
    assert abs(x + 0.1) < 0.15 and abs(y) < 0.15, (x, y)
