"""What a file is that holds no maps, and the way from it to a profile."""

from __future__ import annotations

from typing import Any

from astropy.io import fits

_GAMMAPY = "make a MapDataset of it with gammapy (MapDatasetMaker), write it, and read that"
_FERMI = "MapDataset.from_fermi(counts=..., exposure=..., psf=..., edisp=...)"
_CTOOLS = "MapDataset.from_ctools(counts=..., exposure=..., psf=..., edisp=..., background=...)"

#: First bytes of files that are not FITS, and what they are.
_SIGNATURES = (
    (
        b"\x89HDF\r\n\x1a\n",
        "an HDF5 file, such as a maptree of HAWC: read its HEALPix arrays with h5py, make maps of "
        "them with WcsNDMap.from_healpix(values, nside=..., pixels=...), and give these to "
        "MapDataset(counts=..., background=..., exposure=..., psf=...)",
    ),
    (
        b"root",
        "a ROOT file: read its histograms with uproot and put them on maps "
        "(WcsNDMap(WcsGeom.create(...), array)), or export a FITS dataset with the tool that made "
        "it (DL3 event lists and IRFs for gammapy)",
    ),
    (
        b"PK\x03\x04",
        "a zip archive: unpack it; arrays of numpy (.npz) are put on maps, "
        "WcsNDMap(WcsGeom.create(...), array)",
    ),
    (
        b"\x93NUMPY",
        "a numpy array: put it on a map, WcsNDMap(WcsGeom.create(...), numpy.load(...))",
    ),
    (b"%PDF", "a PDF document"),
    (b"\x89PNG", "a picture; its numbers are not those of the map"),
    (b"\x80\x04", "a Python pickle: load it where it was made, and write what is in it as FITS"),
    (b"\x80\x05", "a Python pickle: load it where it was made, and write what is in it as FITS"),
    (b"BZh", "compressed with bzip2; unpack it with bunzip2"),
    (b"\xfd7zXZ", "compressed with xz; unpack it with unxz"),
    (b"\x1f\x9d", "compressed with compress; unpack it with uncompress"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd; unpack it with unzstd"),
    (b"version https://git-lfs", "a pointer to a file in Git LFS: git lfs pull fetches that"),
)
_TEXTS = (
    ("components:", "a YAML file of models: read it with Models.read, and set dataset.models"),
    ("datasets:", "a list of datasets of gammapy: read it with Datasets.read"),
    ("<source_library", "an XML library of sources (Fermi tools, ctools), not a dataset"),
    ("%ECSV", "a table in ECSV format; a profile is read with FluxProfile.read"),
    ("# Region file", "a list of DS9 regions: regions.Regions.read reads it"),
    ("<?xml", "an XML file, not a dataset"),
    ("<html", "a web page, as failed downloads leave it: download the file again"),
)


def what_it_is_not_fits(first: bytes) -> str | None:
    """What a file is that begins with some bytes and is not FITS; None if that is not known."""
    for signature, text in _SIGNATURES:
        if first.startswith(signature):
            return text
    if not first:
        return "an empty file"
    if first[257:262] == b"ustar":
        return "a tar archive: unpack it"
    start = first[:2000].decode("utf-8", "replace")
    for word, text in _TEXTS:
        if word in start:
            return text
    if first[:1000].isascii() and "".join(start[:1000].split()).isprintable():
        return (
            "a text file: numbers in it are read with numpy.loadtxt or astropy's Table.read, and "
            "put on a map, WcsNDMap(WcsGeom.create(...), array)"
        )
    return None


def what_it_is(hdulist: fits.HDUList) -> str:
    """What a FITS file is, and the way from it to a profile.

    Parameters
    ----------
    hdulist : `~astropy.io.fits.HDUList`
        Open file that is not what was wanted.

    Returns
    -------
    text : str
        A sentence; a list of the HDUs if nothing is known of them.
    """
    names = {hdu.name.upper() for hdu in hdulist}
    classes = {
        str(hdu.header.get(key, "")).upper()
        for hdu in hdulist
        for key in ("HDUCLAS1", "HDUCLAS2", "HDUCLAS4")
    }
    columns = {str(c).upper() for hdu in hdulist for c in hdu.header["TTYPE*"].values()}
    for test, text in _KINDS:
        if test(names, classes, columns, hdulist):
            return text
    listed = [hdu.name or "(unnamed)" for hdu in hdulist]
    return f"its HDUs are {listed}" + (f", with the columns {sorted(columns)}" if columns else "")


def _has_cube(hdulist: fits.HDUList) -> bool:
    return any(hdu.is_image and hdu.header.get("NAXIS", 0) == 3 for hdu in hdulist)


def _is_healpix(hdulist: fits.HDUList) -> bool:
    return any(str(hdu.header.get("PIXTYPE", "")).upper() == "HEALPIX" for hdu in hdulist)


def _is_image(hdulist: fits.HDUList) -> bool:
    return any(hdu.is_image and hdu.header.get("NAXIS", 0) >= 2 for hdu in hdulist)


def _is_event_list(columns: set[str]) -> bool:
    """Whether there is a row for each photon: its time, position and energy."""
    names = ("TIME", "RA", "DEC", "ENERGY")
    return all(any(name in column for column in columns) for name in names)


def _has_sky(hdulist: fits.HDUList) -> bool:
    return any(str(hdu.header.get("CTYPE1", "")).strip() for hdu in hdulist)


def _is_by_ctools(hdulist: fits.HDUList) -> bool:
    creator = str(hdulist[0].header.get("CREATOR", "")).lower()
    return "gammalib" in creator or "ctools" in creator


_SED = {"DNDE", "FLUX", "EFLUX", "E2DNDE", "NORM"}
#: Tests of (names of HDUs, their classes, names of columns, HDUs) and what passes them, in order.
_KINDS: tuple[tuple[Any, str], ...] = (
    (
        lambda n, c, k, h: "DRM" in n,
        f"it is the energy dispersion of gtdrm: give it as edisp to {_FERMI}",
    ),
    (
        lambda n, c, k, h: {"PSF", "THETA"} <= n and "PSF" in k,
        f"it is the point spread function of gtpsf: give it as psf to {_FERMI}",
    ),
    (
        lambda n, c, k, h: "MIGRAS" in n,
        f"it is an energy dispersion cube of ctools: give it as edisp to {_CTOOLS}",
    ),
    (
        lambda n, c, k, h: "DELTAS" in n,
        f"it is a PSF cube of ctools: give it as psf to {_CTOOLS}",
    ),
    (
        lambda n, c, k, h: "WEIGHTS" in n and "EBOUNDS" in n,
        f"it is a counts cube of ctools: give it as counts to {_CTOOLS}",
    ),
    (
        lambda n, c, k, h: _is_healpix(h) and "EBOUNDS" in n,
        f"it is a HEALPix counts cube: give it as counts to {_FERMI}, with the other files, or "
        "read it with WcsNDMap.read",
    ),
    (
        lambda n, c, k, h: _is_healpix(h),
        "it is a HEALPix map: read it with WcsNDMap.read, and make a MapDataset(counts=..., "
        "exposure=...) of such maps",
    ),
    (
        lambda n, c, k, h: {"COSBINS", "CTHETABOUNDS"} & (n | k),
        f"it is a livetime cube of gtltcube: make an exposure with gtexpcube2, and give that to "
        f"{_FERMI}",
    ),
    (
        lambda n, c, k, h: "EVENTS" in n | c or _is_event_list(k),
        f"it is an event list: {_GAMMAPY}; for Fermi-LAT bin it with gtbin and use {_FERMI}",
    ),
    (
        lambda n, c, k, h: "SC_DATA" in n,
        "it is the spacecraft file of Fermi-LAT: gtltcube and gtexpcube2 make an exposure of it",
    ),
    (
        lambda n, c, k, h: {"HDU_INDEX", "OBS_INDEX"} & n,
        f"it is the index of a data store of DL3 event lists: {_GAMMAPY}",
    ),
    (
        lambda n, c, k, h: {"ENERG_LO", "THETA_LO"} <= k or "EFF_AREA" in c or "BKG" in c,
        f"it holds instrument responses as functions of the offset (DL3): {_GAMMAPY}",
    ),
    (
        lambda n, c, k, h: "SPECTRUM" in n | c and {"CHANNEL", "PI"} & k,
        "it is the spectrum of one region (OGIP PHA), which has no sky: a profile needs a cube of "
        "counts; make one of the event list, with gammapy's MapDatasetMaker",
    ),
    (
        lambda n, c, k, h: (
            {"SPECRESP", "MATRIX", "SPECRESP MATRIX"} & (n | c)
            or "SPECRESP" in k
            or {"N_GRP", "F_CHAN"} <= k
        ),
        "it is the response (OGIP ARF or RMF) of the spectrum of one region, which has no sky: a "
        "profile needs a cube of counts; make one with gammapy's MapDatasetMaker",
    ),
    (
        lambda n, c, k, h: "FLUXPOINTS" in n and "X_MIN" in k,
        "it is a flux profile: read it with FluxProfile.read",
    ),
    (
        lambda n, c, k, h: "STACK" in n,
        "it is a stack of flux profiles: read it with FluxProfileStack.read",
    ),
    (
        lambda n, c, k, h: "LAWFIT" in n,
        "it is a fitted law: read its table with ModelFit.read_table",
    ),
    (
        lambda n, c, k, h: (
            "LIGHTCURVE" in n | c
            or {"RATE", "LC"} & n
            or ("TIME" in k and {"RATE", "FLUX", "COUNTS"} & k)
            or "TIME_MIN" in k
        ),
        "it is a light curve, which has no sky: a profile needs a cube of counts",
    ),
    (
        lambda n, c, k, h: "FLUXPOINTS" in n or ("E_REF" in k and k & _SED),
        "it is a table of flux points, the spectrum of one source: a profile has several regions",
    ),
    (
        lambda n, c, k, h: {"SOURCE_NAME", "RAJ2000"} <= k or "LAT_POINT_SOURCE_CATALOG" in n,
        "it is a catalogue of sources: positions and spectra for SkyModel, not a dataset",
    ),
    (
        lambda n, c, k, h: _is_image(h) and not _has_sky(h),
        "it is an image or cube without sky coordinates (no CTYPE1, CTYPE2): put its array on a "
        "map, WcsNDMap(WcsGeom.create(...), array)",
    ),
    (
        lambda n, c, k, h: _has_cube(h) and "ENERGIES" in n,
        f"it is a cube of exposures or of a diffuse model: give it as exposure or galactic to "
        f"{_FERMI}, or read it with WcsNDMap.read",
    ),
    (
        lambda n, c, k, h: _has_cube(h) and "EBOUNDS" in n and not _is_by_ctools(h),
        "it is a counts cube (gtbin) or a model cube (gtmodel): give it as counts or background "
        f"to {_FERMI}; cubes of ctools: {_CTOOLS}",
    ),
    (
        lambda n, c, k, h: _has_cube(h) and "EBOUNDS" in n,
        f"it is a cube of ctools: give it to {_CTOOLS}",
    ),
    (
        lambda n, c, k, h: {"COUNTS", "EXPOSURE"} <= n,
        "it is a dataset: read it with MapDataset.read, or MapDatasetOnOff.read if it has OFF "
        "counts",
    ),
    (
        lambda n, c, k, h: _is_image(h),
        "it is an image or cube: read it with WcsNDMap.read, and make a MapDataset(counts=..., "
        "exposure=...) of maps",
    ),
)
