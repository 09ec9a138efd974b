"""Datasets: parts that fit, masks, background, checks and the printed summary."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from jaxprof import Datasets
from jaxprof.datasets import MapDataset, MapDatasetOnOff
from jaxprof.irf import EDispKernelMap
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap

RECO = MapAxis.from_energy_bounds("10 GeV", "500 GeV", 3)
TRUE = MapAxis.from_energy_bounds("8 GeV", "600 GeV", 4, name="energy_true")
GEOM = WcsGeom.create((0, 0), binsz=0.5, width=(3, 2), frame="galactic", axes=[RECO])


def parts(**changes):
    """Parts of a small valid dataset."""
    exposure = WcsNDMap(GEOM.to_cube([TRUE]), 3e11, "cm2 s")
    mask = np.ones(GEOM.data_shape, bool)
    mask[0, 0] = False
    everything = {
        "counts": WcsNDMap(GEOM, 2.0),
        "background": WcsNDMap(GEOM, np.full(GEOM.data_shape, 1.5, np.float32)),
        "exposure": exposure,
        "edisp": EDispKernelMap.from_diagonal(RECO, TRUE),
        "mask_safe": WcsNDMap(GEOM, mask),
        "name": "test",
    }
    return everything | changes


def on_off_parts(**changes):
    everything = parts()
    del everything["background"]
    return (
        everything
        | {
            "counts_off": WcsNDMap(GEOM, 8.0),
            "acceptance": WcsNDMap(GEOM, 1.0),
            "acceptance_off": WcsNDMap(GEOM, 4.0),
        }
        | changes
    )


def test_valid_dataset():
    dataset = MapDataset(**parts())
    dataset.check()
    assert dataset.name == "test" and dataset.stat_type == "cash"
    assert dataset.energy_axis is RECO
    assert dataset.energy_axis_true is TRUE
    assert dataset.geom is GEOM
    assert repr(dataset) == "MapDataset('test', counts, background, mask_safe, exposure, edisp)"


def test_names_are_numbered_when_not_given():
    """The same in every run of a script."""
    one, two = (MapDataset(**parts(name=None)) for _ in range(2))
    first, second = (int(each.name.removeprefix("dataset-")) for each in (one, two))
    assert second == first + 1
    assert one.copy().name == f"dataset-{second + 1}"


def test_files_without_a_name_get_different_ones(tmp_path):
    """gammapy's have none, and those of several folders may be called the same."""
    path = tmp_path / "own.fits.gz"
    MapDataset(**parts()).write(path)
    assert MapDataset.read(path).name == "test" and MapDataset.read(path, name="a").name == "a"
    with fits.open(path) as hdulist:
        del hdulist[0].header["NAME"]
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            hdulist.writeto(tmp_path / folder / "dataset.fits.gz", checksum=True)
    read = [MapDataset.read(tmp_path / folder / "dataset.fits.gz") for folder in ("a", "b")]
    assert len({own.name for own in Datasets(read)}) == 2


def test_mask_is_that_of_both():
    fit = np.zeros(GEOM.data_shape, np.int64)
    fit[1:] = 1
    dataset = MapDataset(**parts(mask_fit=WcsNDMap(GEOM, fit)))
    assert dataset.mask.dtype == bool and dataset.mask_fit.is_mask
    np.testing.assert_array_equal(dataset.mask, (fit == 1) & dataset.mask_safe.data)
    assert MapDataset(**parts(mask_safe=None)).mask.all()


def test_other_sources_join_the_background():
    sources = WcsNDMap(GEOM, np.arange(72.0).reshape(GEOM.data_shape))
    dataset = MapDataset(**parts(npred_sources=sources))
    npred = dataset.npred_background()
    assert npred.data.dtype == np.float64
    np.testing.assert_allclose(npred.data, 1.5 + sources.data)
    assert np.all(MapDataset(**parts(background=None)).npred_background().data == 0)


def test_on_off_background_is_scaled():
    acceptance_off = np.full(GEOM.data_shape, 4.0)
    acceptance_off[0, 0, 0] = 0
    dataset = MapDatasetOnOff(**on_off_parts(acceptance_off=WcsNDMap(GEOM, acceptance_off)))
    dataset.check()
    assert dataset.stat_type == "wstat" and dataset.background is None
    assert dataset.alpha.data[0, 0, 0] == 0 and dataset.alpha.data[1, 0, 0] == 0.25
    assert dataset.npred_background().data[1, 1, 1] == 2
    assert "off counts" in str(dataset)


# --- parts that do not fit


