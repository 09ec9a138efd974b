"""YAML files of models and datasets, as gammapy writes them; none of these tests needs gammapy."""

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from numpy.testing import assert_allclose

from jaxprof import (
    Datasets,
    FoVBackgroundModel,
    GaussianSpatialModel,
    MapAxis,
    MapDataset,
    Models,
    PointSpatialModel,
    PowerLawNormSpectralModel,
    PowerLawSpectralModel,
    ShellSpatialModel,
    SkyModel,
    TemplateNPredModel,
    WcsGeom,
    WcsNDMap,
)
from jaxprof.io.fitsmaps import map_to_hdus
from jaxprof.models.spatial import spatial_model_from_dict
from jaxprof.sky.template_map import TemplateSpatialModel

# Written by gammapy 2.1, shortened; the second longitude was changed by hand.
YAML = """
components:
-   name: halo
    type: SkyModel
    spectral:
        type: PowerLawSpectralModel
        parameters:
        -   {name: index, value: 2.4, error: 0.1}
        -   {name: amplitude, value: 3.0e-18, unit: MeV-1 s-1 cm-2}
        -   {name: reference, value: 10.0, unit: GeV, frozen: true}
    spatial:
        type: GaussianSpatialModel
        frame: galactic
        parameters:
        -   {name: lon_0, value: 0.25, unit: deg, link: lon_0@jCJ6HWwC}
        -   {name: lat_0, value: -0.1, unit: deg}
        -   {name: sigma, value: 12.0, unit: arcmin}
        -   {name: e, value: 0.3}
        -   {name: phi, value: 10.0, unit: deg}
-   name: b
    type: SkyModel
    datasets_names: [x]
    spectral:
        type: CompoundSpectralModel
        model1: {type: PowerLawSpectralModel, parameters: [{name: index, value: 2.0}]}
        model2: {type: PowerLawNormSpectralModel, parameters: [{name: tilt, value: 0.1}]}
        operator: mul
    spatial:
        type: PointSpatialModel
        frame: galactic
        parameters:
        -   {name: lon_0, value: 7.0, unit: deg, link: lon_0@jCJ6HWwC}
-   type: FoVBackgroundModel
    datasets_names: [x]
    spectral:
        type: PowerLawNormSpectralModel
        parameters:
        -   {name: tilt, value: 0.1}
        -   {name: norm, value: 1.2}
        -   {name: reference, value: 100, unit: GeV}
-   name: gas
    type: SkyModel
    spectral: {type: PowerLawNormSpectralModel, parameters: [{name: norm, value: 0.9}]}
    spatial:
        type: TemplateSpatialModel
        frame: galactic
        parameters: [{name: lon_0, value: 0.0, unit: deg}, {name: lat_0, value: 0.0, unit: deg}]
        filename: gas.fits
        normalize: false
        unit: 1 / (MeV s sr cm2)
-   name: known
    type: TemplateNPredModel
    spectral: {type: PowerLawNormSpectralModel, parameters: [{name: norm, value: 2.0}]}
    filename: known.fits
    datasets_names: [x]
covariance: models_covariance.dat
metadata: {creator: Gammapy 2.1}
"""

ENERGY = MapAxis.from_energy_bounds("10 GeV", "1 TeV", 3)
GEOM = WcsGeom.create((0, 0), npix=4, binsz=0.5, frame="galactic")
NODES = np.array([0.01, 0.1, 1.0])


def write_map(path, map_):
    fits.HDUList([fits.PrimaryHDU(), *map_to_hdus(map_, "MAP")]).writeto(path)


@pytest.fixture
def folder(tmp_path):
    axis = MapAxis.from_nodes(NODES, name="energy_true", unit="TeV", interp="log")
    gas = np.ones((3, 4, 4)) * (NODES**-2.5)[:, None, None]
    unit = "cm-2 s-1 sr-1 TeV-1"
    write_map(tmp_path / "gas.fits", WcsNDMap(GEOM.to_cube([axis]), 1e-9 * gas, unit))
    write_map(tmp_path / "known.fits", WcsNDMap(GEOM.to_cube([ENERGY]), np.full((3, 4, 4), 0.5)))
    (tmp_path / "models.yaml").write_text(YAML)
    return tmp_path


