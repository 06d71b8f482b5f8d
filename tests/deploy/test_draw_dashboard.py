"""The dashboard's picture: what is asked, what is drawn, and what is said when there is nothing to draw.

A server of the tests answers as Prometheus does; a real one is in test_prometheus.py.
"""

import http.server
import json
import threading
import urllib.parse

import cv2
import pytest
from grafana_programs import FOLDER, grafana_program

DASHBOARD = json.loads((FOLDER / "maskstream.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def tool():
    return grafana_program("draw_dashboard")


class FakePrometheus:
    """Answers each range query with what `reply` gives for it: (status, body)."""

    def __init__(self, reply):
        self.asked = asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                split = urllib.parse.urlsplit(self.path)
                question = dict(urllib.parse.parse_qsl(split.query))
                asked.append((split.path, question))
                status, body = reply(question)
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def answer(*series):
    """Prometheus's form of range answers: (labels, [(at, value)])."""
    result = [{"metric": labels, "values": [[at, str(v)] for at, v in pairs]} for labels, pairs in series]
    return 200, {"status": "success", "data": {"resultType": "matrix", "result": result}}


def busy(question):
    """Every query has an answer; a histogram has its bounds."""
    start, end = float(question["start"]), float(question["end"])
    moments = [start + (end - start) * k / 20 for k in range(21)]
    if "sum by (le)" in question["query"]:
        bounds = enumerate(("0.01", "0.1", "+Inf"), 1)
        return answer(*(({"le": bound}, [(at, 10 * k) for at in moments]) for k, bound in bounds))
    labels = {"stage": "segment", "policy": "latest", "instance": "here:1", "le": "1"}
    return answer((labels, [(at, 0.2 + k / 100) for k, at in enumerate(moments)]))


def test_every_panel_is_asked_for_and_drawn(tool, tmp_path, capsys):
    out = tmp_path / "new" / "d.png"
    with FakePrometheus(busy) as prometheus:
        status = tool.main(["--prometheus", prometheus.address + "/", "--minutes", "30", "--out", str(out)])
    assert status == 0
    assert capsys.readouterr() == (f"{out}\n", "")
    picture = cv2.imread(str(out))
    assert picture.shape[1] == 150 * tool.WIDTH_INCHES
    expressions = [target["expr"] for panel in PANELS for target in panel["targets"]]
    assert len(prometheus.asked) == len(expressions)
    assert {path for path, _ in prometheus.asked} == {"/api/v1/query_range"}
    for _, question in prometheus.asked:
        assert "$" not in question["query"]
        assert float(question["end"]) - float(question["start"]) == pytest.approx(1800)
    assert any('job="maskstream",instance=~".*"' in question["query"] for _, question in prometheus.asked)


def test_each_panel_has_ink_where_it_stands(tool, tmp_path):
    # the same dashboard with nothing in one panel: the picture changes there, and nowhere else
    span = tool.Span(1e9, 600, 15, "maskstream", ".*")
    pictures = []
    for silent in ("", "process_resident_memory_bytes"):
        with FakePrometheus(lambda q, word=silent: answer() if word and word in q["query"] else busy(q)) as prometheus:
            out = tmp_path / f"without_{silent}.png"
            empty = tool.draw(DASHBOARD, tool.Prometheus(prometheus.address), span, out)
            assert empty == (["Memory"] if silent else [])
        pictures.append(cv2.imread(str(out)).astype(int))
    rows, columns = abs(pictures[0] - pictures[1]).any(axis=2).nonzero()
    place = next(panel["gridPos"] for panel in PANELS if panel["title"] == "Memory")
    height, width = pictures[0].shape[:2]
    assert len(rows) > 1000
    assert place["x"] / 24 <= columns.min() / width <= columns.max() / width <= (place["x"] + place["w"]) / 24
    lowest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in PANELS)
    top = (place["y"] * tool.UNIT_INCHES + tool.TITLE_INCHES) * 150
    bottom = top + place["h"] * tool.UNIT_INCHES * 150
    assert height == pytest.approx((lowest * tool.UNIT_INCHES + tool.TITLE_INCHES) * 150, abs=1)
    assert top <= rows.min() <= rows.max() <= bottom


def test_variables_are_filled_in_as_grafana_does(tool):
    span = tool.Span(1e9, 3600, 15, "masks", "a:1|b:2")
    assert span.step == 15
    asked = span.fill('rate(x{job="$job",instance=~"$instance"}[$__rate_interval])')
    assert asked == 'rate(x{job="masks",instance=~"a:1|b:2"}[60s])'
    assert tool.Span(1e9, 36000, 15, "", "").fill("$__rate_interval") == "165s"  # a step of 150 s and one scrape more


def test_legends_are_made_of_labels(tool):
    assert tool._legend("p50 {{policy}}", {"policy": "latest"}) == "p50 latest"
    assert tool._legend("{{ missing }} slots", {}) == "slots"
    assert tool._legend("", {"b": "2", "a": "1"}) == "a=1, b=2"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("s", 0.0123, "12.3 ms"), ("s", 2.5, "2.5 s"), ("s", 2e-5, "20 us"), ("s", 0, "0"),
        ("percentunit", 0.925, "92.5%"), ("ops", 12, "12/s"),
        ("bytes", 1.5 * 2**30, "1.5 GiB"), ("bytes", 0, "0 B"), ("short", 3, "3"),
    ],
)  # fmt: skip
def test_figures_have_their_unit(tool, unit, value, text):
    assert tool.formatter(unit)(value) == text


