"""The rules, by promtool, and a real Prometheus that scrapes a server under load with our configuration."""

import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from fakes import FakeNetworks
from grafana_programs import grafana_program
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry, generate_latest
from served import eventually, prompt, square

from serve.metrics import BUCKETS_SECONDS, Identity, Metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted(FOLDER.glob("rules/*.yml"))
TESTS = sorted(FOLDER.glob("tests/*.yml"))
ALERTS = re.findall(r"- alert: (\w+)", (FOLDER / "rules" / "alerts.yml").read_text())
RECORDED = re.findall(r"- record: (\S+)", (FOLDER / "rules" / "recording.yml").read_text())
PANELS = json.loads((ROOT / "deploy" / "grafana" / "maskstream.json").read_text())["panels"]
DASHBOARD = [target["expr"] for panel in PANELS for target in panel.get("targets", [])]

POLICIES = {"latest", "lossless"}

needs_promtool = pytest.mark.skipif(
    not shutil.which("promtool"), reason="NOT TESTED: promtool is missing (Debian's package prometheus)"
)
needs_prometheus = pytest.mark.skipif(
    not shutil.which("prometheus"), reason="NOT TESTED: prometheus is missing (Debian's package prometheus)"
)


def promtool(*arguments, stdin=None):
    done = subprocess.run(["promtool", *map(str, arguments)], input=stdin, capture_output=True, timeout=60, check=False)
    return done.returncode, (done.stdout + done.stderr).decode()


@needs_promtool
def test_rules_and_configuration_are_valid():
    for arguments in (("check", "rules", *RULES), ("check", "config", FOLDER / "prometheus.yml")):
        status, said = promtool(*arguments)
        assert status == 0, said


@needs_promtool
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(path):
    status, said = promtool("test", "rules", path)
    assert status == 0, said


@needs_promtool
def test_a_rule_that_is_broken_fails_its_test(tmp_path):
    # the tests of the rules are worth what they notice
    shutil.copytree(FOLDER, tmp_path / "p")
    rules = tmp_path / "p" / "rules" / "alerts.yml"
    rules.write_text(rules.read_text().replace("maskstream_engine_stuck == 1", "maskstream_engine_stuck == 2"))
    head, *blocks = re.split(r"(?=\n  - name: )", (FOLDER / "tests" / "alerts.yml").read_text())
    few = [block for block in blocks if "name: MaskstreamDown" in block or "name: MaskstreamEngineStuck" in block]
    tests = tmp_path / "p" / "tests" / "few.yml"
    tests.write_text("".join((head, *few)))
    status, said = promtool("test", "rules", tests)
    assert status == 1
    assert "MaskstreamEngineStuck" in said


def test_each_alert_has_a_test_in_which_it_fires_and_a_place_in_the_guide():
    tests = (FOLDER / "tests" / "alerts.yml").read_text()
    blocks = re.split(r"\n      - alert: ", (FOLDER / "rules" / "alerts.yml").read_text())[1:]
    assert len(ALERTS) == len(set(ALERTS)) == len(blocks)
    for name, block in zip(ALERTS, blocks, strict=True):
        assert f"\n  - name: {name}\n" in tests
        assert re.search(rf'alertname(="|: ){name}\b', tests), f"{name} fires in no test"
        assert f"runbook: docs/operations.md#{name.lower()}\n" in f"{block}\n"
        assert {"summary", "description"} <= set(re.findall(r"^ +(\w+): \"", block, re.MULTILINE))
        assert re.search(r"severity: (critical|warning|info)}", block)


def test_each_recorded_figure_has_a_test():
    tests = (FOLDER / "tests" / "recording.yml").read_text() + (FOLDER / "tests" / "alerts.yml").read_text()
    limits = {"maskstream:frame_age_limit_seconds", "maskstream:frames_dropped_limit_ratio"}  # tested by their alerts
    sums = {"job_policy_le:maskstream_frame_seconds_bucket:rate5m"}  # tested by all that is made of it
    assert [name for name in RECORDED if name not in tests and name not in limits | sums] == []


def test_shares_are_counted_at_bounds_that_exist():
    bounds = {float(bound) for bound in re.findall(r'le="([0-9.]+)"', (FOLDER / "rules" / "recording.yml").read_text())}
    assert bounds == {0.0167, 0.0333, 0.0667}
    assert bounds <= set(BUCKETS_SECONDS)


def exposition():
    registry = CollectorRegistry()
    Metrics(registry).set_identity(Identity("1.2", "fake", "abc", "fake", "fp32"))
    return generate_latest(registry)


def test_rules_ask_only_for_what_is_there():
    shown = exposition().decode()
    for path in RULES:
        expressions = re.sub(r"#.*|description:.*|summary:.*|runbook:.*", "", path.read_text())
        asked = set(re.findall(r"(?<![:\w])maskstream_\w+", expressions)) - set(re.findall(r"name: (\w+)", expressions))
        assert asked
        assert {name for name in asked if f"\n{name}" not in shown} == set()
        for label, values in re.findall(r'(outcome|reason|end_reason|phase|policy)=~?"([^"]+)"', expressions):
            for value in values.split("|"):
                assert f'{label}="{value}"' in shown, f"no series has {label}={value}"