OTHER_RECO = MapAxis.from_energy_bounds("20 GeV", "500 GeV", 3)
OTHER_TRUE = MapAxis.from_energy_bounds("9 GeV", "600 GeV", 4, name="energy_true")
SHIFTED = WcsGeom.create((0.5, 0), binsz=0.5, width=(3, 2), frame="galactic", axes=[RECO])
SMALLER = WcsGeom.create((0, 0), binsz=0.5, width=(2, 2), frame="galactic", axes=[RECO])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"background": WcsNDMap(GEOM.to_cube([OTHER_RECO]))}, "background has the axis.*counts"),
        ({"background": WcsNDMap(SHIFTED)}, "background are at other sky positions.*counts"),
        ({"mask_safe": WcsNDMap(SMALLER)}, r"mask_safe has \(4, 4\) pixels.*counts \(4, 6\)"),
        ({"mask_fit": WcsNDMap(GEOM.to_image())}, "mask_fit must have the one axis 'energy'"),
        ({"npred_sources": WcsNDMap(SHIFTED)}, "npred_sources are at other"),
        ({"counts": WcsNDMap(GEOM.to_cube([TRUE]))}, "counts must have the one axis 'energy'"),
        ({"exposure": WcsNDMap(GEOM, 1.0, "cm2 s")}, "exposure must have .* 'energy_true'"),
        ({"exposure": WcsNDMap(SMALLER.to_cube([TRUE]), 1.0, "cm2 s")}, r"exposure has \(4, 4\)"),
        ({"exposure": WcsNDMap(GEOM.to_cube([TRUE]), 1.0, "deg")}, "exposure has the unit 'deg'"),
        ({"exposure": WcsNDMap(GEOM.to_cube([TRUE]), 1.0)}, "does not convert to cm2 s"),
        ({"edisp": EDispKernelMap.from_diagonal(OTHER_RECO, TRUE)}, "edisp has the reconstructed"),
        ({"edisp": EDispKernelMap.from_diagonal(RECO, OTHER_TRUE)}, "edisp has the true axis"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MapDataset(**parts(**changes))


@pytest.mark.parametrize(
    ("part", "map_", "message"),
    [
        ("background", WcsNDMap(SMALLER), r"background has \(4, 4\) pixels.*counts \(4, 6\)"),
        ("background", WcsNDMap(GEOM, 1.0, "s-1"), "background has the unit '1 / s'"),
        ("counts", WcsNDMap(SHIFTED), "are at other sky positions"),
        ("exposure", WcsNDMap(GEOM.to_cube([TRUE]), 1.0, "cm2"), "exposure has the unit 'cm2'"),
        ("exposure", WcsNDMap(SHIFTED.to_cube([TRUE]), 1.0, "cm2 s"), "exposure are at other"),
        ("edisp", EDispKernelMap.from_diagonal(OTHER_RECO, TRUE), "edisp has the reconstructed"),
    ],
)
def test_parts_assigned_later_are_checked_before_a_fit(part, map_, message):
    dataset = MapDataset(**parts())
    setattr(dataset, part, map_)
    with pytest.raises(ValueError, match=message):
        dataset.check()


def test_masks_assigned_later_may_be_numbers():
    dataset = MapDataset(**parts())
    dataset.mask_fit = WcsNDMap(GEOM, np.arange(np.prod(GEOM.data_shape)).reshape(GEOM.data_shape))
    assert dataset.mask.dtype == bool
    assert dataset.mask.sum() == MapDataset(**parts()).mask.sum()


def test_on_off_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="acceptance are at other sky positions"):
        MapDatasetOnOff(**on_off_parts(acceptance=WcsNDMap(SHIFTED)))


@pytest.mark.parametrize("part", ["counts", "background", "npred_sources"])
@pytest.mark.parametrize("unit", ["s-1", "TeV-1", "sr-1", "percent", "cm2 s"])
def test_counts_and_background_are_plain_numbers(part, unit):
    with pytest.raises(ValueError, match=rf"^{part} has the unit '{u.Unit(unit)}'.*plain numbers"):
        MapDataset(**parts(**{part: WcsNDMap(GEOM, 1.0, unit)}))
    for allowed in ("", "ct", "photon"):
        MapDataset(**parts(**{part: WcsNDMap(GEOM, 1.0, allowed)}))


@pytest.mark.parametrize("part", ["counts", "counts_off", "acceptance", "acceptance_off"])
def test_on_off_maps_are_plain_numbers(part):
    with pytest.raises(ValueError, match=rf"^{part} has the unit 's'"):
        MapDatasetOnOff(**on_off_parts(**{part: WcsNDMap(GEOM, 1.0, "s")}))


