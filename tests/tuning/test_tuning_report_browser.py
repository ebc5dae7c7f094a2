"""The report in a real browser: drawn, quiet, sortable, and fit for a phone, a dark screen and paper."""

import base64
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sb3_ppo_variants.tuning.ranking.ranking_json import read_ranking
from sb3_ppo_variants.tuning.report.page import write_report
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--window-size=1200,900",
)  # fmt: skip

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None, reason="needs Debian's packages chromium and chromium-driver"
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def written(finished_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    for name in ("ranking.json", "study.db"):
        shutil.copy(finished_once / name, folder)
    return write_report(folder)


@pytest.fixture
def report(browser: webdriver.Chrome, written: Path) -> Iterator[Path]:
    """The report that is on the screen."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(written.as_uri())
    yield written
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def phone(browser: webdriver.Chrome) -> None:
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.refresh()


DRAWN = """
return [...document.querySelectorAll(".plot")].map((plot) => {
  const marks = [...plot.querySelectorAll(".trace path, .heatmaplayer image")];
  const size = (mark) => mark.getBoundingClientRect();
  return [
    plot.getAttribute("aria-label"), (plot.data ?? []).length,
    marks.filter((mark) => size(mark).width + size(mark).height > 2).length,
    plot.querySelectorAll(".xtick, .ytick").length,
  ];
});
"""


def test_every_figure_is_drawn_and_nothing_is_asked_of_the_network(browser: webdriver.Chrome, report: Path) -> None:
    figures = browser.execute_script(DRAWN)
    slices = browser.find_elements(By.CSS_SELECTOR, "#slices .plot")
    assert len(figures) == 9 + len(slices)
    assert len(slices) > 10
    for label, traces, marks, ticks in figures:
        assert label
        assert traces >= 1, label
        assert marks >= traces, f"{label}: {marks} visible marks of {traces} traces"
        assert ticks >= 2, label
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
    asked = [request["request"]["url"] for request in sent if request["documentURL"] == report.as_uri()]
    assert report.as_uri() in asked
    assert {address.split(":")[0] for address in asked} <= {"file", "data", "blob"}


def test_a_figure_without_data_would_be_noticed(browser: webdriver.Chrome, report: Path) -> None:
    """The check above is worth something: it sees an emptied figure."""
    browser.execute_script("Plotly.deleteTraces(document.querySelector('[data-figure=ranking]'), [0, 1, 2])")
    (empty,) = [figure for figure in browser.execute_script(DRAWN) if figure[1] == 0]
    assert empty[2] == 0


def test_the_table_of_runs_sorts_by_keyboard_as_numbers_and_back(browser: webdriver.Chrome, report: Path) -> None:
    heading = browser.find_elements(By.CSS_SELECTOR, ".sortable thead th")[3]
    button = heading.find_element(By.TAG_NAME, "button")

    def shown() -> list[float]:
        cells = browser.find_elements(By.CSS_SELECTOR, ".sortable tbody td:nth-child(4)")
        return [float(cell.get_attribute("data-value") or "-inf") for cell in cells]

    runs = [
        run["raw"] for line in read_ranking(report.parent)["ranking"] for own in line["scores"].values() for run in own
    ]
    expected = sorted(float("-inf") if raw is None else raw for raw in runs)
    assert shown() != expected
    button.send_keys(Keys.ENTER)
    assert shown() == expected
    assert heading.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.SPACE)
    assert shown() == expected[::-1]
    assert heading.get_attribute("aria-sort") == "descending"

    other = browser.find_elements(By.CSS_SELECTOR, ".sortable thead th")[0]
    other.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    names = [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, ".sortable tbody th")]
    assert names == sorted(names)
    assert heading.get_attribute("aria-sort") is None


def test_another_choice_draws_the_slices_of_its_trials(browser: webdriver.Chrome, report: Path) -> None:
    titles = "return [...document.querySelectorAll('#slices .plot')].map((plot) => plot.layout.xaxis.title.text)"
    assert "clip_range" in browser.execute_script(titles)
    Select(browser.find_element(By.ID, "slice-of")).select_by_visible_text("trpo on Acrobot-v1")
    drawn = browser.execute_script(titles)
    assert "cg_damping" in drawn
    assert "clip_range" not in drawn
    assert all(figure[2] >= 1 for figure in browser.execute_script(DRAWN))


# What sticks out of the screen, other than inside a box that scrolls by itself
OVERFLOW = """
const width = document.documentElement.clientWidth;
const boxes = [...document.querySelectorAll("body *")].filter((box) => !box.closest(".scroll, pre, svg, script"));
const out = boxes.filter((box) => box.getBoundingClientRect().right > width + 0.5);
return [width, document.documentElement.scrollWidth, out.map((box) => box.outerHTML.slice(0, 80))];
"""


def test_nothing_sticks_out_on_a_phone(browser: webdriver.Chrome, report: Path) -> None:
    phone(browser)
    width, needed, out = browser.execute_script(OVERFLOW)
    assert width == 390
    assert needed == 390
    assert out == []
    for plot in browser.find_elements(By.CSS_SELECTOR, "[data-figure]"):
        assert plot.size["width"] > 300
        assert plot.size["height"] > 80
    assert browser.get_log("browser") == []


def test_a_wide_box_would_be_noticed_on_a_phone(browser: webdriver.Chrome, report: Path) -> None:
    phone(browser)
    browser.execute_script("document.querySelector('h1').style.width = '500px'")
    assert any(box.startswith("<h1") for box in browser.execute_script(OVERFLOW)[2])


def test_on_a_dark_screen_page_figures_and_trpo_change_their_colours(browser: webdriver.Chrome, report: Path) -> None:
    look = """
      const plot = document.querySelector("[data-figure=ranking]");
      return [
        getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color,
        getComputedStyle(plot.querySelector(".main-svg")).backgroundColor,
        plot.data.find((trace) => trace.name === "trpo").marker.color,
      ];
    """
    light = browser.execute_script(look)
    assert light == ["rgb(255, 255, 255)", "rgb(26, 29, 33)", "rgb(255, 255, 255)", "#111111"]
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    dark = ["rgb(20, 23, 26)", "rgb(233, 236, 240)", "rgb(20, 23, 26)", "#e9ecf0"]
    WebDriverWait(browser, 60).until(lambda page: page.execute_script(look) == dark)


def test_on_paper_everything_fits_is_open_and_is_light(browser: webdriver.Chrome, report: Path) -> None:
    before = browser.execute_script("return document.querySelectorAll('details[open]').length")
    scheme = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.execute_script("""
      window.onPaper = null;
      window.addEventListener("beforeprint", () => {
        const plots = [...document.querySelectorAll(".plot")];
        window.onPaper = {
          widest: Math.max(...plots.map((plot) => plot.layout.width)),
          closed: document.querySelectorAll("details:not([open], .screen-only)").length,
          ground: plots[0].layout.template.layout.paper_bgcolor,
        };
      });
    """)
    settings = {"preferCSSPageSize": True, "printBackground": True}
    document = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", settings)["data"])
    assert document.startswith(b"%PDF")
    paper: dict[str, Any] = browser.execute_script("return window.onPaper")
    assert paper["widest"] <= 180 / 25.4 * 96, "A4 less two margins of 15 mm"
    assert paper["closed"] == 0
    assert paper["ground"] == "#ffffff"
    assert browser.execute_script("return document.querySelectorAll('details[open]').length") == before
    assert browser.execute_script("return document.querySelector('.plot').layout.width") != paper["widest"]
    assert browser.get_log("browser") == []
