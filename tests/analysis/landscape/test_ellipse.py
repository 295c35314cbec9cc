import numpy as np
import pytest

from keras_fmm.analysis import ellipse

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5, 1)])
@pytest.mark.parametrize("points", [3, 300])
def test_is_the_affine_image_of_a_circle(shape, points):
    samples = RNG.normal(size=(3, *shape))
    # The affine map of the plane that takes three points of the circle to the samples.
    thirds = 2 * np.pi * np.arange(3) / 3
    corners = np.stack([np.ones(3), np.cos(thirds), np.sin(thirds)], axis=1)
    affine = np.linalg.solve(corners, samples.reshape(3, -1))
    angles = np.linspace(0, 2 * np.pi, points, endpoint=False)
    circle = np.stack([np.ones(points), np.cos(angles), np.sin(angles)], axis=1)
    found = ellipse(*samples, points=points)
    assert (found.dtype, found.shape) == ("float32", (points, *shape))
    np.testing.assert_allclose(found, (circle @ affine).reshape(points, *shape), atol=1e-6)


def test_the_samples_are_on_it_and_their_mean_is_its_centre():
    samples = RNG.integers(0, 256, (3, 8, 8, 1)).astype("uint8")
    found = ellipse(*samples)
    np.testing.assert_allclose(found[[0, 100, 200]], samples, atol=1e-4)
    np.testing.assert_allclose(found.mean(axis=0, dtype="float64"), samples.mean(axis=0), atol=1e-4)
    # Opposite points are as far on the other side of the centre.
    np.testing.assert_allclose(found[10] + found[160], 2 * samples.mean(axis=0), atol=1e-4)


def test_area_in_the_plane():
    # Steiner's ellipse has 4 pi / (3 sqrt(3)) times the area of the triangle.
    x, y = ellipse([0, 0], [4, 1], [1, 3], points=3000).T.astype("float64")
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    triangle = abs(4 * 3 - 1 * 1) / 2
    assert area == pytest.approx(4 * np.pi / (3 * np.sqrt(3)) * triangle, rel=1e-4)


def test_equal_samples_and_samples_on_a_line():
    np.testing.assert_allclose(ellipse([1, 2], [1, 2], [1, 2], points=6), [[1, 2]] * 6, rtol=1e-6)
    line = ellipse([0, 0], [1, 2], [3, 6])
    np.testing.assert_allclose(line[:, 1], 2 * line[:, 0], atol=1e-5)
    np.testing.assert_allclose(line[[0, 100, 200], 0], [0, 1, 3], atol=1e-6)


@pytest.mark.parametrize("points", [0, -3, 1, 100])
def test_points_that_leave_out_a_sample_are_refused(points):
    with pytest.raises(ValueError, match=f"positive multiple of 3, .*Received: points={points}"):
        ellipse([0], [1], [2], points=points)


def test_other_refusals():
    with pytest.raises(TypeError, match="`points` must be a positive multiple of 3"):
        ellipse([0], [1], [2], points=300.0)
    with pytest.raises(TypeError, match="'c'"):
        ellipse([0], [1])
    with pytest.raises(TypeError, match="`b` must be an array of real numbers"):
        ellipse([0], ["dog"], [2])
    with pytest.raises(TypeError, match="`c` must be an array of real numbers"):
        ellipse([0], [1], None)
    with pytest.raises(ValueError, match=r"one shape. Received: shapes \(1,\), \(2,\) and \(1,\)"):
        ellipse([0], [1, 2], [2])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="`a` must be finite"):
            ellipse([bad], [1], [2])
