"""What the tests of manifests share: every rendering, one after the other."""

import pytest

from tests.deploy.manifests import K8S, OVERLAYS, Rendered, combinations, compose, render


def _name(wanted: str | tuple[str, ...]) -> str:
    return wanted if isinstance(wanted, str) else "+".join(wanted)


@pytest.fixture(scope="session", params=[*OVERLAYS, *combinations()], ids=_name)
def rendered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """An overlay, or the base with a combination of components."""
    if request.param in OVERLAYS:
        return Rendered(render(K8S / "overlays" / request.param))
    return Rendered(compose(tmp_path_factory.mktemp("rendered"), request.param))
