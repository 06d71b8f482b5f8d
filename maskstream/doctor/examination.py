"""All checks in the order a reader wants them, and the verdict: would track and serve work here?"""

from collections.abc import Sequence
from dataclasses import dataclass

from maskstream.doctor import engines, machine, surroundings
from maskstream.doctor.findings import FAILED, MISSING, OK, Check, Finding, checked, install

CHECKS: tuple[tuple[str, Check], ...] = (
    ("software", machine.software),
    ("machine", machine.processor),
    ("machine", machine.memory),
    ("machine", machine.disk),
    ("engines", engines.engines),
    ("GPU", surroundings.graphics),
    ("model", surroundings.weights),
    ("video", surroundings.video),
    ("video", surroundings.cameras),
    ("server", surroundings.ports),
    ("extras", surroundings.extras),
)
_ESSENTIAL = (("software", "Python"), ("model", "shipped weights"), ("video", "decoders"))


@dataclass(frozen=True)
class Verdict:
    """Whether the two doors open, and if not, why."""

    track: bool
    serve: bool
    reasons: tuple[str, ...]

    @property
    def text(self) -> str:
        """For a person: one line, and one for each reason."""
        doors = (("maskstream track", self.track), ("maskstream-serve", self.serve))
        lines = [f"{name} {'would work' if works else 'would NOT work'} here" for name, works in doors]
        return "\n".join([*lines, *(f"  {reason}" for reason in self.reasons)])


def examine(checks: Sequence[tuple[str, Check]] = CHECKS) -> list[Finding]:
    """Every finding. Never raises; takes ten to twenty seconds, nearly all of it in the engines."""
    return [finding for area, check in checks for finding in checked(area, check)]


def verdict(findings: Sequence[Finding]) -> Verdict:
    """What the findings mean for `maskstream track` and `maskstream-serve`."""
    reasons = [f"{one.name}: {one.detail}" for one in findings if _is_essential(one) and one.state == FAILED]
    present = {(one.area, one.name) for one in findings}
    reasons += [f"{name}: could not be checked" for area, name in _ESSENTIAL if (area, name) not in present]
    if not any(one.area == engines.AREA and one.state == OK for one in findings):
        reasons.append(f"no engine runs; {install('cpu')} brings two")
    track = not reasons
    lacking = [one for one in findings if one.name == "[serve]" and one.state == MISSING]
    reasons += [f"serve: {one.detail}; {install('serve')}" for one in lacking]
    return Verdict(track, track and not lacking, tuple(reasons))


def _is_essential(finding: Finding) -> bool:
    return (finding.area, finding.name) in _ESSENTIAL
