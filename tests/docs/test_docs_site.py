"""The built documentation, as files and in a real browser: no dead link, nothing on the console, fit for a phone."""

import json
import shutil
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

HTML = Path(__file__).parents[2] / "docs/_build/html"
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
)  # fmt: skip
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

pytestmark = pytest.mark.skipif(not (HTML / "index.html").exists(), reason="nothing is built: make docs")


class Page(HTMLParser):
    """Links and anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" and value:
                self.anchors.add(value)
            if name in ("href", "src") and value:
                self.links.append(value)


# One of each kind; the slow test opens all
SAMPLE = ("variants/trgppo.html", "harness/report.html", "engine.html")


def test_no_internal_link_is_dead() -> None:
    read = {page: Page(page) for page in HTML.rglob("*.html") if "_static" not in page.parts}
    assert len(read) > 30
    dead = []
    for page, content in read.items():
        for link in content.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or page.name == "example_report.html" or page.parent.name == "reports":
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            known = read.get(target)
            if not target.exists() or (known is not None and unquote(parts.fragment) not in known.anchors):
                dead.append((str(page.relative_to(HTML)), link))
    assert dead == []


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def check(browser: webdriver.Chrome, pages: Iterable[Path]) -> None:
    """Open pages on a phone: quiet, no wider than the screen, and nothing asked of the network."""
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    loud, wide = {}, {}
    for page in pages:
        browser.get(page.as_uri())
        if log := browser.get_log("browser"):
            loud[page.name] = log
        width = browser.execute_script("return document.documentElement.scrollWidth")
        if width > PHONE["width"]:
            wide[page.name] = width
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in sent if request["documentURL"].startswith("file:")]
    assert loud == {}
    assert wide == {}
    assert asked
    assert {address.split(":")[0] for address in asked} <= {"file", "data", "blob"}


@pytest.mark.end_to_end
def test_pages_of_each_kind_are_quiet_and_fit_a_phone(browser: webdriver.Chrome) -> None:
    check(browser, [HTML / name for name in SAMPLE])


@pytest.mark.slow
def test_every_page_is_quiet_and_fits_a_phone(browser: webdriver.Chrome) -> None:
    pages = [page for page in sorted(HTML.rglob("*.html")) if "_static" not in page.parts]
    assert len(pages) > 30
    check(browser, pages)


@pytest.mark.end_to_end
def test_formulas_and_pictures_are_drawn(browser: webdriver.Chrome) -> None:
    browser.get((HTML / "variants/spo.html").as_uri())
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('math, figure img')].map(e => e.getBoundingClientRect().width)"
    )
    assert len(sizes) > 5
    assert min(sizes) > 2
    assert browser.execute_script("return document.querySelector('figure img').naturalWidth") > 300
