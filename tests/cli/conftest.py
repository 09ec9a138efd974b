"""A folder with a dataset in it."""

import pytest


@pytest.fixture(scope="session")
def dataset_file(tmp_path_factory):
    from cli_factory import tiny_dataset

    path = tmp_path_factory.mktemp("data") / "gc.fits.gz"
    tiny_dataset().write(path)
    return path


@pytest.fixture
def folder(tmp_path, dataset_file, monkeypatch):
    """An empty folder, the current one, that a link to the dataset lies in."""
    (tmp_path / "gc.fits.gz").symlink_to(dataset_file)
    monkeypatch.chdir(tmp_path)
    return tmp_path
