"""PixCorr, SSIM, and the correlation distance that EffNet-B and SwAV scores use."""

import numpy as np
from jaxtyping import Float, Real, UInt8
from scipy.ndimage import gaussian_filter

from neuroadapter_jax.errors import InputError
from neuroadapter_jax.finite import require_finite_rows

Images = UInt8[np.ndarray, "b y x c"] | Float[np.ndarray, "b y x c"]

_LUMA = np.array([0.2125, 0.7154, 0.0721])
_SIGMA = 1.5
_RADIUS = 5


# Values of a row's features that are centred and multiplied at once; bounds the memory of float64.
_BLOCK = 1 << 15


def check_pairs(a: Images, b: Images) -> None:
    """Checks that two image stacks are RGB, of one shape, both uint8 or both floats in [0, 1].

    Args:
        a: images [b, y, x, 3].
        b: images to compare with.

    Raises:
        InputError: if they are not.
    """
    bytes_ = a.dtype == b.dtype == np.uint8
    floats = a.dtype.kind == b.dtype.kind == "f" and all(map(_in_unit_range, (a, b)))
    if not (bytes_ or floats):
        raise InputError(
            "Images to compare must be uint8 in 0..255, or both floats in 0..1, found "
            f"{a.dtype} and {b.dtype}: convert both to uint8 first."
        )
    if a.ndim != 4 or a.shape[-1] != 3 or a.shape != b.shape:
        raise InputError(
            f"Images to compare must both have one shape [b, y, x, 3], found {a.shape} and "
            f"{b.shape}: resize or select before comparing."
        )


def standardise(values: Real[np.ndarray, "b f"]) -> Float[np.ndarray, "b f"]:
    """Rows less their mean, at unit length, so that a dot product is Pearson's r.

    A constant row becomes zeros: its correlation with anything is 0 (as in the released code,
    which sets an undefined pixel correlation to 0).

    Args:
        values: a row per image.

    Raises:
        NotFiniteError: NaN or infinite values, which would be counted as numbers.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixels import standardise
        >>> standardise(np.array([[1.0, 3.0], [5.0, 5.0]])).round(3).tolist()
        [[-0.707, 0.707], [0.0, 0.0]]
    """
    values = np.asarray(values, np.float64)
    require_finite_rows(values, "features to correlate")
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    # A constant row leaves rounding noise of its own magnitude after centring.
    negligible = norm <= 1e-12 * np.linalg.norm(values, axis=1, keepdims=True)
    return np.where(negligible, 0.0, centred / np.where(negligible, 1.0, norm))


def correlation_matrix(
    a: Real[np.ndarray, "b f"], b: Real[np.ndarray, "k f"]
) -> Float[np.ndarray, "b k"]:
    """Pearson's r of every row of a with every row of b, in float64.

    The features are taken block by block, so that 982 images with the 186,624 values of AlexNet's
    second layer need no second copy in float64. A constant row correlates with nothing: 0.

    Args:
        a: a row per image.
        b: a row per image, as wide as a.

    Raises:
        NotFiniteError: NaN or infinite values, which would be counted as numbers.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixels import correlation_matrix
        >>> a = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
        >>> correlation_matrix(a, a).round(6).tolist()
        [[1.0, -1.0], [-1.0, 1.0]]
    """
    for stack in (a, b):
        require_finite_rows(stack, "features to correlate")
    means = [stack.mean(axis=1, keepdims=True, dtype=np.float64) for stack in (a, b)]
    products = np.zeros((len(a), len(b)))
    squares, raw = ([np.zeros(len(stack)) for stack in (a, b)] for _ in range(2))
    for first in range(0, a.shape[1], _BLOCK):
        block = slice(first, first + _BLOCK)
        values = [np.asarray(stack[:, block], np.float64) for stack in (a, b)]
        centred = [x - mean for x, mean in zip(values, means, strict=True)]
        products += centred[0] @ centred[1].T
        for side in range(2):
            raw[side] += np.einsum("bf,bf->b", values[side], values[side])
            squares[side] += np.einsum("bf,bf->b", centred[side], centred[side])
    norms = [
        np.where(square <= 1e-24 * whole, np.inf, np.sqrt(square))
        for square, whole in zip(squares, raw, strict=True)
    ]
    return products / norms[0][:, None] / norms[1][None, :]


