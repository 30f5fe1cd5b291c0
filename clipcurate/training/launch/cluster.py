"""The calls of the Kubernetes API that a training needs, through the `kubernetes` client.

Objects are dictionaries as the API has them. Every refusal becomes one of our errors. Rights needed
in the namespace: create, get, list, watch and delete `jobs.batch`; create and get `services`;
list `pods`; get `pods/log`.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import kubernetes
import pydantic
import urllib3
from kubernetes.client.exceptions import ApiException

from clipcurate.errors import (
    ClipcurateError,
    ConflictError,
    InvalidInputError,
    NotFoundError,
    TrainingError,
    UnavailableError,
)
from clipcurate.training.launch.objects import Object

CONNECT_SECONDS = 5
ANSWER_SECONDS = 30
_UNPROCESSABLE = 422
_BAD_REQUEST = 400
_SUCCESS = range(200, 300)


class ExpiredError(UnavailableError):
    """A watch began at a version that the API server has forgotten: read again, watch from there.

    Example: a connection was cut for longer than the server keeps events.
    """


def connect(namespace: str) -> "Cluster":
    """Return the cluster that the kubeconfig names, or else the one that this process runs in.

    Raises:
        InvalidInputError: there is neither.
    """
    configuration = kubernetes.client.Configuration()
    try:
        load: Any = kubernetes.config.load_config
        load(client_configuration=configuration)
    except kubernetes.config.ConfigException as error:
        raise InvalidInputError(
            f"no Kubernetes cluster to talk to ({error}); set KUBECONFIG, or run the trainer in a "
            "pod with a service account"
        ) from error
    configuration.retries = False  # who calls repeats, and says so
    return Cluster(kubernetes.client.ApiClient(configuration), namespace)


class Cluster:
    """One namespace of a cluster.

    Every method raises UnavailableError where the API server is away or overloaded, and
    TrainingError where it refuses, naming the verb and the resource.
    """

    def __init__(self, api: kubernetes.client.ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._api: Any = api
        self._batch: Any = kubernetes.client.BatchV1Api(api)
        self._core: Any = kubernetes.client.CoreV1Api(api)
        self._common: dict[str, Any] = {
            "namespace": namespace,
            "_request_timeout": (CONNECT_SECONDS, ANSWER_SECONDS),
            # The client's models refuse what a newer or an older server says.
            "_preload_content": False,
        }

    def close(self) -> None:
        """Close all connections."""
        self._api.close()
        self._api.rest_client.pool_manager.clear()

    def create_job(self, body: Object) -> Object:
        """Create a Job. Raises ConflictError: one has its name."""
        with self._call("create", "jobs.batch", body["metadata"]["name"]):
            made = self._batch.create_namespaced_job
            return _json(made(body=body, field_validation="Strict", **self._common))

    def read_job(self, name: str) -> Object:
        """Return a Job. Raises NotFoundError."""
        with self._call("get", "jobs.batch", name):
            return _json(self._batch.read_namespaced_job(name, **self._common))

    def jobs(self, selector: str) -> list[Object]:
        """Return the Jobs with certain labels."""
        with self._call("list", "jobs.batch"):
            found = self._batch.list_namespaced_job(label_selector=selector, **self._common)
            return list(_json(found)["items"])

    def watch_job(self, name: str, version: str, seconds: int) -> Iterator[tuple[str, Object]]:
        """Yield (type of event, Job) of what happens to a Job after a version of it.

        Ends after so many seconds. Raises ExpiredError: the version is too old.
        """
        timeouts = (CONNECT_SECONDS, seconds + ANSWER_SECONDS)
        watcher: Any = kubernetes.watch.Watch
        with self._call("watch", "jobs.batch", name):
            for event in watcher(return_type="object").stream(
                self._batch.list_namespaced_job,
                self.namespace,
                field_selector=f"metadata.name={name}",
                resource_version=version,
                timeout_seconds=seconds,
                allow_watch_bookmarks=True,
                _request_timeout=timeouts,
            ):
                if event["type"] != "BOOKMARK":
                    yield event["type"], event["raw_object"]

    def delete_job(self, name: str) -> None:
        """Have a Job's pods end within their grace, and then the Job. Raises NotFoundError."""
        with self._call("delete", "jobs.batch", name):
            delete = self._batch.delete_namespaced_job
            _json(delete(name, propagation_policy="Foreground", **self._common))

    def pods(self, job: str) -> list[Object]:
        """Return the pods of a Job."""
        selector = f"batch.kubernetes.io/job-name={job}"
        with self._call("list", "pods"):
            found = self._core.list_namespaced_pod(label_selector=selector, **self._common)
            return list(_json(found)["items"])

    def log(self, pod: str, lines: int) -> str:
        """Return the last lines of a pod's output. Raises NotFoundError."""
        with self._call("get", "pods/log", pod):
            text = self._core.read_namespaced_pod_log(pod, tail_lines=lines, **self._common)
            return _content(text).decode(errors="replace")

    def create_service(self, body: Object) -> Object:
        """Create a Service. Raises ConflictError: one has its name."""
        with self._call("create", "services", body["metadata"]["name"]):
            made = self._core.create_namespaced_service
            return _json(made(body=body, field_validation="Strict", **self._common))

    def read_service(self, name: str) -> Object:
        """Return a Service. Raises NotFoundError."""
        with self._call("get", "services", name):
            return _json(self._core.read_namespaced_service(name, **self._common))

    @contextmanager
    def _call(self, verb: str, resource: str, name: str = "") -> Iterator[None]:
        what = f"{verb} {resource}{name and ' ' + name} in namespace {self.namespace}"
        try:
            yield
        except ApiException as error:
            raise _ours(error, what) from error
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InvalidInputError(
                f"cannot {what}: {where}: {first['msg']}; check the trainer's settings"
            ) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(
                f"cannot {what}: the API server cannot be reached ({error})"
            ) from error


def _content(response: Any) -> bytes:
    """Return the body of an answer. Raises ApiException: it is a refusal."""
    content: bytes = response.data
    if response.status not in _SUCCESS:
        raise ApiException(response.status, response.reason, content.decode(errors="replace"))
    return content


def _json(response: Any) -> Object:
    """Return the object of an answer. Raises ApiException: it is a refusal."""
    return dict(json.loads(_content(response)))


def _ours(error: ApiException, what: str) -> ClipcurateError:
    """Return the error of ours that a refusal of the API is."""
    message = _message(error)
    kinds: dict[int, ClipcurateError] = {
        401: TrainingError(f"the API server does not know this process; cannot {what}: {message}"),
        403: TrainingError(f"may not {what}: {message}; give the trainer's account a Role for it"),
        404: NotFoundError(f"cannot {what}: {message}"),
        409: ConflictError(f"cannot {what}: {message}"),
        410: ExpiredError(f"cannot {what}: {message}"),
        _BAD_REQUEST: InvalidInputError(f"cannot {what}: {message}; check the trainer's settings"),
        _UNPROCESSABLE: InvalidInputError(
            f"cannot {what}: {message}; check the trainer's settings"
        ),
    }
    away = UnavailableError(f"cannot {what}: the API server answers {error.status} ({message})")
    return kinds.get(error.status or 0, away)


def _message(error: ApiException) -> str:
    """Return what the API says in words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
