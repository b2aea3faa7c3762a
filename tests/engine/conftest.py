"""Fixtures for tests on a real Docker Engine: the job images, an executor, and a check that nothing is left over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import DockerException

from executor import Executor
from executor.images import IMAGE_NAMES, Images
from tests.engine_cases import ENGINE_URL, SERVICE, Bench


@pytest.fixture(scope="session")
def client() -> Iterator[docker.DockerClient]:
    try:
        found = docker.DockerClient(base_url=ENGINE_URL, timeout=10)
        found.ping()
    except DockerException as error:
        pytest.fail(f"These tests need a Docker Engine, and none answers: {error}. Start one, or use -m 'not engine'.")
    yield found
    found.close()


@pytest.fixture(scope="session")
def images(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Images:
    """The job images, made if they are not there (a minute or two on a new machine)."""
    made = Images(tmp_path_factory.mktemp("images"))
    for name in IMAGE_NAMES:
        made.ensure(client, name)
    return made


@pytest.fixture(scope="session")
def executor(images: Images) -> Iterator[Executor]:
    made = Executor(ENGINE_URL, images, service=SERVICE)
    yield made
    made.close()


@pytest.fixture
def bench(executor: Executor, client: docker.DockerClient) -> Iterator[Bench]:
    """Runs jobs; afterwards none of their containers and volumes may be left."""
    made = Bench(executor, client)
    yield made
    assert made.left_over() == []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Building the images once may take longer than a test may."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
