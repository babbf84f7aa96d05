"""Curves and surfaces: holes, reading, evidence."""

import numpy as np
import pytest

from profiles.evidence import Evidence
from profiles.kernel_curves import Curve, Surface, fill

SIZES = np.array([1.0, 2.0, 4.0, 8.0])
NAN = float("nan")


def curve(shape: Evidence = Evidence.MEASURED, exponent: float = 1.0) -> Curve:
    """Times 1, 2, 4, 8 of which the one at 4 was not measured; measured up to 8, continued to 16."""
    return Curve(
        at=np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
        seconds=np.array([1.0, 2.0, 4.0, 8.0, 16.0]),
        held=np.array([True, True, False, True, False]),
        last=8.0,
        shape=shape,
        exponent=exponent,
    )


def surface(factor: float = 1.0, shape: Evidence = Evidence.MEASURED) -> Surface:
    """Time = batch x context; the last context is not held at the larger batch."""
    return Surface(
        batches=np.array([1.0, 4.0]),
        contexts=np.array([2.0, 8.0]),
        seconds=np.array([[2.0, 8.0], [8.0, 32.0]]),
        held=np.array([[True, True], [True, False]]),
        shape=shape,
        batch_factor=factor,
    )


def test_a_hole_takes_the_efficiency_of_its_neighbours() -> None:
    reference = np.array([[[1.0, 2.0, 4.0, 8.0]]])
    filled = fill(np.array([[[2.0, NAN, 8.0, NAN]]]), reference, SIZES)
    np.testing.assert_allclose(filled[0, 0], [2.0, 4.0, 8.0, 16.0])


def test_points_that_do_not_fall_stay_and_others_are_brought_between() -> None:
    reference = np.ones((1, 1, 4))
    filled = fill(np.array([[[1.0, 5.0, 3.0, 4.0]]]), reference, SIZES)
    assert filled[0, 0, [0, 2, 3]].tolist() == [1.0, 3.0, 4.0]
    assert 1.0 <= filled[0, 0, 1] <= 3.0


def test_a_batch_without_points_takes_those_of_the_nearest() -> None:
    reference = np.array([[[1.0, 2.0], [2.0, 4.0], [4.0, 8.0]]])
    filled = fill(np.array([[[3.0, 6.0], [NAN, NAN], [12.0, 24.0]]]), reference, SIZES[:2])
    np.testing.assert_allclose(filled[0, 1], [6.0, 12.0])


def test_reading_between_points_is_linear_and_beyond_in_proportion() -> None:
    assert curve().read(np.array([0.5, 3.0, 8.0, 32.0])).tolist() == [1.0, 3.0, 8.0, 32.0]


def test_a_square_is_read_exactly_at_exponent_one_half() -> None:
    points = np.array([1.0, 3.0, 7.0])
    law = Curve(at=points, seconds=points**2, held=points > 0, last=7.0, shape=Evidence.MEASURED, exponent=0.5)
    assert float(law.read(5.0)) == pytest.approx(25.0)


@pytest.mark.parametrize(
    ("size", "evidence"),
    [(2, Evidence.MEASURED), (4, Evidence.INTERPOLATED), (3, Evidence.INTERPOLATED), (9, Evidence.SCALED)],
)
def test_evidence_of_a_measured_shape_is_that_of_the_point(size: float, evidence: Evidence) -> None:
    assert curve().evidence(size) is evidence


def test_evidence_of_another_shape_is_never_measured() -> None:
    assert curve(Evidence.INTERPOLATED).evidence(2) is Evidence.INTERPOLATED
    assert curve(Evidence.INTERPOLATED).evidence(9) is Evidence.SCALED
    assert curve(Evidence.SCALED).evidence(2) is Evidence.SCALED


def test_a_surface_is_linear_in_both_and_proportional_beyond() -> None:
    assert float(surface().read(2, 4)) == pytest.approx(8.0)
    assert float(surface().read(8, 4)) == pytest.approx(2 * float(surface().read(4, 4)))
    assert float(surface().read(1, 1)) == 2.0, "below the first context as at it"
    assert float(surface(2.0).read(1, 4)) == float(surface().read(2, 4))


def test_a_surface_s_evidence_is_that_of_the_point() -> None:
    assert surface().evidence(4, 2) is Evidence.MEASURED
    assert surface().evidence(1, 4) is Evidence.INTERPOLATED
    assert surface().evidence(4, 8) is Evidence.SCALED
    assert surface().evidence(2, 2) is Evidence.INTERPOLATED
    assert surface().evidence(8, 2) is Evidence.SCALED
    assert surface(shape=Evidence.INTERPOLATED).evidence(4, 2) is Evidence.INTERPOLATED
