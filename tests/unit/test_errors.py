import inspect

from clipcurate import errors

ALL = [error for _, error in inspect.getmembers(errors, inspect.isclass)]


def test_one_tree() -> None:
    assert all(issubclass(error, errors.ClipcurateError) for error in ALL)


def test_every_error_says_when_it_is_raised() -> None:
    assert all(error.__doc__ for error in ALL)
