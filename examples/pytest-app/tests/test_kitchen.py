import pytest

import kitchen


@pytest.mark.parametrize(("wanted", "flour"), [(2, 250), (8, 1000)])
def test_scale(wanted, flour):
    assert kitchen.scale({"flour": 500}, 4, wanted) == {"flour": flour}


class TestMistakes:
    def test_nobody(self):
        with pytest.raises(ValueError, match="no meal"):
            kitchen.scale({}, 0, 1)


def test_spoken():
    assert kitchen.spoken(90) == "1 hour and 30 minutes"


@pytest.mark.skip(reason="the oven is not there yet")
def test_oven():
    raise AssertionError


def test_version():
    assert kitchen.VERSION == "1.2.0"