def test_models_file(folder):
    models = Models.read(folder / "models.yaml")
    assert models.names == ["halo", "b", "x-bkg", "gas", "known"]
    halo = models["halo"]
    assert_allclose(halo.spectral_model(0.01), 3e-12, rtol=1e-12)
    assert halo.spatial_model.sigma == pytest.approx(0.2, rel=1e-14)
    assert halo.spatial_model.frame == "galactic" and not halo.free
    # Linked parameters have the value of the first.
    assert models["b"].spatial_model.lon_0 == 0.25
    assert_allclose(models["b"].spectral_model(10.0), 1e-12 * 10**-2.1, rtol=1e-12)
    assert [m.name for m in models.sources("y")] == ["halo", "gas"]
    # A map that is not normalised has its flux itself.
    total = 1e-9 * GEOM.solid_angle().to_value("sr").sum()
    assert_allclose(models["gas"].spectral_model(0.1), 0.9 * total * 0.1**-2.5, rtol=1e-12)
    assert models["gas"].spatial_model.is_energy_dependent


def test_round_trip(folder, monkeypatch):
    models = Models.read(folder / "models.yaml")[:3]
    models.write(folder / "again.yaml")
    again = Models.read(folder / "again.yaml")
    assert again.to_dict() == models.to_dict() and again[1].datasets_names == ("x",)
    with pytest.raises(FileExistsError):
        models.write(folder / "again.yaml")
    # Templates are files, looked for where the program runs if there is no other folder.
    monkeypatch.chdir(folder)
    template = TemplateSpatialModel(WcsNDMap(GEOM, np.eye(4) + 1), filename="image.fits")
    write_map("image.fits", WcsNDMap(GEOM, np.eye(4) + 1))
    source = SkyModel(PowerLawSpectralModel(), template, name="image")
    found = SkyModel.from_dict(source.to_dict())
    free = SkyModel(source.spectral_model, PointSpatialModel(), free=True, name="star")
    assert SkyModel.from_dict(free.to_dict()).free and "free" not in source.to_dict()
    assert_allclose(found.spatial_model.image.data, template.image.data, rtol=1e-14)
    with pytest.raises(ValueError, match=r"make the model with TemplateSpatialModel\(map"):
        SkyModel(PowerLawSpectralModel(), WcsNDMap(GEOM, np.eye(4))).to_dict()


def test_spatial_dicts():
    model = GaussianSpatialModel(lon_0=1, lat_0=2, sigma=0.3, e=0.1, phi=20, frame="galactic")
    assert spatial_model_from_dict(model.to_dict()).to_dict() == model.to_dict()
    shell2 = {"type": "Shell2SpatialModel", "frame": "galactic", "parameters": []}
    shell2["parameters"] = [
        {"name": "lon_0", "value": 1.0, "unit": "deg"},
        {"name": "r_0", "value": 30.0, "unit": "arcmin"},
        {"name": "eta", "value": 0.25},
    ]
    shell = spatial_model_from_dict(shell2)
    assert isinstance(shell, ShellSpatialModel) and shell.lon_0 == 1
    assert_allclose([shell.radius, shell.width], [0.375, 0.125], rtol=1e-14)
    with pytest.raises(ValueError, match="type is 'PiecewiseNormSpatialModel'; known spatial"):
        spatial_model_from_dict({"type": "PiecewiseNormSpatialModel"})
    with pytest.raises(ValueError, match="GaussianSpatialModel has no parameter 'width'"):
        spatial_model_from_dict({"type": "gauss", "parameters": [{"name": "width", "value": 1}]})


def datasets_folder(folder, **more):
    counts = WcsNDMap(GEOM.to_cube([ENERGY]), np.ones((3, 4, 4)))
    background = WcsNDMap(GEOM.to_cube([ENERGY]), np.full((3, 4, 4), 2.0))
    MapDataset(counts=counts, background=background, name="inside").write(folder / "x.fits")
    text = "datasets:\n- {name: x, type: MapDataset, filename: x.fits}\n"
    (folder / "datasets.yaml").write_text(text)