# --- values


@pytest.mark.parametrize("part", ["counts", "background", "npred_sources", "exposure"])
@pytest.mark.parametrize("value", [np.nan, -0.5, np.inf])
def test_bad_values_matter_inside_the_mask_only(part, value):
    everything = parts(npred_sources=WcsNDMap(GEOM, 0.0), counts=WcsNDMap(GEOM, 2.0))
    # Row 0 of the first energy is outside the mask; for the exposure, which is not in
    # reconstructed energy, a pixel is outside when it is so at all energies.
    mask = everything["mask_safe"].data
    mask[:, 0] = False
    everything[part] = everything[part].copy()
    everything[part].data[0, 0, 3] = value
    MapDataset(**everything).check()
    mask[0, 0, 3] = True
    with pytest.raises(ValueError, match=rf"{part} of dataset 'test' .* 1 bins .* \(0, 0, 3\)"):
        MapDataset(**everything).check()


@pytest.mark.parametrize("part", ["counts", "background", "exposure"])
def test_complex_values_are_refused(part):
    dataset = MapDataset(**parts())
    map_ = getattr(dataset, part)
    map_.data = map_.data + 1j  # of which comparisons know the real part alone
    with pytest.raises(ValueError, match=f"{part} of dataset 'test' is complex"):
        dataset.check()


def test_units_of_maps_may_be_set_as_text():
    dataset = MapDataset(**parts())
    dataset.exposure.unit = "cm"
    with pytest.raises(ValueError, match="exposure has the unit 'cm'"):
        dataset.check()


def test_bad_off_counts_are_found():
    off = WcsNDMap(GEOM, np.full(GEOM.data_shape, np.nan))
    with pytest.raises(ValueError, match="counts_off of dataset"):
        MapDatasetOnOff(**on_off_parts(counts_off=off)).check()


@pytest.mark.parametrize("missing", [["counts"], ["exposure"], ["counts", "exposure"]])
def test_missing_parts_are_named_on_use(missing):
    dataset = MapDataset(**parts(**dict.fromkeys(missing)))
    with pytest.raises(ValueError, match=" and ".join(f"no {part}" for part in missing)):
        dataset.check()
    assert "MapDataset" in str(dataset)


def test_an_empty_dataset_says_what_it_lacks():
    dataset = MapDataset(name="empty")
    with pytest.raises(ValueError, match="'empty' has no counts"):
        _ = dataset.geom
    with pytest.raises(ValueError, match="'empty' has no exposure"):
        _ = dataset.energy_axis_true
    assert "Exposure                : none" in str(dataset)
    with pytest.raises(ValueError, match="no counts_off and no acceptance and"):
        MapDatasetOnOff(name="empty").check()
    with pytest.raises(ValueError, match="no acceptance and no acceptance_off"):
        _ = MapDatasetOnOff(counts=WcsNDMap(GEOM)).alpha


# --- summary


def test_summary_reads_well():
    mask = np.ones(GEOM.data_shape, bool)
    mask[0] = False
    lines = str(MapDataset(**parts(mask_safe=WcsNDMap(GEOM, mask)))).splitlines()
    rows = {
        key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines[2:])
    }
    assert lines[:2] == ["MapDataset", "----------"]
    assert rows["Name"] == "test"
    assert rows["Total counts"] == "144"
    assert rows["Total background counts"] == "108"
    assert rows["Total excess counts"] == "36"
    assert rows["Counts inside mask"] == "96"
    assert rows["Exposure min"] == "3e+11 cm2 s"
    assert rows["Reconstructed energy"] == "10 GeV to 500 GeV, 3 bins"
    assert rows["True energy"] == "8 GeV to 600 GeV, 4 bins"
    assert rows["Map"] == "6 x 4 pixels, 3 x 2 deg, galactic"
    assert rows["Bins inside mask"] == "48 of 72 (66.7 %)"
    assert rows["Energy inside mask"] == "36.84 GeV to 500 GeV"
    assert rows["Energy dispersion"] == "EDispKernelMap"
    assert rows["Point spread function"] == "none"
    assert rows["Fit statistic type"] == "cash"


def test_simulation_is_importable_from_here():
    from jaxprof import datasets

    pytest.importorskip("jaxprof.simulate")
    assert callable(datasets.simulate_galactic_centre)
    with pytest.raises(AttributeError, match="nothing_like_it"):
        _ = datasets.nothing_like_it