@needs_promtool
def test_our_exposition_is_clean():
    status, said = promtool("check", "metrics", stdin=exposition())
    assert (status, said) == (0, "")


class RealPrometheus:
    """A Prometheus process that scrapes one server every second, by our configuration."""

    def __init__(self, folder, target):
        shutil.copytree(FOLDER / "rules", folder / "rules")
        config = (FOLDER / "prometheus.yml").read_text()
        config = config.replace("127.0.0.1:9464", target).replace("_interval: 15s", "_interval: 1s")
        (folder / "prometheus.yml").write_text(config.replace("scrape_timeout: 5s", "scrape_timeout: 1s"))
        self._log, self._folder = folder / "log", folder
        self._process, self.port = None, 0

    def __enter__(self):
        # It cannot be asked for a free port, and one that was free may be taken by now: so try some.
        for port in range(39_464, 39_500):
            if self._starts(port):
                return self
        raise AssertionError(self._log.read_text()[-3000:])

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(20)

    def _starts(self, port):
        command = [
            "prometheus", f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        with self._log.open("wb") as log:
            self._process, self.port = subprocess.Popen(command, stdout=log, stderr=log), port
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=1):
                    return self._process.poll() is None
            except OSError:
                time.sleep(0.1)
        self._process.kill()
        self._process.wait()
        return False

    def query(self, expression):
        """The samples of an instant query, as (labels, value)."""
        question = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/query?{question}", timeout=10
            ) as response:
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from error
        assert answer["status"] == "success"
        return [(sample["metric"], float(sample["value"][1])) for sample in answer["data"]["result"]]

    def value(self, expression):
        """Of the only sample; None when there is none."""
        samples = self.query(expression)
        assert len(samples) <= 1, samples
        return samples[0][1] if samples else None


def keep_sending(running, stop, policy):
    """A stream with frames until told."""
    stream = running.stream(delivery=policy)
    while not stop.is_set():
        stream.frame(prompts=[prompt(1, square(16, 16))] if stream.seq % 20 == 0 else [])
        time.sleep(0.01)
    stream.half_close()
    stream.rest()


def filled_in(expression):
    """As Grafana asks it."""
    return expression.replace("$job", "maskstream").replace("$instance", ".*").replace("$__rate_interval", "1m")


def draw(prometheus, out):
    """The titles of the panels that the picture of the last minute has no figures for."""
    tool = grafana_program("draw_dashboard")
    span = tool.Span(time.time(), 60, 15, "maskstream", ".*")
    return tool.draw(tool.read(tool.DASHBOARD), tool.Prometheus(f"http://127.0.0.1:{prometheus.port}"), span, out)


def policies_in_time(prometheus):
    """Whose share of frames in time is a share."""
    within = prometheus.query("job_policy:maskstream_frames_within_66_7ms:ratio")
    return {labels["policy"] for labels, share in within if 0 <= share <= 1}


def repeated(ask, until):
    """The answer as wished, or the last one that came within half a minute."""
    deadline = time.monotonic() + 30
    while (answer := ask()) != until and time.monotonic() < deadline:
        time.sleep(0.25)
    return answer


@needs_prometheus
def test_a_real_prometheus_scrapes_a_server_under_load(start, tmp_path):
    running, stop = start(FakeNetworks(delay_seconds=0.002)), threading.Event()
    running.registry.register(PROCESS_COLLECTOR)
    senders = [threading.Thread(target=keep_sending, args=(running, stop, policy)) for policy in (1, 2, 2)]
    with RealPrometheus(tmp_path, running.server.http) as prometheus:
        for sender in senders:
            sender.start()
        try:
            eventually(lambda: prometheus.value('up{job="maskstream"}') == 1)
            eventually(lambda: (prometheus.value('job_policy:maskstream_frame_seconds:p99{policy="latest"}') or 0) > 0)
            eventually(lambda: (prometheus.value("instance:maskstream_engine_busy:ratio") or 0) > 0)
            eventually(lambda: (prometheus.value("instance:maskstream_loop_lag_seconds:p99") or 0) > 0)
            # On a busy machine a scrape may come too late, and then there is no figure until the next one.
            assert repeated(lambda: prometheus.value("job:maskstream_slots_used:ratio"), until=3 / 8) == 3 / 8
            assert repeated(lambda: prometheus.value("maskstream:frame_budget_seconds"), until=0.0667) == 0.0667
            assert repeated(lambda: policies_in_time(prometheus), until=POLICIES) == POLICIES
            silent = repeated(lambda: [one for one in DASHBOARD if not prometheus.query(filled_in(one))], until=[])
            assert silent == [], "the dashboard shows nothing for these"
            drawn_without = repeated(lambda: draw(prometheus, tmp_path / "dashboard.png"), until=["Age of masks"])
            assert drawn_without == ["Age of masks"]  # these frames do not say when they were taken
            assert prometheus.query('ALERTS{alertstate="firing",severity="critical"}') == []
        finally:
            stop.set()
            for sender in senders:
                sender.join()
        assert "level=error" not in (tmp_path / "log").read_text()