def test_datasets_file(folder):
    datasets_folder(folder)
    datasets = Datasets.read(folder / "datasets.yaml", folder / "models.yaml")
    assert datasets.names == ["x"]
    x = datasets["x"]
    # By hand: norm (E / E_0)^-tilt at the geometric centres of the bins.
    centres = np.sqrt(np.geomspace(0.01, 1, 4)[1:] * np.geomspace(0.01, 1, 4)[:-1])
    assert_allclose(x.background.data[:, 0, 0], 2.4 * (centres / 0.1) ** -0.1, rtol=1e-12)
    assert_allclose(x.npred_sources.data, 1.0, rtol=1e-14)
    assert [model.name for model in x.models] == ["halo", "b", "gas"]
    # The file's own data stay.
    plain = Datasets.read(folder / "datasets.yaml")
    assert_allclose(plain[0].background.data, 2.0)
    other = plain.with_models([FoVBackgroundModel(dataset_name="x")])
    assert_allclose(other[0].background.data, 2.0, rtol=1e-14)


def test_absorption_table(folder, monkeypatch):
    nodes = np.array([1e7, 1e9, 1e11])
    values = np.array([[1.0, 0.8, 0.1], [1.0, 0.5, 0.01]], np.float32)
    hdus = [
        fits.PrimaryHDU(),
        fits.table_to_hdu(Table({"VALUE": [[0.1, 0.5]]})),
        fits.table_to_hdu(Table({"ENERG_LO": nodes / 2, "ENERG_HI": nodes * 2})),
        fits.table_to_hdu(Table({"PARAMVAL": [0.1, 0.5], "INTPSPEC": values})),
    ]
    for hdu, name in zip(hdus[1:], ("PARAMETERS", "ENERGIES", "SPECTRA"), strict=True):
        hdu.name = name
    (folder / "ebl").mkdir()
    fits.HDUList(hdus).writeto(folder / "ebl" / "table.fits")
    data = {
        "name": "far",
        "spectral": {
            "type": "CompoundSpectralModel",
            "model1": PowerLawSpectralModel().to_dict()["spectral"],
            "model2": {
                "type": "EBLAbsorptionNormSpectralModel",
                "parameters": [{"name": "redshift", "value": 0.5}],
                "filename": "/elsewhere/ebl/table.fits",
            },
            "operator": "mul",
        },
        "spatial": {"type": "point"},
    }
    monkeypatch.setenv("GAMMAPY_DATA", str(folder))
    far = SkyModel.from_dict(data)
    assert_allclose(far.spectral_model(1.0), 5e-13, rtol=1e-12)
    monkeypatch.delenv("GAMMAPY_DATA")
    with pytest.raises(ValueError, match=r"table.fits' that it names is not there"):
        SkyModel.from_dict(data)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("type: GaussianSpatialModel", "type: Blob", r"component 0, 'halo': type is 'Blob'; known"),
        ("type: FoVBackgroundModel", "type: What", "component 2.*type is 'What'; SkyModel"),
        ("filename: gas.fits", "filename: ../no.fits", "'gas': the file '../no.fits'"),
        ("filename: gas.fits", "filename: $HOME/gas.fits", "the file '.HOME/gas.fits' that"),
        ("lon_0, value: 0.0", "lon_0, value: 1.0", "'gas': the template is moved to lon_0 = 1"),
        ("normalize: false", "normalize: true", "'gas'.*a factor: multiply a spectrum by it"),
        ("components:", "models:", "no list of components"),
        ("operator: mul", "operator: pow", "'b': operator must be 'add', 'sub' or 'mul'"),
        ("-   name: halo", "-   name: {", "models.yaml: not YAML"),
        ("    datasets_names: [x]\n    spectral:\n        type: PowerL",
         "    spectral:\n        type: PowerL", "a background belongs to one dataset"),
        ("    datasets_names: [x]\n    spectral:\n        type: Comp",
         "    temporal: {type: ExpDecayTemporalModel}\n    spectral:\n        type: Comp",
         "'b': it changes with time .ExpDecay"),
    ],
)  # fmt: skip
def test_bad_files(folder, old, new, message):
    assert old in YAML
    (folder / "models.yaml").write_text(YAML.replace(old, new))
    with pytest.raises(ValueError, match=message):
        Models.read(folder / "models.yaml")