def correlation_distance(
    features_true: Real[np.ndarray, "b f"], features_reconstructed: Real[np.ndarray, "b f"]
) -> Float[np.ndarray, " b"]:
    """1 - Pearson's r between the features of a stimulus and of its reconstruction.

    The distance of MindEye's EffNet-B and SwAV (SciPy's ``correlation``). A constant row has
    distance 1.

    Args:
        features_true: features of the stimuli.
        features_reconstructed: features of the reconstructions, same order.

    Returns:
        Distances in [0, 2], one per image.

    Raises:
        InputError: if the shapes differ.
        NotFiniteError: if features are NaN or infinite.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixels import correlation_distance
        >>> true = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
        >>> reconstructed = np.array([[1.0, 2.0, 3.0], [2.0, 1.0, 0.0]])
        >>> correlation_distance(true, reconstructed).round(6).tolist()
        [0.0, 2.0]
    """
    if features_true.ndim != 2 or features_true.shape != features_reconstructed.shape:
        raise InputError(
            "A correlation distance compares two feature arrays of one shape [b, f], found "
            f"{features_true.shape} and {features_reconstructed.shape}."
        )
    rows = (standardise(stack) for stack in (features_true, features_reconstructed))
    return 1.0 - np.einsum("bf,bf->b", *rows)


def pixel_correlation(a: Images, b: Images) -> Float[np.ndarray, " b"]:
    """Pearson correlation of all pixel values, channels flattened, per image pair (PixCorr).

    At the resolution given; published scores resize to 425 x 425 first (see `protocol`).

    Args:
        a: images, uint8 in 0..255 or floats in 0..1.
        b: images to compare with, same order.

    Returns:
        Correlations in [-1, 1], 0 where an image is constant.

    Raises:
        InputError: the stacks are not RGB of one shape, both uint8 or both floats in 0..1.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixels import pixel_correlation
        >>> images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
        >>> pixel_correlation(images, np.stack([images[0], 255 - images[1]])).round(6).tolist()
        [1.0, -1.0]
    """
    check_pairs(a, b)
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    return np.einsum("bf,bf->b", standardise(flat_a), standardise(flat_b))


def ssim(a: Images, b: Images) -> Float[np.ndarray, " b"]:
    """Structural similarity of the grey images (Wang et al. 2004), per image pair.

    The mean over pixels of ::

        (2 mu_a mu_b + C1) (2 cov_ab + C2) / ((mu_a^2 + mu_b^2 + C1) (var_a + var_b + C2))

    with C1 = 0.01^2, C2 = 0.03^2, grey values in [0, 1] and Gaussian windows of sigma 1.5 cut
    at 5 pixels; population covariances; a border of 5 pixels is left out. These are
    scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False, data_range=1)`` on ``rgb2gray``, as MindEye and NeuroAdapter
    call it, at the resolution given; published scores resize to 425 x 425 first (see `protocol`).

    Args:
        a: images, uint8 in 0..255 or floats in 0..1, at least 11 pixels a side.
        b: images to compare with, same order.

    Returns:
        Similarities in [-1, 1].

    Raises:
        InputError: the stacks are not RGB of one shape, both uint8 or both floats in 0..1; or the
            images are too small.

    Examples:
        >>> import numpy as np
        >>> from neuroadapter_jax.metrics.pixels import ssim
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, (1, 16, 16, 3), np.uint8)
        >>> ssim(images, images).round(6).tolist()
        [1.0]
        >>> noise = rng.integers(0, 256, (1, 16, 16, 3), np.uint8)
        >>> float(ssim(images, noise)[0]) < 0.3
        True
    """
    check_pairs(a, b)
    if min(a.shape[1:3]) < 2 * _RADIUS + 1:
        raise InputError(
            f"SSIM needs images of at least 11 x 11 pixels, found {a.shape[1]} x {a.shape[2]}: "
            "enlarge them first."
        )
    white = 255.0 if a.dtype == np.uint8 else 1.0
    x, y = (stack @ _LUMA / white for stack in (a, b))

    def blur(image: Float[np.ndarray, "b y x"]) -> Float[np.ndarray, "b y x"]:
        return gaussian_filter(image, (0, _SIGMA, _SIGMA), radius=(0, _RADIUS, _RADIUS))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    cov = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / (
        (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    )
    return similarity[:, _RADIUS:-_RADIUS, _RADIUS:-_RADIUS].mean(axis=(1, 2))


def _in_unit_range(stack: Float[np.ndarray, "..."]) -> bool:
    return not stack.size or bool(stack.min() >= 0 and stack.max() <= 1)
