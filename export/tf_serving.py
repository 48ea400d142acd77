"""What tensorflow_model_server is started with, beside the version folders: models.config, platform.config, monitoring.config, serve.sh.

No batching parameters: requests are merged inside the graph, and TF Serving's own batching must stay off (docs/serving.md).
"""

from __future__ import annotations

import re
from pathlib import Path

from cvr.errors import CvrError

MODELS = """\
# --model_config_file: the newest version of the model is served; the base path is the container's (serve.sh).
model_config_list {{
  config {{
    name: "{name}"
    base_path: "/models/{name}"
    model_platform: "tensorflow"
    model_version_policy {{ latest {{ num_versions: 1 }} }}
  }}
}}
"""
PLATFORM = """\
# --platform_config_file: replaces the server's flags for sessions. Soft placement, because the backbone asks for a GPU and takes the CPU
# where there is none; warm-up is off unless it is asked for here. No batching_parameters: the graph batches.
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config {
          session_config {
            allow_soft_placement: true
            gpu_options { allow_growth: true }
          }
          saved_model_tags: "serve"
          enable_model_warmup: true
        }
      }
    }
  }
}
"""
MONITORING = """\
# --monitoring_config_file: Prometheus metrics on the REST port.
prometheus_config {
  enable: true
  path: "/monitoring/prometheus/metrics"
}
"""
SERVE = """\
#!/bin/sh
# Serves this folder with TensorFlow Serving in Docker: gRPC on 127.0.0.1:8500, REST and Prometheus metrics on 127.0.0.1:8501.
#   sh serve.sh [image]
set -eu
base=$(cd "$(dirname "$0")" && pwd)
exec docker run --rm -p 127.0.0.1:8500:8500 -p 127.0.0.1:8501:8501 -v "$base:/models/{name}:ro" "${{1:-tensorflow/serving:latest}}" \\
  --model_config_file=/models/{name}/models.config \\
  --platform_config_file=/models/{name}/platform.config \\
  --monitoring_config_file=/models/{name}/monitoring.config
"""


def configs(model_name: str) -> dict[str, str]:
    """Texts by file name. Raises CvrError for a name that cannot be part of a path."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", model_name):
        raise CvrError(f"--model_name={model_name} must be letters, digits, _, . and -, and start with neither of the last two")
    return {
        "models.config": MODELS.format(name=model_name),
        "platform.config": PLATFORM,
        "monitoring.config": MONITORING,
        "serve.sh": SERVE.format(name=model_name),
    }


def write_configs(base: Path, model_name: str) -> list[str]:
    """Writes those files that are not there yet, and names them; what is there may have been tuned and stays."""
    missing = {file: text for file, text in configs(model_name).items() if not (base / file).exists()}
    for file, text in missing.items():
        (base / file).write_text(text, encoding="utf-8")
    return list(missing)