def test_unknown_spectrum(folder, monkeypatch):
    import sys

    # Where gammapy is installed, another test may have imported it.
    for name in ("gammapy", "gammapy.modeling", "gammapy.modeling.models"):
        monkeypatch.setitem(sys.modules, name, None)
    text = YAML.replace("type: PowerLawSpectralModel\n", "type: NaimaSpectralModel\n")
    (folder / "models.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"'NaimaSpectralModel' are not known here.*gammapy eval"):
        Models.read(folder / "models.yaml")


def test_bad_datasets(folder):
    datasets_folder(folder)
    bad = "datasets:\n- {name: s, type: SpectrumDataset, filename: x.fits}\n"
    (folder / "bad.yaml").write_text(bad)
    with pytest.raises(ValueError, match="dataset 's': its type is 'SpectrumDataset'; a profile"):
        Datasets.read(folder / "bad.yaml")
    with pytest.raises(ValueError, match="no list of datasets"):
        Datasets.read(folder / "models.yaml")
    (folder / "models.yaml").write_text(YAML.replace("datasets_names: [x]", "datasets_names: [y]"))
    with pytest.raises(ValueError, match="model 'b' is for dataset 'y'; there are .'x'"):
        Datasets.read(folder / "datasets.yaml", folder / "models.yaml")


def test_aliases(folder):
    """gammapy writes them; ten lines of them stand for 1e10 values, and were walked for ever."""
    lines = ["components:", "- name: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for k in range(9):
        lines.append(f"- name: &a{k + 1} [{', '.join([f'*a{k}'] * 10)}]")
    (folder / "bomb.yaml").write_text("\n".join(lines))
    with pytest.raises(ValueError, match="bomb.yaml: its aliases stand for more than 1000000"):
        Models.read(folder / "bomb.yaml")
    (folder / "models.yaml").write_text(
        YAML.replace("datasets_names: [x]", "datasets_names: &n [x]", 1).replace(
            "datasets_names: [x]", "datasets_names: *n"
        )
    )
    assert [model.name for model in Models.read(folder / "models.yaml")][:2] == ["halo", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("components: [3]", "component 0, 3: 3 is given where a mapping is expected"),
        ("components: [{spectral: 3, spatial: {}}]", "3 is given where a mapping"),
        ("components: [{spectral: {type: compound}, spatial: {}}]", "without model1 and model2"),
        ("datasets: [3]", "3 is given where a mapping is expected"),
        ("datasets: [{type: MapDataset, name: d}]", "dataset 'd': it has no filename"),
        ("components: \xff", "not a text file in UTF-8"),
    ],
)
def test_files_of_other_things(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_bytes(text.encode("latin-1"))
    read = Datasets.read if text.startswith("datasets") else Models.read
    with pytest.raises(ValueError, match=f"x.yaml: .*{message}"):
        read(path)


def test_lists():
    factor = PowerLawNormSpectralModel(norm=3)
    flat = WcsNDMap(GEOM.to_cube([ENERGY]), np.ones((3, 4, 4)))
    known = TemplateNPredModel(flat, factor, name="k")
    assert_allclose(known.npred().data, 3.0, rtol=1e-14)
    with pytest.raises(ValueError, match="models have the same name: 'k'"):
        Models([known, known])
    with pytest.raises(ValueError, match="there is no model 'z'; there are .'k'"):
        Models([known])["z"]
    with pytest.raises(ValueError, match="str is no model of a list"):
        Models(["k"])
    with pytest.raises(ValueError, match="give a dimensionless one"):
        FoVBackgroundModel(PowerLawSpectralModel(), dataset_name="x")
    with pytest.raises(ValueError, match="a factor: multiply a spectrum by it"):
        SkyModel(factor, GaussianSpatialModel(sigma=1 * u.deg))
