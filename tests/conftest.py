import os
import pathlib
import signal

ROOT = pathlib.Path(__file__).resolve().parents[1]

# Before JAX is imported: the tests run on the CPU, and compiled programs are kept between runs.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
# No test reaches for a model hub.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Processes of xdist share the cores; more threads in each of them only wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "MKL", "OPENBLAS"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")

# A shell that starts the tests in the background, and nohup, have them ignore these signals, and
# what they start as well.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, handler)

import coverage
import jax
import numpy as np
import pytest
import shape_checks

shape_checks.enforce("neuroadapter_jax")

STRICT = {"adapter", "cortex", "diffusion"}
# Compiling takes most of the time of the tests, and half of it goes into optimisations. They are
# left out where the order of things is tested, and not where the mathematics is.
OPTIMISED = {"adapter", "cortex", "diffusion", "encoder", "ibbi", "interop", "metrics"}
# Slow tests are measured by coverage in these folders only.
MEASURED = {"launch", "studies"}
# With two processes the longest files go first, so that none is left over at the end.
LONGEST = (
    "launch/test_train",
    "pipeline/test_pipeline",
    "older_versions",
    "wrong_commands",
    "training",
    "launch",
    "studies",
    "fuzz",
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Coverage is measured in the fast tests and in those of whole commands and studies.

    Python 3.11 tells coverage of every line that JAX runs while it traces, which makes the tracing
    of a U-Net take half as long again; the slow tests of the mathematics add lines that the others
    have reached already.
    """
    slow = item.get_closest_marker("slow") is not None
    whole = not MEASURED.isdisjoint(pathlib.Path(item.path).relative_to(ROOT).parts)
    measuring = coverage.Coverage.current() if slow and not whole else None
    if measuring is None:
        return (yield)
    measuring.stop()
    try:
        return (yield)
    finally:
        measuring.start()


def pytest_collection_modifyitems(items):
    """The longest files first; within a file and among the others the order stays."""

    def place(item):
        path = pathlib.Path(item.path).relative_to(ROOT / "tests").as_posix()
        return next((i for i, name in enumerate(LONGEST) if path.startswith(name)), len(LONGEST))

    items.sort(key=place)


@pytest.fixture(autouse=True)
def strict_promotion(request):
    """Mixed dtypes are an error where the mathematics lives: a silent float64 or int32 is a bug."""
    if STRICT.isdisjoint(pathlib.Path(request.path).relative_to(ROOT).parts):
        yield
    else:
        with jax.numpy_dtype_promotion("strict"):
            yield


@pytest.fixture(scope="module", autouse=True)
def compilation(request):
    """XLA's optimisations are left out in most folders, in the commands that they start as well."""
    quickly = OPTIMISED.isdisjoint(pathlib.Path(request.path).relative_to(ROOT).parts)
    quickly &= "NEUROADAPTER_OPTIMISED" not in os.environ
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", str(int(quickly)))
        jax.config.update("jax_disable_most_optimizations", quickly)
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
