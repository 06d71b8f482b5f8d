"""What `maskstream evaluate` prints and writes: tables of scores by sequence and object, and the same as JSON.

Means are over objects, as in DAVIS, not over sequences. DAVIS 2016 has one object a sequence and is read by its means,
recalls and decays, so its table shows those.
"""

from collections.abc import Mapping
from typing import Any

from maskstream.evaluation import SequenceResult
from maskstream.scores import (
    ObjectScores,
    SequenceScores,
    as_percent,
    mean_scores,
    sequence_as_percent,
    statistics_as_percent,
)
from maskstream.tables import Table, print_table

Results = Mapping[str, SequenceResult]
Columns = list[float | None]

_KINDS = {"decoded": "mean over objects", "coarse": "coarse", "copied": "copy of the first mask"}


def build_report(results: Results, with_copy: bool) -> dict[str, Any]:
    """The printed figures, in 0..100."""
    frames = sum(result.frames for result in results.values())
    seconds = sum(result.seconds for result in results.values())
    report: dict[str, Any] = {
        "mean": as_percent(mean_scores(_objects(results, "decoded"))),
        "coarse": as_percent(mean_scores(_objects(results, "coarse"))),
        "statistics": statistics_as_percent(_objects(results, "decoded")),
        "sequences": {name: _sequence(result) for name, result in results.items()},
        "fps": round(frames / seconds, 2) if seconds > 0 else 0.0,
        "frames": frames,
    }
    if with_copy:
        report["copy"] = as_percent(mean_scores(_objects(results, "copied")))
        for name, result in results.items():
            report["sequences"][name]["copy"] = as_percent(result.copied.mean)
    return report


def print_scores(results: Results, protocol: str, with_copy: bool) -> None:
    """The tables of a protocol; nothing where no frame could be scored."""
    scored = {name: result for name, result in results.items() if result.decoded.objects}
    if not scored:
        return
    if protocol == "davis2016":
        print_table(_statistics_by_sequence(scored, with_copy))
    else:
        print_table(_scores_by_object(scored, with_copy))
        print()
        print_table(_statistics_of_all(scored))


def _objects(results: Results, kind: str) -> list[ObjectScores]:
    """Scores of all objects of all sequences, for one kind of answer."""
    scores: list[SequenceScores] = [getattr(result, kind) for result in results.values()]
    return [one for sequence in scores for one in sequence.objects.values()]


def _sequence(result: SequenceResult) -> dict[str, Any]:
    fps = round(result.frames / result.seconds, 2) if result.seconds > 0 else 0.0
    coarse = sequence_as_percent(result.coarse)
    return {**sequence_as_percent(result.decoded), "coarse": coarse, "frames": result.frames, "fps": fps}


def _scores_by_object(results: Results, with_copy: bool) -> Table:
    rows: list[list[object]] = []
    for name, result in results.items():
        decoded, coarse = sequence_as_percent(result.decoded), sequence_as_percent(result.coarse)
        rows.append([name, *_columns(decoded), *_columns(coarse)])
        if len(decoded["objects"]) > 1:
            for object_id, scores in decoded["objects"].items():
                rows.append([f"  object {object_id}", *_columns(scores), *_columns(coarse["objects"][object_id])])
    means = {kind: _columns(as_percent(mean_scores(_objects(results, kind)))) for kind in _KINDS}
    rows.append([_KINDS["decoded"], *means["decoded"], *means["coarse"]])
    if with_copy:
        rows.append([_KINDS["copied"], *means["copied"], *[None] * 3])
    return Table(["", "J&F", "J", "F", "coarse J&F", "J", "F"], rows)


def _columns(scores: Mapping[str, Any]) -> Columns:
    return [scores["jf"], scores["j"], scores["f"]]


def _statistics_of_all(results: Results) -> Table:
    found = statistics_as_percent(_objects(results, "decoded"))
    assert found is not None
    rows = [[name.upper(), *found[name].values()] for name in ("j", "f")]
    return Table(["over objects", "mean", "recall", "decay"], rows)


def _statistics_by_sequence(results: Results, with_copy: bool) -> Table:
    """One row a sequence, as the toolkit of 2016 prints them; then the means over sequences."""
    rows: list[list[object]] = [
        [name, *_statistics_columns(list(result.decoded.objects.values()))] for name, result in results.items()
    ]
    kinds = {**_KINDS, "decoded": "mean over sequences"}
    if not with_copy:
        del kinds["copied"]
    rows += [[title, *_statistics_columns(_objects(results, kind))] for kind, title in kinds.items()]
    return Table(["", "J&F", "J mean", "recall", "decay", "F mean", "recall", "decay"], rows)


def _statistics_columns(objects: list[ObjectScores]) -> Columns:
    found = statistics_as_percent(objects)
    if found is None:
        return [None] * 7
    return [as_percent(mean_scores(objects))["jf"], *found["j"].values(), *found["f"].values()]