def test_values_that_are_no_numbers_are_left_out(tool):
    panel = {"title": "t", "targets": [{"expr": "x", "legendFormat": "x"}, {"expr": "y", "legendFormat": "y"}]}
    span = tool.Span(1e9, 60, 15, "", "")
    with FakePrometheus(
        lambda q: answer(({}, [(1, "NaN"), (2, "+Inf"), (3, 4)] if q["query"] == "x" else [(1, "NaN")]))
    ) as prometheus:
        (one,) = tool.ask(panel, tool.Prometheus(prometheus.address), span)
    assert (one.legend, one.times, one.values) == ("x", [3.0], [4.0])


def test_panels_without_an_answer_are_named(tool, tmp_path, capsys):
    out = tmp_path / "d.png"
    with FakePrometheus(lambda _: answer()) as prometheus:
        assert tool.main(["--prometheus", prometheus.address, "--job", "other", "--out", str(out)]) == 0
    said = capsys.readouterr().err
    assert said.count("\n") == len(PANELS)
    assert "no answer for panel 'Time of a frame' in these 60 minutes of job 'other'\n" in said
    assert out.read_bytes().startswith(PNG)


def test_a_refused_query_names_its_panel_and_says_why(tool, tmp_path, capsys):
    with FakePrometheus(lambda _: (400, {"status": "error", "error": "parse error: what"})) as prometheus:
        assert tool.main(["--prometheus", prometheus.address, "--out", str(tmp_path / "d.png")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: panel 'Time of a frame': job_policy:maskstream_frame_seconds:p50{")
    assert said.endswith("parse error: what\n")
    assert not (tmp_path / "d.png").exists()


@pytest.mark.parametrize("body", [b"<html>not Prometheus</html>", b'{"status": "success"}', b"[]"])
def test_a_server_that_is_no_prometheus(tool, tmp_path, capsys, body):
    with FakePrometheus(lambda _: (200, body)) as prometheus:
        assert tool.main(["--prometheus", prometheus.address, "--out", str(tmp_path / "d.png")]) == 2
        assert f"no Prometheus answers at {prometheus.address}: " in capsys.readouterr().err


def test_an_address_where_nobody_is(tool, tmp_path, capsys):
    with FakePrometheus(busy) as prometheus:
        address = prometheus.address
    assert tool.main(["--prometheus", address, "--out", str(tmp_path / "d.png")]) == 2
    assert f"no Prometheus answers at {address}" in capsys.readouterr().err


@pytest.mark.parametrize("text", [None, "not json", "[]", "{}", '{"panels": [{"type": "row"}]}', '{"panels": [{}]}'])
def test_a_file_that_is_no_dashboard(tool, tmp_path, capsys, text):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    assert tool.main(["--dashboard", str(path), "--out", str(tmp_path / "d.png")]) == 2
    assert f"error: {path}: expected a Grafana dashboard with panels: " in capsys.readouterr().err


def test_an_out_that_is_no_picture_is_refused_before_anything_is_asked(tool, tmp_path, capsys):
    with FakePrometheus(busy) as prometheus:
        assert tool.main(["--prometheus", prometheus.address, "--out", str(tmp_path / "d.txt")]) == 2
    assert "d.txt: a plot is a .png or .svg file" in capsys.readouterr().err
    assert prometheus.asked == []


@pytest.mark.parametrize("words", [["--minutes", "0"], ["--scrape-interval", "-1"], ["--minutes", "soon"]])
def test_times_are_positive_numbers(tool, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        tool.main(words)
    assert "--minutes" in capsys.readouterr().err
