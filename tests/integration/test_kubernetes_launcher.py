"""The Kubernetes launcher against an API server: the objects it makes, and all that befalls them.

Real HTTP, the real client, a stateful server that checks objects by the published schemas; the
test plays the nodes.
"""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("kubernetes", reason="needs the kubernetes extra")

from clipcurate.errors import ConflictError, InvalidInputError, TrainingError, UnavailableError
from clipcurate.training.launch import TrainJob, contract
from clipcurate.training.launch import kubernetes as launching
from clipcurate.training.launch.cluster import Cluster, connect
from clipcurate.training.launch.kubernetes import ClusterTraining, KubernetesLauncher
from clipcurate.training.launch.objects import Pods, name_of, service_object
from tests.kubernetes_api import KubernetesApi, kubernetes_api
from tests.kubernetes_state import Object
from tests.waiting import wait_until

PATIENCE = 30.0
JOB = TrainJob("s3://data", "tiny", "s3://out/x", training_id="0123456789abcdef" * 2)
NAME = name_of(JOB)
PODS = Pods("registry.example/trainer:1", nodes=2, pod_failures=2)


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with kubernetes_api() as api:
        yield api


@pytest.fixture
def cluster(
    api: KubernetesApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """The cluster that a kubeconfig names, as users have it."""
    path = str(api.kubeconfig(tmp_path / "kubeconfig"))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    monkeypatch.setattr("kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", path)
    monkeypatch.setattr(launching, "WATCH_SECONDS", 1)
    monkeypatch.setattr(launching, "PAUSES", (0.05, 0.2))
    cluster = connect("default")
    yield cluster
    cluster.close()


Start = Callable[..., ClusterTraining]


@pytest.fixture
def start(cluster: Cluster) -> Iterator[Start]:
    """Start trainings, and follow them no more when the test ends."""
    followed: list[ClusterTraining] = []

    def start(pods: Pods = PODS, job: TrainJob = JOB) -> ClusterTraining:
        followed.append(KubernetesLauncher(cluster, pods).start(job))
        return followed[-1]

    yield start
    for training in followed:
        assert training.leave()
    left()


def left() -> None:
    """Wait until no training is followed."""
    wait_until(
        lambda: all(thread.name != NAME for thread in threading.enumerate()),
        PATIENCE,
        "the watches end",
    )


def pod(api: KubernetesApi, index: int) -> Object:
    return api.state.active(NAME, index)


def run_all(api: KubernetesApi) -> None:
    for index in range(PODS.nodes):
        api.state.run(pod(api, index))


def succeed_all(api: KubernetesApi) -> None:
    for index in range(PODS.nodes):
        api.state.succeed(pod(api, index))


def watching(api: KubernetesApi) -> None:
    """Wait until a watch has begun from now on."""
    before = api.asked.count("watch jobs")
    wait_until(lambda: api.asked.count("watch jobs") > before, PATIENCE, "a watch")


def test_a_training_runs_to_its_end(api: KubernetesApi, start: Start) -> None:
    training = start()
    assert [p["spec"]["hostname"] for p in api.state.pods(NAME)] == [f"{NAME}-0", f"{NAME}-1"]
    assert api.state.get("services", NAME)["spec"]["clusterIP"] == "None"
    run_all(api)
    assert not training.wait(0.1)
    api.state.succeed(pod(api, 0))
    assert not training.wait(0.1)
    api.state.succeed(pod(api, 1))
    assert training.wait(PATIENCE)
    assert set(api.asked) == {
        "create jobs", "create services", "get jobs", "list pods", "watch jobs",
    }  # fmt: skip


def test_a_lost_node_is_no_failure(api: KubernetesApi, start: Start) -> None:
    training = start()
    for _ in range(PODS.pod_failures + 2):
        run_all(api)
        api.state.fail(pod(api, 1), 137, disruption="EvictionByEvictionAPI")
    note = f"pod {NAME}-1-[a-z0-9]+ was taken away \\(EvictionByEvictionAPI\\)"
    wait_until(lambda: "taken away" in training.note, PATIENCE, note)
    run_all(api)
    wait_until(lambda: not training.note, PATIENCE, "all run again")
    succeed_all(api)
    assert training.wait(PATIENCE)


def test_a_pod_that_is_killed_starts_again_so_many_times(api: KubernetesApi, start: Start) -> None:
    training = start()
    for times in range(PODS.pod_failures + 1):
        run_all(api)
        dying = pod(api, 1)
        api.state.logs[dying["metadata"]["name"]] = f"one\nattempt {times}: memory is full\n"
        api.state.fail(dying, 137, "OOMKilled")
    with pytest.raises(TrainingError) as failed:
        training.wait(PATIENCE)
    text = str(failed.value)
    assert f"Job {NAME} failed: MaxFailedIndexesExceeded" in text
    assert f"pod {dying['metadata']['name']}: OOMKilled, exit status 137" in text
    assert f"attempt {PODS.pod_failures}: memory is full" in text
    assert all(p["status"]["phase"] == "Failed" for p in api.state.pods(NAME))


def test_an_error_that_would_come_again_ends_it_at_once(api: KubernetesApi, start: Start) -> None:
    training = start()
    run_all(api)
    dying = pod(api, 0)
    api.state.logs[dying["metadata"]["name"]] = "error: step 3: loss nan\n"
    api.state.fail(dying, contract.HOPELESS)
    with pytest.raises(TrainingError, match=r"(?s)PodFailurePolicy.*exit status 65.*loss nan"):
        training.wait(PATIENCE)


def test_an_image_that_cannot_be_pulled_is_told(api: KubernetesApi, start: Start) -> None:
    training = start()
    api.state.wait(pod(api, 0), "ImagePullBackOff", "Back-off pulling image registry.example")
    wait_until(lambda: "ImagePullBackOff: Back-off pulling" in training.note, PATIENCE, "a note")
    assert pod(api, 0)["metadata"]["name"] in training.note
    run_all(api)
    wait_until(lambda: not training.note, PATIENCE, "no note")


def test_a_pod_without_a_node_is_told(api: KubernetesApi, start: Start) -> None:
    training = start()
    why = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes: no nvidia.com/gpu"}
    api.state.condition("pods", pod(api, 1)["metadata"]["name"], why)
    wait_until(lambda: "has no node: 0/3 nodes" in training.note, PATIENCE, "a note")


def test_stopping_gives_pods_their_grace_and_cleans_up(api: KubernetesApi, start: Start) -> None:
    api.state.holds_pods = True
    training = start()
    run_all(api)
    leaving = api.state.pods(NAME)
    training.stop()
    assert not training.wait(0.2)
    assert all("deletionTimestamp" in p["metadata"] for p in api.state.pods(NAME))
    with pytest.raises(UnavailableError, match="is being deleted"):
        start()
    for gone in leaving:
        api.state.vanish(gone)
    assert training.wait(PATIENCE)
    assert not [*api.state.all("jobs"), *api.state.all("pods"), *api.state.all("services")]


def test_whoever_starts_it_again_finds_it(
    api: KubernetesApi, cluster: Cluster, start: Start
) -> None:
    start()
    uid = api.state.get("jobs", NAME)["metadata"]["uid"]
    ((job, found),) = KubernetesLauncher(cluster, Pods("other:1")).started()
    assert job == JOB
    second = start()
    assert api.state.get("jobs", NAME)["metadata"]["uid"] == uid
    succeed_all(api)
    assert second.wait(PATIENCE)
    assert found.wait(PATIENCE)


def test_those_that_have_ended_are_found_too_but_not_those_that_go(
    api: KubernetesApi, cluster: Cluster, start: Start
) -> None:
    start()
    api.state.logs[pod(api, 0)["metadata"]["name"]] = "error: step 3: loss nan\n"
    api.state.fail(pod(api, 0), contract.HOPELESS)
    later = TrainJob("s3://data", "tiny", "s3://out/y", training_id="0" * 32)
    start(job=later)
    for index in range(PODS.nodes):
        api.state.succeed(api.state.active(name_of(later), index))
    (first, failed), (second, finished) = KubernetesLauncher(cluster, PODS).started()
    assert (first, second) == (JOB, later)
    with pytest.raises(TrainingError, match=r"(?s)PodFailurePolicy.*exit status 65.*loss nan"):
        failed.wait(PATIENCE)
    assert finished.wait(PATIENCE)

    start()
    api.state.holds_pods = True
    api.state.delete("jobs", NAME, "Foreground")
    ((job, _),) = KubernetesLauncher(cluster, PODS).started()
    assert job == later


def test_other_settings_under_the_same_name_are_refused(api: KubernetesApi, start: Start) -> None:
    start()
    with pytest.raises(ConflictError, match="other settings"):
        start(Pods("registry.example/trainer:2", nodes=2))
    elsewhere = TrainJob("s3://data", "tiny", "s3://elsewhere", training_id=JOB.training_id)
    with pytest.raises(ConflictError, match="other settings"):
        start(job=elsewhere)


def test_one_that_has_failed_is_replaced(api: KubernetesApi, start: Start) -> None:
    first = start()
    api.state.fail(pod(api, 0), contract.HOPELESS)
    with pytest.raises(TrainingError):
        first.wait(PATIENCE)
    second = start()
    owner = api.state.get("jobs", NAME)["metadata"]["uid"]
    (found,) = api.state.get("services", NAME)["metadata"]["ownerReferences"]
    assert found["uid"] == owner
    succeed_all(api)
    assert second.wait(PATIENCE)


def test_a_launcher_that_died_between_job_and_service(api: KubernetesApi, start: Start) -> None:
    start()
    api.state.delete("services", NAME)
    start()
    assert api.state.get("services", NAME)


def test_a_service_of_another_job_is_left_to_its_owner(api: KubernetesApi, start: Start) -> None:
    api.state.create("services", service_object(JOB, "uid of a Job that has gone"))
    with pytest.raises(UnavailableError, match=f"Service {NAME} is not this Job's"):
        start()
    api.state.delete("services", NAME)
    start()


def test_a_job_that_someone_deletes(api: KubernetesApi, start: Start) -> None:
    training = start()
    run_all(api)
    api.state.delete("jobs", NAME)
    with pytest.raises(TrainingError, match="deleted by someone else"):
        training.wait(PATIENCE)


def test_a_watch_that_is_cut_goes_on(api: KubernetesApi, start: Start) -> None:
    training = start()
    for _ in range(3):
        watching(api)
        api.cut_watches()
    succeed_all(api)
    assert training.wait(PATIENCE)


def test_versions_that_the_server_forgot(api: KubernetesApi, start: Start) -> None:
    training = start()
    watching(api)
    run_all(api)
    api.state.forget()
    api.cut_watches()
    succeed_all(api)
    api.state.forget()
    assert training.wait(PATIENCE)


def test_a_watch_from_too_old_a_version_is_begun_anew(api: KubernetesApi, cluster: Cluster) -> None:
    KubernetesLauncher(cluster, PODS).start(JOB).leave()
    left()
    old = api.state.get("jobs", NAME)["metadata"]["resourceVersion"]
    run_all(api)
    api.state.forget()
    with pytest.raises(launching.ExpiredError):
        next(cluster.watch_job(NAME, old, 1))


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_overloaded_server_is_asked_again(api: KubernetesApi, start: Start, status: int) -> None:
    training = start()
    watching(api)
    api.refusals += [status] * 4
    api.cut_watches()
    wait_until(lambda: f"answers {status}" in training.note, PATIENCE, "a note")
    wait_until(lambda: not api.refusals, PATIENCE, "the server answers again")
    run_all(api)
    succeed_all(api)
    assert training.wait(PATIENCE)


def test_a_server_that_is_away_for_a_while(api: KubernetesApi, start: Start) -> None:
    training = start()
    watching(api)
    api.go_away()
    wait_until(lambda: "cannot be reached" in training.note, PATIENCE, "a note")
    training.stop()
    assert not training.wait(0.1)
    api.come_back()
    assert training.wait(PATIENCE)
    assert not api.state.all("jobs")


def test_starting_while_the_server_is_away(api: KubernetesApi, start: Start) -> None:
    api.go_away()
    with pytest.raises(UnavailableError, match=r"cannot create jobs\.batch .* cannot be reached"):
        start()
    api.come_back()
    api.refusals.append(429)
    with pytest.raises(UnavailableError, match="answers 429"):
        start()
    start()


@pytest.mark.parametrize(
    "right", ["create jobs", "create services", "get jobs", "watch jobs", "list pods"]
)
def test_a_right_that_is_missing_is_named(api: KubernetesApi, start: Start, right: str) -> None:
    api.forbidden.add(right)
    verb, resource = right.split()
    named = (
        f"may not {verb} {'jobs.batch' if resource == 'jobs' else resource}.*in namespace default"
    )
    with pytest.raises(TrainingError, match=named):
        start().wait(PATIENCE)


def test_a_failure_is_told_without_the_right_to_read_logs(api: KubernetesApi, start: Start) -> None:
    api.forbidden.add("get pods/log")
    training = start()
    api.state.fail(pod(api, 0), contract.HOPELESS)
    with pytest.raises(TrainingError, match=r"(?s)exit status 65.*may not get pods/log"):
        training.wait(PATIENCE)


def test_settings_that_the_server_refuses(start: Start) -> None:
    tolerations = [{"key": "nvidia.com/gpu", "operater": "Exists"}]
    with pytest.raises(InvalidInputError, match=r"operater.*check the trainer's settings"):
        start(Pods("registry.example/trainer:1", tolerations=tolerations))


def test_pods_that_stop_because_another_lost_its_node_count_no_failure(
    api: KubernetesApi, start: Start
) -> None:
    training = start()
    for _ in range(PODS.pod_failures + 2):
        run_all(api)
        api.state.fail(pod(api, 0), contract.UNFINISHED)
    run_all(api)
    succeed_all(api)
    assert training.wait(PATIENCE)
