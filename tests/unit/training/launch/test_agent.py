import socket
import threading

import pytest

pytest.importorskip("torch", reason="training needs the train extra")

from clipcurate.errors import UnavailableError
from clipcurate.training.launch import contract
from clipcurate.training.launch.agent import MeetingPlace, status_of


def test_without_a_meeting_place_there_is_one_machine() -> None:
    assert MeetingPlace.of({}) is None


def test_index_0_is_the_host() -> None:
    environment = {contract.MEETING_PLACE: "job-0.job:29400", contract.INDEX: "0"}
    place = MeetingPlace.of(environment)
    assert place == MeetingPlace("job-0.job", 29400, here=True)
    arguments = place.arguments("job", "10.0.0.7")
    assert arguments[arguments.index("--rdzv-endpoint") + 1] == "job-0.job:29400"
    assert "is_host=true" in arguments[arguments.index("--rdzv-conf") + 1]
    assert arguments[arguments.index("--local-addr") + 1] == "10.0.0.7"
    other = MeetingPlace.of(environment | {contract.INDEX: "1"})
    assert other and not other.here


def test_kubeflow_names_the_host_its_own_way() -> None:
    environment = {"PET_MASTER_ADDR": "a-node-0-0.a", "PET_MASTER_PORT": "29500"}
    place = MeetingPlace.of(environment | {contract.INDEX: "1"})
    assert place == MeetingPlace("a-node-0-0.a", 29500, here=False)


def test_the_others_wait_until_it_listens() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        place = MeetingPlace("127.0.0.1", server.getsockname()[1], here=False)
        with pytest.raises(UnavailableError, match="refused"):
            place.await_host(seconds=0)
        waiting = threading.Thread(target=place.await_host)
        waiting.start()
        server.listen()
        waiting.join(30)
        assert not waiting.is_alive()


def test_the_host_waits_for_nobody() -> None:
    MeetingPlace("no.such.name.invalid", 1, here=True).await_host()


def test_the_gravest_status_of_a_rank_is_the_agents() -> None:
    assert status_of({contract.HOPELESS, 1, contract.UNFINISHED}) == contract.HOPELESS
    assert status_of({contract.UNFINISHED, 1}) == 1
    assert status_of({contract.UNFINISHED}) == contract.UNFINISHED
    assert status_of({-9}) == 1
