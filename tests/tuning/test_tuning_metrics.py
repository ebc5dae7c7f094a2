"""Sample efficiency and score after a number of seconds, by hand."""

import pytest
from sb3_ppo_variants.tuning.ranking.metrics import area_under_curve, score_after
from sb3_ppo_variants.tuning.runs.cell import CellResult, CurvePoint, failed_result
from sb3_ppo_variants.tuning.study.scales import FLOOR, Scale

SCALE = Scale(0.0, 10.0, "by hand")


def result(*points: tuple[int, float, float]) -> CellResult:
    """Steps, seconds and raw score of each checkpoint."""
    curve = tuple(CurvePoint(steps=steps, seconds=seconds, score=score) for steps, seconds, score in points)
    return CellResult(status="ok", score=curve[-1].score, curve=curve, steps=curve[-1].steps, seconds=curve[-1].seconds)


def test_the_area_is_the_mean_score_over_the_steps() -> None:
    assert area_under_curve(result((50, 1, 10.0), (100, 2, 10.0)), SCALE, 100) == pytest.approx(0.75)
    assert area_under_curve(result((50, 1, 0.0), (100, 2, 10.0)), SCALE, 100) == pytest.approx(0.25)


def test_the_last_score_holds_for_the_steps_that_make_no_whole_rollout() -> None:
    assert area_under_curve(result((80, 1, 10.0)), SCALE, 100) == pytest.approx(0.6)


def test_learning_earlier_has_the_larger_area_though_the_end_is_the_same() -> None:
    early, late = result((50, 1, 8.0), (100, 2, 10.0)), result((50, 1, 2.0), (100, 2, 10.0))
    assert area_under_curve(early, SCALE, 100) > area_under_curve(late, SCALE, 100)


@pytest.mark.parametrize(("seconds", "score"), [(0, 0.0), (1, 0.2), (2, 0.4), (3, 0.7), (4, 1.0), (9, 1.0)])
def test_the_score_after_some_seconds_lies_on_the_curve(seconds: float, score: float) -> None:
    assert score_after(result((50, 2, 4.0), (100, 4, 10.0)), SCALE, seconds) == pytest.approx(score)


def test_a_failed_run_has_the_floor_in_both() -> None:
    failed = failed_result("it exploded", seconds=3.0)
    assert area_under_curve(failed, SCALE, 100) == FLOOR
    assert score_after(failed, SCALE, 1.0) == FLOOR


def test_no_point_is_below_the_floor() -> None:
    assert area_under_curve(result((50, 1, -1e9), (100, 2, -1e9)), SCALE, 100) == pytest.approx(-0.75)
