"""Package definition of cvr. Exact versions for development and continuous integration are in constraints.txt."""

from pathlib import Path

from setuptools import find_packages, setup

PACKAGES = ("cvr", "pipelines", "export", "tools")

TEST = [
    "cryptography",
    "dask",
    "distributed",
    "duckdb>=1.1",
    "hdrhistogram",
    "hypothesis",
    "lightgbm>=4.6",
    "pytest",
    "pytest-xdist",
]

setup(
    name="cvr",
    version="0.1.0",
    description="Search conversion-rate ranking with TensorFlow: from raw logs to a served model",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=[pattern for top in PACKAGES for pattern in (top, f"{top}.*")]),
    package_data={"pipelines.validation": ["*.j2"], "tools.report": ["*.j2"]},
    install_requires=[
        "absl-py",
        "apache-beam>=2.60",
        "google-crc32c",
        "grpcio",
        "grpcio-health-checking",
        "grpcio-reflection",
        "isal",
        "jinja2",
        "matplotlib",
        "numpy",
        "pandas",
        "prometheus-client",
        "protobuf",
        "pyarrow>=14",
        "pydantic>=2.6",
        "pyyaml",
        "scikit-learn",
        "scipy",
        "tensorboard>=2.16",
        "tensorflow>=2.16",
        "tensorflow-ranking>=0.5.3",
        "tensorflow-recommenders>=0.7.4",
        "tensorflow-serving-api>=2.16",
        "tf-keras>=2.16",
        "tqdm",
    ],
    extras_require={
        "test": TEST,
        "dev": [*TEST, "mypy", "ruff", "types-protobuf", "uv"],
        # For tests of layers and tools.benchmarks.train; not in constraints.txt, which would pin PyTorch's GPU build.
        "peers": ["torch>=2.2"],
        "bench": ["duckdb>=1.1", "polars>=1.8"],
        # Runs exported XLA programs (tools.benchmarks.run_hlo); not in constraints.txt, because a GPU needs its own build.
        "jax": ["jax>=0.10"],
        "gbdt": ["lightgbm>=4.6"],
        "load": ["hdrhistogram"],
        # Where tools.track may log runs to; not in constraints.txt, which MLflow's own limits would hold back.
        "mlflow": ["mlflow-skinny>=2.10"],
        "gcs": ["apache-beam[gcp]"],
        "aws": ["apache-beam[aws]"],
        "dask": ["apache-beam[dask]"],
    },
    entry_points={
        "console_scripts": [
            "cvr-backfill = tools.cli:backfill",
            "cvr-build-lists = tools.cli:build_lists",
            "cvr-calibrate = tools.cli:calibrate",
            "cvr-compare = tools.cli:compare",
            "cvr-conformance = tools.cli:conformance",
            "cvr-demo = tools.cli:demo",
            "cvr-describe = tools.cli:describe",
            "cvr-describe-export = tools.cli:describe_export",
            "cvr-evaluate = tools.cli:evaluate",
            "cvr-export = tools.cli:export",
            "cvr-gbdt-baseline = tools.cli:gbdt_baseline",
            "cvr-importance = tools.cli:importance",
            "cvr-inspect-lists = tools.cli:inspect_lists",
            "cvr-load-test = tools.cli:load_test",
            "cvr-make-logs = tools.cli:make_logs",
            "cvr-plan = tools.cli:plan",
            "cvr-pretrain = tools.cli:pretrain",
            "cvr-rank-by = tools.cli:rank_by",
            "cvr-replay = tools.cli:replay",
            "cvr-rollback = tools.cli:rollback",
            "cvr-scaling-study = tools.cli:scaling_study",
            "cvr-serve = tools.cli:serve",
            "cvr-simulate-serving = tools.cli:simulate_serving",
            "cvr-soak = tools.cli:soak",
            "cvr-study-backbones = tools.cli:study_backbones",
            "cvr-study-warm-start = tools.cli:study_warm_start",
            "cvr-track = tools.cli:track",
            "cvr-train = tools.cli:train",
            "cvr-tune-batching = tools.cli:tune_batching",
            "cvr-validate = tools.cli:validate",
        ]
    },
)
