"""maskstream doctor: what this machine can do, what is missing, and what to install for it."""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from maskstream.doctor.examination import Verdict, examine, verdict
from maskstream.doctor.findings import FAILED, MISSING, NOTE, OK, Finding
from maskstream.report import STDOUT, write_report
from maskstream.tables import Table, print_table

DESCRIPTION = """\
Look at this machine: software, processor, memory, each engine in each precision (really run, on small frames), graphics
card, video decoders, cameras, ports, the shipped model, extras. For what is missing it says what that would give and
the command that installs it. No network is used. Exit status 0 when track and serve would work here, 1 when not.

  maskstream doctor
  maskstream doctor --json doctor.json     the same for programs; - is standard output
  maskstream doctor --quiet                the exit status alone"""

_STYLES = {OK: "green", NOTE: "yellow", MISSING: "yellow", FAILED: "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--json", metavar="FILE", type=Path, help="write verdict and findings; - is standard output")
    parser.add_argument("--quiet", action="store_true", help="say nothing but errors")


def run(arguments: argparse.Namespace) -> int:
    """Examine, print, write."""
    findings = examine()
    found = verdict(findings)
    if not arguments.quiet:
        _show(findings, found, arguments.json == STDOUT)
    if arguments.json:
        listed = [asdict(finding) for finding in findings]
        told = {"track": found.track, "serve": found.serve, "reasons": list(found.reasons)}
        write_report(arguments.json, {"verdict": told, "findings": listed})
    return 0 if found.track and found.serve else 1


def _show(findings: list[Finding], found: Verdict, json_on_stdout: bool) -> None:
    """Verdict, findings, advice; beside the JSON when that is on standard output."""
    file = sys.stderr if json_on_stdout else sys.stdout
    print(found.text, end="\n\n", file=file)
    rows = [(one.area, one.state, one.name, one.detail) for one in findings]
    print_table(Table(["area", "state", "what", "found"], rows, text_columns=4), styles=_STYLES, file=file)
    advised = [one for one in findings if one.advice]
    if advised:
        print("\nfor more:", file=file)
    for one in advised:
        print(f"  {one.name}: {one.advice}", file=file)
