"""The benchmark runs and reports; what it measures is not looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks.lateness import percentiles
from benchmarks.results import OURS, Measurement, Results
from benchmarks.svg import Line, Panel, chart
from benchmarks.table import figure, ring_table

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"


def quick(folder: Path, *rings: str) -> dict[str, Any]:
    """Run these rings, and return what they wrote."""
    only = [f"--only={ring}" for ring in rings]
    command: list[str | Path] = [sys.executable, "-m", "benchmarks", "--quick", *only, "--out", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    assert OURS in done.stdout
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def missing(results: dict[str, Any], who: str = OURS) -> list[str]:
    """What a contestant has not been measured at."""
    found = [measurement for measurement in results["measurements"] if measurement["who"] in {who, "all"}]
    assert found
    return [f"{m['ring']}: {m['work']}: {m['note']}" for m in found if not m["medians"]]


def svg(text: str) -> ET.Element:
    return ET.fromstring(text)  # noqa: S314 - our own


def test_rings_without_a_daemon(tmp_path: Path) -> None:
    """The inner rings measure this library; the peers too, or say why not; the machine is stated."""
    results = quick(tmp_path, "codec", "http2", "session", "startup")
    assert not missing(results)
    for peer in ("grpcio (asyncio)", "grpclib", "plain asyncio"):
        assert all("not run: " in text for text in missing(results, peer))
    assert {"CPU", "cores", "memory", "kernel", "Python", "h2"} <= set(results["machine"])


@pytest.mark.usefixtures("private_daemons", "reference")
def test_rings_with_a_daemon(tmp_path: Path) -> None:
    """Both clients build, and the plots are drawn."""
    results = quick(tmp_path, "crowd", "builds", "loop")
    assert not missing(results)
    assert not missing(results, "docker buildx")
    for name in ("time-by-size", "time-by-files", "memory", "lateness"):
        assert svg((tmp_path / f"{name}.svg").read_text()).tag == f"{SVG}svg"


def test_a_missing_contestant_is_listed() -> None:
    """With its reason, on one line."""
    results = Results()
    results.not_run("session", "in", "grpclib", "No module\nnamed grpclib")
    assert "grpclib     -  not run: No module named grpclib" in ring_table("session", results.measurements)


def test_comparison_of_medians() -> None:
    """The ratio is that of the medians; without one side there is none."""
    results = Results()
    for who, samples in ((OURS, [1.0, 9.0, 2.0]), ("docker buildx", [4.0])):
        measurement = results.new("builds", "send", who)
        for seconds in samples:
            measurement.add({"wall s": seconds})
    results.compare("builds", "send", "wall s", "docker buildx", "at most 0.9")
    results.compare("builds", "send", "CPU s", "docker buildx", "at most 0.4")
    assert [comparison.value for comparison in results.comparisons] == [0.5, None]


def test_table_is_aligned() -> None:
    """Numbers end below each other, and the name of a work is not repeated."""
    measurements = [Measurement("r", "work", who, {"wall s": [value]}) for who, value in (("a", 12.0), ("bb", 1234.0))]
    assert ring_table("r", measurements).splitlines() == [
        "r",
        "  work  who  wall s  runs",
        "  work  a      12.0     1",
        "        bb    1,234     1",
    ]


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (12345.6, "12,346")]
)
def test_figures(value: float | None, text: str) -> None:
    """Three digits that mean something."""
    assert figure(value) == text


def test_percentiles() -> None:
    """In milliseconds, of unordered seconds; an early wake-up is not late."""
    late = percentiles([0.003, *[0.001] * 98, -0.001])
    assert (late["p50 ms"], late["p99 ms"], late["max ms"]) == pytest.approx((1, 1, 3))
    assert percentiles([-0.001])["max ms"] == 0
    assert percentiles([]) == {}


def test_chart_keeps_points_inside_its_axes() -> None:
    """Larger values are higher, in both kinds of scale, and everything is within the picture."""
    line = Line("a & b", [(1, 0.5), (100, 40.0)], "#123456")
    for log_y in (False, True):
        root = svg(chart("t", [Panel("p", [line], "MiB", "s", log_y=log_y)]))
        low, high = root.iter(f"{SVG}circle")
        assert 0 < float(high.attrib["cy"]) < float(low.attrib["cy"]) < float(root.attrib["height"])
        assert 0 < float(low.attrib["cx"]) < float(high.attrib["cx"]) < float(root.attrib["width"])
        assert {"a & b", "MiB", "s", "p", "t"} <= {text.text for text in root.iter(f"{SVG}text")}
