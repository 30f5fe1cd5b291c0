from pathlib import Path

import pytest

from clipcurate.errors import InvalidInputError
from clipcurate.training.launch import LocalLauncher
from services.trainer.launchers import launcher_of
from services.trainer.settings import TrainerSettings


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> TrainerSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"CLIPCURATE_TRAINER_{name}", value)
    return TrainerSettings()


def test_trainings_are_local_unless_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = settings(monkeypatch, PROCESSES="2", RESTARTS="5", TORCH_THREADS="4")
    assert launcher_of(chosen) == LocalLauncher(2, 5, {"OMP_NUM_THREADS": "4"})
    monkeypatch.delenv("CLIPCURATE_TRAINER_TORCH_THREADS")
    assert launcher_of(TrainerSettings()) == LocalLauncher(2, 5, {})


def test_what_pods_are_like_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = settings(
        monkeypatch,
        IMAGE="registry.example/trainer:1",
        NODES="4",
        NODE_SELECTOR='{"gpu": "h200"}',
        CLAIMS='{"datasets": "/data"}',
        ENVIRONMENT_SECRETS='["s3-keys"]',
    ).pods()
    assert (pods.image, pods.nodes, pods.gpus) == ("registry.example/trainer:1", 4, 1)
    assert pods.node_selector == {"gpu": "h200"}
    assert pods.claims == {"datasets": "/data"}
    assert pods.environment_secrets == ["s3-keys"]
    (toleration,) = pods.tolerations
    assert toleration["key"] == "nvidia.com/gpu"


def test_kubernetes_needs_a_cluster_and_an_image(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("kubernetes", reason="needs the kubernetes extra")
    absent = str(tmp_path / "absent")
    monkeypatch.setattr("kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", absent)
    chosen = settings(monkeypatch, LAUNCHER="kubernetes", IMAGE="trainer:1")
    with pytest.raises(InvalidInputError, match="no Kubernetes cluster to talk to"):
        launcher_of(chosen)
    with pytest.raises(InvalidInputError, match="CLIPCURATE_TRAINER_IMAGE"):
        settings(monkeypatch, IMAGE="").pods()
