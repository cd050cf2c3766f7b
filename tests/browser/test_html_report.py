"""``corelock report --html`` in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from corelock.analysis.blockers import blocking_holds
from corelock.recording import open_recording
from corelock.render.units import count, duration
from tests import recordings as r
from tests.browser.pages import Page
from tests.cli.command import run
from tests.storm import write_storm

HOSTILE = ("</script><im", "<b>&amp;\"'{{7}}")


def report(*files: Path, to: Path, options: tuple[str, ...] = ()) -> Path:
    done = run("report", *files, "--html", to, *options)
    assert (done.code, done.out) == (0, "")
    return to


def exported(*files: Path) -> dict[str, Any]:
    done = run("report", "--format", "json", *files)
    assert done.code == 0
    return dict(json.loads(done.out))


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("storm") / "storm.clk"
    write_storm(path, 30_000)
    return path


@pytest.fixture(scope="module")
def storm_page(storm: Path) -> Path:
    return report(storm, to=storm.with_suffix(".html"))


def exact(cell: Any) -> int:
    return int(cell.get_attribute("title").split()[0].replace(",", ""))


def test_it_loads_from_a_file_and_asks_for_nothing(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    page.check(storm_page)
    assert "mmap_lock of postgres[4021]" in page.one("h1").text
    assert storm_page.stat().st_size < 2_000_000


def test_numbers_are_those_of_the_json(page: Page, storm: Path, storm_page: Path) -> None:
    page.open(storm_page)
    (recording,) = exported(storm)["recordings"]
    rows = sorted(
        recording["rows"], key=lambda row: -(row["wait_ns"]["total"] + row["hold_ns"]["total"])
    )
    lines = page.js(
        "return [...document.querySelectorAll('#rows tbody tr')].map(line =>"
        " [...line.cells].map(cell => [cell.textContent, cell.title]))"
    )
    assert len(lines) == len(rows) > 5
    for row, line in zip(rows, lines):
        star = "*" if row["foreign"] else ""
        assert line[0][0] == f"{star}{row['comm']}[{row['tid']}]"
        assert [text for text, _ in line[1:3]] == [row["operation"], row["mode"]]
        for at, times in ((3, row["wait_ns"]), (8, row["hold_ns"])):
            assert line[at][0] == f"{times['count']:,}"
            for offset, name in enumerate(("total", "p50", "p99", "max"), at + 1):
                ns = times[name]
                assert line[offset] == [duration(ns), "none" if ns is None else f"{ns:,} ns"]
    waits = [row["wait_ns"] for row in recording["rows"]]
    holds = [row["hold_ns"] for row in recording["rows"]]
    bad = page.texts(".lead div:nth-child(3) dd")
    assert bad[0] == f"{duration(max(times['max'] for times in waits))} longest wait"
    assert bad[1].startswith(
        f"{count(sum(times['count'] for times in waits))} waits: "
        f"{duration(sum(times['total'] for times in waits))},"
    )
    assert bad[3] == f"longest hold {duration(max(times['max'] for times in holds))}"
    slowest = {
        kind: [each["duration_ns"] for each in recording["slow"] if each["kind"] == kind]
        for kind in ("wait", "hold")
    }
    for kind, times in slowest.items():
        cells = page.all(f"#worst [data-kind={kind}]")
        assert [exact(cell) for cell in cells] == times[: len(cells)]
        assert len(cells) == 12
    assert (
        exact(page.one("#blame .tab tr:last-child td:last-child"))
        == (recording["blame"]["charged_ns"])
    )
    accounting = page.one("#accounting pre").text
    assert f"events {sum(recording['accounting']['events'].values()):,} =" in accounting


def test_heat_maps_flames_and_shading_hold_all_cycles(
    page: Page, storm: Path, storm_page: Path
) -> None:
    """What scripts draw adds up to what was recorded."""
    page.open(storm_page)
    drawn = page.driver.execute_async_script(UNPACK)
    with open_recording(storm) as recording:
        (rows,) = exported(storm)["recordings"]
        assert drawn["wait_heat"] == sum(row["wait_ns"]["count"] for row in rows["rows"])
        assert drawn["hold_heat"] == sum(row["hold_ns"]["count"] for row in rows["rows"])
        for kind in ("wait", "hold"):
            total = cycles = 0
            for block in recording:
                ids = getattr(block, f"{kind}_stack")
                times = getattr(block, f"{kind}_ns")[block.stacked_index[ids > 0]]
                total += int(times.sum())
                cycles += len(times)
            assert total > 0
            flame = drawn[f"{kind}_flame"]
            assert (flame["total_ns"][0], flame["cycles"][0]) == (total, cycles)
            assert_adds_up(flame)
            note = page.one(f"#{kind}-flame .note").text
            assert note.startswith(f"{duration(total)} of {cycles:,} {kind}s")
        held = sum(int(block.hold_ns.sum()) for block in recording)
        assert drawn["holding"] == pytest.approx(held)


#: Adds up what is in the page, in the browser, without the page's own code.
UNPACK = """
const done = arguments[0];
const text = atob(document.getElementById("payload").textContent.trim());
const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
const directory = JSON.parse(document.getElementById("facts").textContent).directory;
const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
new Response(stream).arrayBuffer().then((buffer) => {
  const at = (name) => buffer.slice(directory[name][1], buffer.byteLength);
  const sum = (array) => array.reduce((a, b) => a + b, 0);
  const json = (name) => JSON.parse(new TextDecoder().decode(
      new Uint8Array(buffer, directory[name][1], directory[name][2])));
  done({
    wait_heat: sum(new Uint32Array(at("wait_heat"), 0, directory.wait_heat[2])),
    hold_heat: sum(new Uint32Array(at("hold_heat"), 0, directory.hold_heat[2])),
    holding: sum(new Float64Array(at("holding"), 0, directory.holding[2])),
    wait_flame: json("wait_flame"),
    hold_flame: json("hold_flame"),
    lane: [...new Uint32Array(at("slice_lane"), 0, directory.slice_lane[2])],
  });
});
"""


def assert_adds_up(flame: dict[str, Any]) -> None:
    """Below a node is never more than in it, and frames that go on have all of it below."""
    path: list[int] = []
    below = [0] * len(flame["depth"])
    for node, depth in enumerate(flame["depth"]):
        del path[depth:]
        if path:
            below[path[-1]] += flame["total_ns"][node]
        path.append(node)
    for node, total in enumerate(flame["total_ns"]):
        assert below[node] in (0, total)


def test_charts_zoom_and_move_by_keys_wheel_drag_and_buttons(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    first, last = page.shown
    assert first == 0 and last > 1e6
    timeline = page.one("#timeline")
    page.js("document.getElementById('timeline').scrollIntoView({block: 'center'})")
    before = page.js("return document.getElementById('timeline').toDataURL()")
    timeline.send_keys("+")
    middle = (first + last) / 2
    assert page.shown == pytest.approx((middle - last / 4, middle + last / 4))
    page.frame()
    assert page.js("return document.getElementById('timeline').toDataURL()") != before
    timeline.send_keys(Keys.ARROW_RIGHT)
    assert page.shown == pytest.approx((middle - last / 8, middle + last * 3 / 8))
    timeline.send_keys("-")
    timeline.send_keys("0")
    assert page.shown == (first, last)
    page.js(
        "const box = arguments[0].getBoundingClientRect();"
        "arguments[0].dispatchEvent(new WheelEvent('wheel', {deltaY: -60, ctrlKey: true,"
        " clientX: box.left + box.width / 2, clientY: box.top + 10, cancelable: true}))",
        timeline,
    )
    wheeled = page.shown
    assert last * 0.5 < wheeled[1] - wheeled[0] < last * 0.7
    (ActionChains(page.driver, 0).move_to_element_with_offset(timeline, 100, 0).click_and_hold()
        .move_by_offset(200, 0).release().perform())  # fmt: skip
    dragged = page.shown
    assert wheeled[0] < dragged[0] < dragged[1] < wheeled[1]
    page.one("[data-do=reset]").click()
    assert page.shown == (first, last)
    page.one("[data-do=in]").click()
    assert page.shown[1] - page.shown[0] == pytest.approx(last / 2)
    assert "of" in page.one("#shown").text


def test_the_plain_wheel_scrolls_the_page(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    before = page.shown
    assert page.js(
        "return document.getElementById('overview').dispatchEvent("
        "new WheelEvent('wheel', {deltaY: 60, cancelable: true}))"
    )
    assert page.shown == before


def test_a_wait_leads_to_the_hold_that_kept_it(page: Page, storm: Path, storm_page: Path) -> None:
    page.open(storm_page)
    button = page.one("#worst [data-kind=wait]")
    wait_ns = exact(button)
    button.click()
    chosen, blocker = page.selected
    assert chosen == int(button.get_attribute("data-slice")) and blocker not in (None, -1)
    keeper = page.all("#selected .sides > div")[1].text
    with open_recording(storm) as recording:
        (block,) = (b for b in recording if int(b.wait_ns.max()) == wait_ns)
        number = 0
        for each in recording:
            if each.first_ns == block.first_ns:
                break
            number += len(each)
        number += int(block.wait_ns.argmax())
        kept_by = int(blocking_holds(recording)[number])
        holds = [int(ns) for each in recording for ns in each.hold_ns]
    assert f"held {duration(holds[kept_by])}," in keeper
    assert keeper.startswith("Kept longest by: *smaps-reader[1878] read")
    page.one("#timeline").send_keys(Keys.ENTER)
    assert page.selected[0] == blocker
    assert "Its hold kept" in page.one("#selected").text


def test_the_hold_that_kept_a_wait_is_scrolled_to(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "many.clk"
    write_storm(path, 6_000, workers=60)
    page.open(report(path, to=tmp_path / "page.html"))
    lane = page.driver.execute_async_script(UNPACK)["lane"]
    lanes = page.one("#lanes")
    page.js("arguments[0].scrollTop = 1e6", lanes)
    assert page.js("return arguments[0].scrollTop", lanes) > 20 * 26
    page.one("#worst [data-kind=wait]").click()
    _, blocker = page.selected
    assert blocker is not None and blocker >= 0
    top = page.js("return arguments[0].scrollTop", lanes)
    assert top <= lane[blocker] * 26 <= top + lanes.size["height"] - 26 - 22


def test_clicking_a_wait_in_the_timeline_selects_it(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    page.one("#worst [data-kind=wait]").click()
    chosen, _ = page.selected
    where = page.js(WHERE_IS_THE_WAIT, chosen)
    page.one("#timeline").send_keys(Keys.ESCAPE)
    assert page.selected[0] == -1
    page.js("document.getElementById('timeline').scrollIntoView({block: 'center'})")
    page.frame()
    timeline = page.one("#timeline")
    size = timeline.size
    (ActionChains(page.driver, 0)
        .move_to_element_with_offset(
            timeline, round(where[0] - size["width"] / 2), round(where[1] - size["height"] / 2))
        .click().perform())  # fmt: skip
    assert page.selected[0] == chosen


#: The middle of a wait, where the style sheet and timeline.js put it.
WHERE_IS_THE_WAIT = """
const facts = JSON.parse(document.getElementById("facts").textContent);
const text = document.querySelector(`#worst [data-slice="${arguments[0]}"]`).closest("tr");
const lane = facts.lanes.findIndex((lane) => lane.name === text.cells[1].textContent);
const {from, to} = document.getElementById("shown").dataset;
const begin = parseFloat(text.cells[3].textContent.slice(1)) * 1e9;
const wait = Number(text.cells[0].firstElementChild.title.split(" ")[0].replaceAll(",", ""));
const width = document.getElementById("timeline").clientWidth - 178;
const scrolled = document.getElementById("lanes").scrollTop;
return [178 + (begin + wait / 2 - from) / (to - from) * width, lane * 26 - scrolled + 19];
"""


def test_the_flame_graph_zooms(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    figure = page.one("#wait-flame")
    page.js("arguments[0].scrollIntoView()", figure)
    frames = page.all("#wait-flame [data-node]")
    child = next(f for f in frames if f.get_attribute("aria-level") == "2")
    node, narrow = child.get_attribute("data-node"), child.size["width"]
    child.click()
    zoomed = page.one(f"#wait-flame [data-node='{node}']")
    assert zoomed.size["width"] > 1.5 * narrow
    page.one("#wait-flame .back").click()
    assert page.one(f"#wait-flame [data-node='{node}']").size["width"] == narrow


def test_units_are_those_of_text(page: Page, storm_page: Path) -> None:
    page.open(storm_page)
    values = [0, 1, 999, 1000, 1004, 1005, 9999, 99_950, 999_499, 999_500, 999_600, 12_345_678,
              75 * 10**9, 1234 * 10**9, 10**13, 36 * 10**12, 10**16, 4 * 10**19]  # fmt: skip
    code = (Path(__file__).parents[2] / "corelock/render/html/js/units.js").read_text()
    # Evaluated by the debugger: the page's policy lets no other code run.
    said = page.driver.execute_cdp_cmd(
        "Runtime.evaluate",
        {
            "expression": f"(() => {{{code}; return {json.dumps(values)}"
            ".map((n) => [duration(n), count(n)])})()",
            "returnByValue": True,
            "allowUnsafeEvalBlockedByCSP": True,
        },
    )
    assert said["result"]["value"] == [[duration(n), count(n)] for n in values]


def test_names_are_text(page: Page, tmp_path: Path) -> None:
    recording = tmp_path / "hostile.clk"
    target = {"pid": 4021, "comm": "<img src=x onerror=alert(1)>"}
    host = {**r.header()["host"], "hostname": "<script>alert(2)</script>"}
    write_storm(recording, 2_000, names=HOSTILE, target=target, host=host)
    made = report(recording, to=tmp_path / "page.html")
    page.open(made)
    page.check(made)
    assert page.all("img") == [] and len(page.all("script")) == 3
    assert page.one("h1").text == f"mmap_lock of {target['comm']}[4021]"
    assert host["hostname"] in page.one(".meta").text
    threads = set(page.texts("#rows td:first-child"))
    assert {f"{HOSTILE[0]}[4022]", f"{HOSTILE[1]}[4023]"} <= threads
    lanes = [lane["name"] for lane in json.loads(page.texts("#facts")[0])["lanes"]]
    assert f"{HOSTILE[0]}[4022]" in lanes


def test_an_empty_recording(page: Page, tmp_path: Path) -> None:
    path = r.write(
        tmp_path / "empty.clk", [(1, r.as_json(r.header())), (6, r.as_json(r.footer(0, 10**9)))]
    )
    made = report(path, to=tmp_path / "page.html")
    page.open(made)
    page.check(made)
    assert "nobody" in page.one(".lead").text
    page.one("#timeline").send_keys("+n0")


def test_a_cut_recording_says_so(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "cut.clk"
    write_storm(path, 3_000, cut=True)
    done = run("report", path, "--html", tmp_path / "page.html")
    assert done.code == 0 and "has no end" in done.err
    page.open(tmp_path / "page.html")
    page.check(tmp_path / "page.html")
    assert "the recording has no end" in page.one(".warning").text
    assert "it was cut" in page.one("#accounting table").text


def test_several_hosts_are_told_apart(page: Page, tmp_path: Path) -> None:
    files = []
    for number, name in enumerate(("db7", "db8")):
        host = {**r.header()["host"], "hostname": name}
        files.append(tmp_path / f"{name}.clk")
        write_storm(files[-1], 3_000, number, host=host, id=str(number) * 32)
    made = report(*files, to=tmp_path / "page.html")
    page.open(made)
    page.check(made)
    facts = json.loads(page.texts("#facts")[0])
    assert facts["hosts"] == ["db7", "db8"]
    assert {lane["host"] for lane in facts["lanes"]} == {0, 1}
    both = exported(*files)["recordings"]
    waited = [sum(row["wait_ns"]["total"] for row in each["rows"]) for each in both]
    assert [exact(cell) for cell in page.all("#accounting tbody td:nth-child(8)")] == waited
    assert set(page.texts("#rows td:first-child")) == {"db7", "db8"}
    assert page.texts("#blame h3") == ["db7", "db8"]


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_its_window(page: Page, storm_page: Path, width: int, scheme: str) -> None:
    emulate = page.driver.execute_cdp_cmd
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    emulate("Emulation.setDeviceMetricsOverride", size)
    emulate(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    try:
        page.open(storm_page)
        page.check(storm_page)
        assert page.js("return document.documentElement.scrollWidth") <= width
        ink, paper = page.js(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        dark = [sum(map(int, c[4:-1].split(","))) < 384 for c in (ink, paper)]
        assert dark == ([True, False] if scheme == "light" else [False, True])
    finally:
        emulate("Emulation.clearDeviceMetricsOverride", {})
        emulate("Emulation.setEmulatedMedia", {"features": []})


def test_it_is_laid_out_anew_when_its_window_is_resized(page: Page, storm_page: Path) -> None:
    emulate = page.driver.execute_cdp_cmd
    size = {"height": 844, "deviceScaleFactor": 1, "mobile": False}
    try:
        emulate("Emulation.setDeviceMetricsOverride", {"width": 1280, **size})
        page.open(storm_page)
        for width in (500, 1000):
            emulate("Emulation.setDeviceMetricsOverride", {"width": width, **size})
            page.until(lambda: page.js("return innerWidth") == width)  # noqa: B023
            page.frame()
            page.frame()
            assert page.js("return document.documentElement.scrollWidth") <= width
            room = page.js("return document.querySelector('#wait-flame .frames').clientWidth")
            assert page.one("#wait-flame [data-node='0']").size["width"] == room
        page.check(storm_page)
    finally:
        emulate("Emulation.clearDeviceMetricsOverride", {})


def test_a_part_of_a_recording(page: Page, storm: Path, tmp_path: Path) -> None:
    options = ("--from", "0.05", "--to", "0.1", "--operation", "munmap", "--min-us", "20")
    made = report(storm, to=tmp_path / "page.html", options=options)
    page.open(made)
    page.check(made)
    assert page.shown == (0, 50_000_000)
    assert "only from +0.050s, to +0.100s, operation munmap" in page.one(".meta").text
    done = run("report", "--format", "json", storm, *options)
    (recording,) = done.json["recordings"]
    waited = sum(row["wait_ns"]["total"] for row in recording["rows"])
    assert exact(page.one("#accounting tbody td:nth-child(8)")) == waited > 0
    drawn = page.driver.execute_async_script(UNPACK)
    assert drawn["wait_heat"] == sum(row["wait_ns"]["count"] for row in recording["rows"])
    assert "at its edge" in page.one("#accounting").text
    (button, *_) = page.all("#worst [data-kind=wait]")
    button.click()
    assert page.selected[0] == int(button.get_attribute("data-slice"))


def test_html_goes_alone(storm: Path, tmp_path: Path) -> None:
    done = run("report", storm, "--html", tmp_path / "page.html", "-o", tmp_path / "other")
    assert done.code == 2 and "--html" in done.err
    assert not (tmp_path / "other").exists()
