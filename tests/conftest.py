import os
import pathlib
import signal

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Before JAX is imported: the tests run on the CPU, and compiled programs are kept between runs.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# No test reaches for a model hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell that starts the tests in the background has them, and what they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import numpy as np
import pytest
import shape_checks

shape_checks.enforce("neuroadapter_jax")

STRICT = {"adapter", "cortex", "diffusion"}


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Mixed dtypes are an error where the mathematics lives: a silent float64 or int32 is a bug."""
    if STRICT.isdisjoint(pathlib.Path(request.path).relative_to(ROOT).parts):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"):
            yield


@pytest.fixture
def as_user():
    """Switches the shape checks off, as they are outside pytest, to test messages to the user."""
    with shape_checks.unchecked():
        yield


@pytest.fixture(scope="session")
def random_backbone(tmp_path_factory) -> pathlib.Path:
    """A folder like tiny-sd's with random weights; for reading only."""
    import tiny_backbone

    return tiny_backbone.write_backbone(tmp_path_factory.mktemp("backbone") / "random")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260)
