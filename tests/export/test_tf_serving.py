"""Configuration for tensorflow_model_server, parsed with its protos.

tensorflow-serving-api ships no Python classes for MonitoringConfig and SavedModelBundleSourceAdapterConfig. Their fields are declared here
as in TF Serving's monitoring_config.proto, saved_model_bundle_source_adapter.proto and session_bundle_config.proto, those that are used.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2, platform_config_pb2

from cvr.errors import CvrError
from export.tf_serving import configs, write_configs

_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "PrometheusConfig": [("enable", 1, _FIELD.TYPE_BOOL, ""), ("path", 2, _FIELD.TYPE_STRING, "")],
    "MonitoringConfig": [("prometheus_config", 1, _FIELD.TYPE_MESSAGE, ".tensorflow.serving.PrometheusConfig")],
    "SessionBundleConfig": [
        ("session_config", 2, _FIELD.TYPE_MESSAGE, ".tensorflow.ConfigProto"),
        ("saved_model_tags", 6, _FIELD.TYPE_STRING, "repeated"),
        ("enable_model_warmup", 779, _FIELD.TYPE_BOOL, ""),
    ],
    "SavedModelBundleSourceAdapterConfig": [("legacy_config", 1000, _FIELD.TYPE_MESSAGE, ".tensorflow.serving.SessionBundleConfig")],
}


@pytest.fixture(scope="module")
def messages() -> dict[str, Any]:
    """Message classes by name, with the pool that knows them under `pool`."""
    file = descriptor_pb2.FileDescriptorProto(name="declared_in_this_test.proto", package="tensorflow.serving", syntax="proto3")
    file.dependency.append(config_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            label = _FIELD.LABEL_REPEATED if of == "repeated" else _FIELD.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kind, label=label, type_name=of if of.startswith(".") else None)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    found = {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tensorflow.serving.{name}")) for name in _MESSAGES}
    return {**found, "pool": pool}


def test_models() -> None:
    parsed = text_format.Parse(configs("shop")["models.config"], model_server_config_pb2.ModelServerConfig())
    (model,) = parsed.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == ("shop", "/models/shop", "tensorflow")
    assert model.model_version_policy.latest.num_versions == 1


def test_platform(messages: dict[str, Any]) -> None:
    text = configs("shop")["platform.config"]
    parsed = text_format.Parse(text, platform_config_pb2.PlatformConfigMap(), descriptor_pool=messages["pool"])
    assert list(parsed.platform_configs) == ["tensorflow"]
    adapter = messages["SavedModelBundleSourceAdapterConfig"]()
    assert parsed.platform_configs["tensorflow"].source_adapter_config.Unpack(adapter)
    session = adapter.legacy_config
    assert session.session_config.allow_soft_placement and session.enable_model_warmup and list(session.saved_model_tags) == ["serve"]
    assert session.ListFields()[-1][0].name == "enable_model_warmup" and len(session.ListFields()) == 3  # no batching_parameters


def test_monitoring(messages: dict[str, Any]) -> None:
    parsed = text_format.Parse(configs("shop")["monitoring.config"], messages["MonitoringConfig"]())
    assert parsed.prometheus_config.enable and parsed.prometheus_config.path == "/monitoring/prometheus/metrics"


def test_command_mounts_the_folder_and_names_every_file(tmp_path: Path) -> None:
    """Run with a `docker` that prints what it was given."""
    (tmp_path / "base dir").mkdir()
    assert write_configs(tmp_path / "base dir", "shop") == ["models.config", "platform.config", "monitoring.config", "serve.sh"]
    fake = tmp_path / "docker"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    command = ["sh", str(tmp_path / "base dir" / "serve.sh"), "image:1"]
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    given = subprocess.run(command, env=path, check=True, text=True, capture_output=True).stdout.split("\n")
    assert f"{tmp_path}/base dir:/models/shop:ro" in given and "image:1" in given and "--enable_batching" not in given
    for flag, file in (("model", "models"), ("platform", "platform"), ("monitoring", "monitoring")):
        assert f"--{flag}_config_file=/models/shop/{file}.config" in given


def test_tuned_files_stay(tmp_path: Path) -> None:
    (tmp_path / "platform.config").write_text("tuned", encoding="utf-8")
    assert "platform.config" not in write_configs(tmp_path, "cvr")
    assert (tmp_path / "platform.config").read_text(encoding="utf-8") == "tuned" and write_configs(tmp_path, "cvr") == []
    with pytest.raises(CvrError, match="--model_name=../x must be letters"):
        configs("../x")
