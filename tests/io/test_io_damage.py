"""Damaged and hostile files: one kind of error that names the file, and nothing read as whole."""

from __future__ import annotations

import binascii
import builtins
import functools
import gzip
import io
import os
import re
import socket
import tracemalloc
import zlib

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from profile_factory import assert_same_profile, make_profile

from jaxprof.datasets import MapDataset
from jaxprof.io import contents
from jaxprof.io.fermi import read_isotropic
from jaxprof.io.textfile import read_text
from jaxprof.irf import EDispKernelMap
from jaxprof.models.spectral import PowerLawSpectralModel
from jaxprof.profile import FluxProfile
from jaxprof.sky import MapAxis, WcsGeom, WcsNDMap
from jaxprof.sky.model_list import Models

BLOCK, CARD = 2880, 80
MARKS = ("CHECKSUM", "DATASUM", "DATACRC", "NHDU")
RECO = MapAxis.from_energy_bounds("10 GeV", "500 GeV", 3)
TRUE = MapAxis.from_energy_bounds("8 GeV", "600 GeV", 4, name="energy_true")
GEOM = WcsGeom.create((83.6, 22.0), binsz=0.25, width=(1.5, 1), proj="TAN", axes=[RECO])
KINDS = ("base.fits", "prof.fits", "prof.ecsv")


@functools.cache
def profile():
    return make_profile()


@functools.cache
def dataset():
    rng = np.random.default_rng(5)
    return MapDataset(
        counts=WcsNDMap(GEOM, rng.poisson(3, GEOM.data_shape)),
        background=WcsNDMap(GEOM, rng.random(GEOM.data_shape)),
        exposure=WcsNDMap(GEOM.to_cube([TRUE]), 1e10 * rng.random((4, 4, 6)), "m2 s"),
        edisp=EDispKernelMap.from_gauss(RECO, TRUE, 0.1),
        mask_safe=WcsNDMap(GEOM, rng.random(GEOM.data_shape) > 0.2),
        gti=Table(
            {"START": [0.0, 10.0] * u.s, "STOP": [5.0, 20.0] * u.s},
            meta={"MJDREFI": 51544, "MJDREFF": 0.5, "TIMESYS": "TT"},
        ),
        name="crab",
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Bytes of a dataset and a profile, as they are written."""
    folder = tmp_path_factory.mktemp("originals")
    dataset().write(folder / "base.fits")
    for name in KINDS[1:]:
        profile().write(folder / name)
    return {name: (folder / name).read_bytes() for name in KINDS}


@pytest.fixture(scope="module")
def unmarked(originals):
    """The same without checksums and the like, as other programs write them."""
    found = {}
    for name in KINDS[:2]:
        with fits.open(io.BytesIO(originals[name])) as hdulist:
            for hdu in hdulist:
                for key in MARKS:
                    hdu.header.remove(key, ignore_missing=True)
            stream = io.BytesIO()
            hdulist.writeto(stream)
            found[name] = stream.getvalue()
    lines = originals["prof.ecsv"].splitlines(keepends=True)
    found["prof.ecsv"] = b"".join(line for line in lines if b"TEXTCRC" not in line)
    return found


@pytest.fixture
def base(originals, tmp_path):
    path = tmp_path / "base.fits"
    path.write_bytes(originals["base.fits"])
    return path


def read(path):
    return (MapDataset if path.name.startswith("base") else FluxProfile).read(path)


def is_same(found, kind):
    if kind != "base.fits":
        try:
            assert_same_profile(profile(), found)
        except AssertionError:
            return False
        return True
    expected = dataset()
    return (
        found.name == expected.name
        and all(
            getattr(found, part) is not None
            and np.array_equal(getattr(found, part).data, getattr(expected, part).data)
            and getattr(found, part).geom.is_allclose(getattr(expected, part).geom)
            and getattr(found, part).unit == getattr(expected, part).unit
            for part in ("counts", "background", "exposure", "mask_safe")
        )
        and np.array_equal(found.edisp.data, expected.edisp.data)
    )


# --- random damage

VALUES = "0 -1 7 999999999 9223372036854775807 1.5 1E308 NaN T '' '1J' '2147483647A' 'GLON-AIT'"
VALUES = [*VALUES.split(), "'E_MIN,E_MAX'", "'EDISP'", "'furlong'", "'0D'", "'PD(3)'", ""]
CELLS = ["nan", "inf", "x", '""', "[1,2]", "-1", "True", '"[[1,2],[3]]"', "1e999"]
META = ["null", "1", "'x'", "[1, 2]", "{a: 1}", "'[[[['", ".nan", "[/etc/passwd]", "&x [*x]"]


def random_bytes(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.choice([1, 1, 2, 16])):
        raw[rng.integers(len(raw))] ^= rng.integers(1, 256)
    return bytes(raw)


def cut(raw, rng):
    end = int(rng.integers(len(raw)))
    return raw[: end // BLOCK * BLOCK if rng.random() < 0.5 else end]


def cards(raw):
    with fits.open(io.BytesIO(raw)) as hdulist:
        spans = [(hdu._header_offset, hdu._data_offset) for hdu in hdulist]
    positions = [i for span in spans for i in range(*span, CARD)]
    return [i for i in positions if raw[i : i + 8].strip() not in (b"", b"END")]


def new_value(raw, rng):
    raw = bytearray(raw)
    for i in rng.choice(cards(raw), rng.choice([1, 1, 2])):
        raw[i + 8 : i + CARD] = f"= {rng.choice(VALUES):>20}".ljust(CARD - 8).encode()
    return bytes(raw)


def new_keyword(raw, rng):
    raw, positions = bytearray(raw), cards(raw)
    i, j = rng.choice(positions, 2)
    raw[i : i + 8] = raw[j : j + 8] if rng.random() < 0.7 else b" " * 8
    return bytes(raw)


def moved_blocks(raw, rng):
    blocks = [raw[i : i + BLOCK] for i in range(0, len(raw), BLOCK)]
    i, j = rng.choice(len(blocks), 2, replace=False)
    what = rng.choice(["exchange", "drop", "repeat", "zero", "append"])
    if what == "exchange":
        blocks[i], blocks[j] = blocks[j], blocks[i]
    elif what == "drop":
        del blocks[i]
    elif what == "repeat":
        blocks.insert(i, blocks[i])
    elif what == "zero":
        blocks[i] = bytes(BLOCK)
    else:
        blocks.append(blocks[i])
    return b"".join(blocks)


def exchanged_words(raw, rng):
    """Two numbers change their places, which a sum does not see."""
    raw = bytearray(raw)
    i, j = 8 * rng.integers(len(raw) // 8, size=2)
    raw[i : i + 8], raw[j : j + 8] = raw[j : j + 8], raw[i : i + 8]
    return bytes(raw)


def other_hdus(raw, rng):
    with fits.open(io.BytesIO(raw)) as hdulist:
        hdus = [hdu.copy() for hdu in hdulist]
    i, j = rng.integers(1, len(hdus), size=2)
    what = rng.choice(["drop", "rename", "image", "table", "rows", "dtype"])
    name = hdus[i].name
    if what == "drop":
        del hdus[i]
    elif what == "rename":
        hdus[i].name = hdus[j].name
    elif what == "image":
        hdus[i] = fits.ImageHDU(np.zeros((2, 3)), name=name)
    elif what == "table" or hdus[i].data.ndim > 1:
        hdus[i] = fits.BinTableHDU.from_columns([fits.Column("A", "D", array=[1.0])], name=name)
    elif what == "rows":
        hdus[i].data = hdus[i].data[: rng.integers(2)]
    else:
        table = Table(hdus[i].data)
        column = rng.choice(table.colnames)
        table[column] = table[column].astype(rng.choice(["S8", "c16", "i2"]))
        hdus[i] = fits.BinTableHDU(table, header=None, name=name)
    stream = io.BytesIO()
    fits.HDUList(hdus).writeto(stream, output_verify="ignore")
    return stream.getvalue()


def text_lines(raw, rng):
    lines = raw.decode().split("\n")
    i, j = rng.choice(len(lines), 2, replace=False)
    what = rng.choice(["drop", "repeat", "exchange", "cell", "meta", "cut"])
    if what == "drop":
        del lines[i]
    elif what == "repeat":
        lines.insert(i, lines[i])
    elif what == "exchange":
        lines[i], lines[j] = lines[j], lines[i]
    elif what == "cell":
        cells = lines[-1 - rng.integers(1, 5)].split(" ")
        cells[rng.integers(len(cells))] = str(rng.choice(CELLS))
        lines[-2] = " ".join(cells)
    elif what == "meta":
        keys = [k for k, line in enumerate(lines) if line.startswith("# - {") and ": " in line]
        k = rng.choice(keys)
        lines[k] = f"{lines[k].partition(': ')[0]}: {rng.choice(META)}}}"
    else:
        lines = lines[:i]
    return "\n".join(lines).encode()


BINARY = (random_bytes, cut, new_value, new_value, new_keyword, moved_blocks, exchanged_words)
MUTATIONS = {
    "base.fits": (*BINARY, other_hdus),
    "prof.fits": (*BINARY, other_hdus),
    "prof.ecsv": (random_bytes, cut, text_lines, text_lines, text_lines),
}


def mutant(originals, seed):
    """Kind, how it was damaged, file name and contents."""
    rng = np.random.default_rng(seed)
    kind = KINDS[seed % 3]
    change = MUTATIONS[kind][rng.integers(len(MUTATIONS[kind]))]
    raw, name = change(originals[kind], rng), kind
    if kind != "prof.ecsv" and rng.random() < 0.1:
        raw, name = gzip.compress(raw, 1), f"{kind}.gz"
        raw = random_bytes(raw, rng) if rng.random() < 0.5 else raw
    return kind, change.__name__, name, raw


@pytest.mark.parametrize("start", [0, 50, 100])
def test_damage_is_an_error_that_names_the_file(originals, tmp_path, start):
    refused = 0
    for seed in range(start, start + 50):
        kind, change, name, raw = mutant(originals, seed)
        path = tmp_path / name
        path.write_bytes(raw)
        try:
            found = read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: "), (seed, change, error)
            refused += 1
        else:
            assert is_same(found, kind), (seed, change)
    assert refused > 40


@pytest.mark.filterwarnings("ignore")
def test_damage_that_nothing_shows_is_no_internal_error(unmarked, tmp_path):
    for seed in range(1000, 1100):
        _, change, name, raw = mutant(unmarked, seed)
        path = tmp_path / name
        path.write_bytes(raw)
        try:
            read(path)
        except ValueError as error:
            assert str(error).startswith(f"{path}: "), (seed, change, error)


# --- marks that show damage


@pytest.mark.parametrize("kind", KINDS[:2])
def test_marks_are_those_of_the_standard(originals, kind):
    raw = originals[kind]
    with fits.open(io.BytesIO(raw), checksum=True) as hdulist:  # Warns if a sum does not fit.
        names = [hdu.name for hdu in hdulist]
        header = hdulist[0].header
        assert header["NHDU"] == len(names)
        assert [header[f"HDU{i + 1}"] for i in range(len(names))] == names
        for hdu in hdulist:
            assert hdu.verify_checksum() == hdu.verify_datasum() == 1
            info = hdu.fileinfo()
            data = raw[info["datLoc"] : info["datLoc"] + info["datSpan"]]
            crc = f"{binascii.crc32(data):08x} {hdu.header['DATASUM']}"
            assert hdu.header["DATACRC"] == crc


@pytest.mark.parametrize("kind", KINDS[:2])
def test_files_cut_between_hdus(originals, tmp_path, kind):
    raw, path = originals[kind], tmp_path / kind
    with fits.open(io.BytesIO(raw)) as hdulist:
        spans = [(hdu.name, hdu.fileinfo()["hdrLoc"]) for hdu in hdulist[1:]]
    for name, end in spans:
        path.write_bytes(raw[:end])
        with pytest.raises(ValueError, match=rf"{kind}: .*{name}"):
            read(path)


def test_header_edited_in_place(base):
    fits.setval(base, "BUNIT", value="cm2 s", extname="EXPOSURE")
    assert read(base).exposure.unit == u.Unit("cm2 s")
    with fits.open(base, mode="update") as hdulist:
        hdulist["COUNTS"].data[0, 0, 0] = 77
    assert read(base).counts.data[0, 0, 0] == 77


def test_data_rewritten_with_and_without_checksums(base):
    with fits.open(base) as hdulist:
        hdulist["COUNTS"].data[0, 0, 0] = 77
        hdulist.writeto(base, overwrite=True, checksum=True)
    assert read(base).counts.data[0, 0, 0] == 77
    with fits.open(base) as hdulist:
        hdulist["COUNTS"].data[0, 0, 0] = 78
        hdulist.writeto(base, overwrite=True)
    with pytest.raises(ValueError, match=r"base.fits: DATASUM of HDU COUNTS does not fit.*setval"):
        read(base)
    # What the message says.
    fits.setval(base, "NHDU", value=0)
    assert read(base).counts.data[0, 0, 0] == 78
    with fits.open(base) as hdulist:
        del hdulist["MASK_SAFE"]
        hdulist.writeto(base, overwrite=True, checksum=True)
    assert read(base).mask_safe is None


@pytest.mark.parametrize("what", ["pixels", "rows"])
def test_exchanged_numbers_that_the_sum_does_not_see(base, what):
    with fits.open(base, mode="update") as hdulist:
        if what == "pixels":
            hdulist["EXPOSURE"].data = hdulist["EXPOSURE"].data[:, ::-1].copy()
        else:
            hdulist["EDISP"].data["DATA"][[0, 5]] = hdulist["EDISP"].data["DATA"][[5, 0]]
    fits.open(base, checksum=True).close()
    with pytest.raises(ValueError, match="base.fits: DATACRC of HDU E"):
        read(base)


@pytest.mark.parametrize("key", ["CHECKSUM", "DATASUM", "DATACRC"])
def test_marks_must_not_be_missing(base, key):
    with fits.open(base) as hdulist:
        hdulist["MASK_SAFE"].header.remove(key)
        hdulist.writeto(base, overwrite=True)
    with pytest.raises(ValueError, match=f"HDU MASK_SAFE has no {key}"):
        read(base)


def test_sums_taken_out_on_purpose(base):
    with fits.open(base) as hdulist:
        for hdu in hdulist:
            hdu.header.remove("CHECKSUM")
            hdu.header.remove("DATASUM")
        hdulist["COUNTS"].data[0, 0, 0] = 77
        del hdulist["MASK_SAFE"]
        hdulist.writeto(base, overwrite=True)
    assert read(base).counts.data[0, 0, 0] == 77


def test_what_is_wrong_comes_before_the_checksum(base):
    with fits.open(base) as hdulist:
        hdulist["EXPOSURE"].header["BUNIT"] = "furlong"
        hdulist.writeto(base, overwrite=True)
    with pytest.raises(ValueError, match=r"unit 'furlong' of HDU EXPOSURE.*besides, CHECKSUM of"):
        read(base)


def test_stale_sums_of_others(unmarked, tmp_path):
    """Fermi's tools leave those of GTI as they were."""
    path = tmp_path / "base.fits"
    path.write_bytes(unmarked["base.fits"])
    assert is_same(read(path), "base.fits")
    for name in ("GTI", "COUNTS"):
        fits.setval(path, "DATASUM", value="1", extname=name)
        with fits.open(path) as hdulist:
            assert hdulist[name].header["DATASUM"] == "1"
        if name == "GTI":
            read(path)
    with pytest.raises(ValueError, match="DATASUM of HDU COUNTS does not fit"):
        read(path)


def test_line_ends_of_other_systems(originals, tmp_path):
    path = tmp_path / "prof.ecsv"
    for raw in (originals["prof.ecsv"].replace(b"\n", b"\r\n"), originals["prof.ecsv"].strip()):
        path.write_bytes(raw)
        assert is_same(read(path), "prof.ecsv")
    lines = originals["prof.ecsv"].splitlines()
    lines[-1], lines[-2] = lines[-2], lines[-1]
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(ValueError, match=r"prof.ecsv: .*TEXTCRC.*remove its line"):
        read(path)


# --- nothing but the file


@pytest.mark.parametrize("key", ["GTI", "NUISANCE", "GOODNESS"])
@pytest.mark.parametrize("several", [False, True])
def test_nothing_else_is_opened(tmp_path, monkeypatch, key, several):
    secret, path = tmp_path / "secret.ecsv", tmp_path / "prof.ecsv"
    Table({"START": [0.0] * u.s, "STOP": [1.0] * u.s}).write(secret)
    table = profile().to_table()
    opened = []

    def recorder(function):
        def opening(name, *args, **kwargs):
            opened.append(name)
            return function(name, *args, **kwargs)

        return opening

    def connect(*args, **kwargs):
        raise AssertionError("a connection was made")

    for target in (secret, f"file://{secret}", "http://127.0.0.1:1/x", "~/.profile", "$HOME/x"):
        table.meta[key] = [str(target)] if several else str(target)
        table.write(path, overwrite=True)
        with monkeypatch.context() as patch:
            for module, name in ((builtins, "open"), (io, "open"), (os, "open")):
                patch.setattr(module, name, recorder(getattr(module, name)))
            patch.setattr(socket.socket, "connect", connect)
            with pytest.raises(ValueError, match=f"prof.ecsv: .*{key} in the meta"):
                read(path)
    assert all(isinstance(name, int) or str(name) == str(path) for name in opened)


TEXT_READERS = {"models.yaml": Models.read, "text": read_text, "iso.txt": read_isotropic}


@pytest.mark.parametrize("name", ["base.fits", "prof.fits", "prof.ecsv", *TEXT_READERS])
def test_what_is_no_regular_file(tmp_path, name):
    path = tmp_path / name
    read = TEXT_READERS.get(name, globals()["read"])
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{name}: this is a FIFO, not a regular file"):
        read(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=f"{name}: this is a device"):
        read(path)


# --- bounds


def header(*entries):
    text = "".join(entry.ljust(CARD) for entry in (*entries, "END"))
    return text.ljust(-(-len(text) // BLOCK) * BLOCK).encode()


def card(key, value):
    return f"{key:<8}= {value:>20}"


PRIMARY = header(card("SIMPLE", "T"), card("BITPIX", 8), card("NAXIS", 0))


def image(name, *axes):
    return header(
        "XTENSION= 'IMAGE   '",
        card("BITPIX", 8),
        card("NAXIS", len(axes)),
        *(card(f"NAXIS{i}", n) for i, n in enumerate(axes, start=1)),
        card("PCOUNT", 0),
        card("GCOUNT", 1),
        f"EXTNAME = '{name}'",
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("NAXIS", 999999999, "at least 0 and at most 999"),
        ("NAXIS", 999, "NAXIS4 is missing"),
        ("NAXIS", "T", "NAXIS is True"),
        ("NAXIS1", -6, "NAXIS1 is -6"),
        ("NAXIS1", 9223372036854775807, "HDU COUNTS should end at byte .*, beyond the end"),
        ("NAXIS2", 1.0, r"NAXIS2 is 1\.0"),
        ("BITPIX", 24, "BITPIX is 24"),
        ("BITPIX", "'8'", "BITPIX is '8'"),
        ("GCOUNT", 0, "GCOUNT is 0"),
    ],
)
def test_headers_that_claim_what_cannot_be(unmarked, tmp_path, key, value, message):
    raw, path = unmarked["base.fits"], tmp_path / "base.fits"
    start = raw.index(b"XTENSION= 'IMAGE")
    position = raw.index(f"{key:<8}=".encode(), start)
    path.write_bytes(
        raw[:position] + card(key, value).ljust(CARD).encode() + raw[position + CARD :]
    )
    with pytest.raises(ValueError, match=rf"base\.fits: .*{message}"):
        read(path)


@pytest.mark.parametrize("n_fields", [1000, 9223372036854775807, 12])
def test_tables_that_claim_too_many_columns(unmarked, tmp_path, n_fields):
    raw, path = unmarked["prof.fits"], tmp_path / "prof.fits"
    position = raw.index(b"TFIELDS =", raw.index(b"EXTNAME = 'GTI") - BLOCK)
    new = card("TFIELDS", n_fields).ljust(CARD).encode()
    path.write_bytes(raw[:position] + new + raw[position + CARD :])
    with pytest.raises(ValueError, match=rf"prof\.fits: .*TFIELDS is {n_fields}"):
        read(path)


@pytest.mark.parametrize(("name", "n_rows"), [("base.fits", 10**9), ("prof.fits", 10**18)])
def test_rows_without_bytes(unmarked, tmp_path, name, n_rows):
    cards = [("XTENSION", "'BINTABLE'"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 0)]
    cards += [("NAXIS2", n_rows), ("PCOUNT", 0), ("GCOUNT", 1), ("TFIELDS", 1)]
    cards += [("TTYPE1", "'START'"), ("TFORM1", "'0D'"), ("EXTNAME", "'GTI'")]
    head = "".join(f"{key:8}= {value}".ljust(CARD) for key, value in cards) + "END"
    path = tmp_path / name
    path.write_bytes(unmarked[name] + head.ljust(BLOCK).encode())
    with pytest.raises(ValueError, match=rf"{name}: .*NAXIS2 is {n_rows}, but rows of no bytes"):
        read(path)


def test_rows_that_share_one_array(originals, tmp_path):
    # With 200 000 rows and numbers instead of 2000, 3 MB of file would take 320 GB of memory.
    n = 2000
    with fits.open(io.BytesIO(originals["prof.fits"])) as hdulist:
        hdus = [hdu for hdu in hdulist if hdu.name != "LIKELIHOOD"]
        arrays = np.empty(n, dtype=object)
        arrays[:] = [np.zeros(1)] * n
        column = fits.Column("counts", f"PD({n})", array=arrays)
        hdus.append(fits.BinTableHDU.from_columns([column], name="LIKELIHOOD"))
        for hdu in hdus:
            for key in MARKS:
                hdu.header.remove(key, ignore_missing=True)
        fits.HDUList(hdus).writeto(tmp_path / "prof.fits")
    raw = (tmp_path / "prof.fits").read_bytes()
    rows = b"".join(np.array([1, 8 * i], ">i4").tobytes() for i in range(n))
    assert raw.count(rows) == 1
    shared = np.tile(np.array([n, 0], ">i4"), n).tobytes()
    (tmp_path / "prof.fits").write_bytes(raw.replace(rows, shared))
    with pytest.raises(ValueError, match="HDU LIKELIHOOD: the arrays of column 'counts'"):
        read(tmp_path / "prof.fits")


def gzipped_zeros(path, head, n_mega):
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with open(path, "wb") as stream:
        stream.write(packer.compress(head))
        for _ in range(n_mega):
            stream.write(packer.compress(bytes(2**20)))
        stream.write(packer.flush())


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (PRIMARY + image("COUNTS", 2**20, 600), "HDU COUNTS .* beyond what gzip may .*gunzip"),
        (PRIMARY + image("A", BLOCK, 9) + bytes(9 * BLOCK), "what follows HDU 1 .* is no HDU"),
        (PRIMARY, "what follows HDU 0 .* is no HDU"),
        (PRIMARY[:-CARD] + b"COMMENT " * 10, "what follows HDU 0"),
        (PRIMARY.replace(b"END", b"   "), "header of HDU 0 has no END"),
        (b"", "not a FITS file"),
    ],
)
def test_gzip_bomb(tmp_path, head, message):
    path = tmp_path / "base.fits.gz"
    gzipped_zeros(path, head, 100)
    assert path.stat().st_size < 150_000
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=rf"base\.fits\.gz: .*{message}"):
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()


def test_unpacking_stops_at_the_limit(monkeypatch, tmp_path):
    stream = contents.Unpacked(gzip.compress(bytes(10**7)), 3 * 10**6, "zeros.gz")
    assert stream.read(10) == bytes(10)
    with pytest.raises(ValueError, match="expand to more than 3000000; .*gunzip"):
        stream.read()
    assert 10**6 < len(stream.getbuffer()) <= 3 * 10**6
    # A file within the limit is read, one beyond it when it is unpacked; the writer makes none.
    geom = GEOM.to_cube([RECO])
    path = tmp_path / "base.fits.gz"
    MapDataset(counts=WcsNDMap(geom, 0)).write(path)
    assert read(path).counts.data.sum() == 0
    monkeypatch.setattr(contents, "EXPANSION", 1)
    monkeypatch.setattr(contents, "EXPANSION_FREE", 0)
    with pytest.raises(ValueError, match="expand to more than .*gunzip"):
        read(path)
    (tmp_path / "base.fits").write_bytes(gzip.decompress(path.read_bytes()))
    unpacked = read(tmp_path / "base.fits")
    assert unpacked.counts.data.sum() == 0
    with pytest.raises(ValueError, match=r"not read again.* without \.gz"):
        unpacked.write(tmp_path / "new.fits.gz")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["base.fits", "base.fits.gz"]


def test_sparse_cubes(tmp_path):
    # Counts of few events shrink by a factor of 1000. A cube of 300 MB is no bomb for that, and is
    # unpacked: this one only lacks coordinates.
    path = tmp_path / "base.fits.gz"
    n_bytes = -(-300 * 2**20 // BLOCK) * BLOCK
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    head = packer.compress(PRIMARY + image("COUNTS", BLOCK, n_bytes // BLOCK))
    pieces = [packer.compress(bytes(2**20)) for _ in range(n_bytes // 2**20)]
    path.write_bytes(
        head + b"".join(pieces) + packer.compress(bytes(n_bytes % 2**20)) + packer.flush()
    )
    with pytest.raises(ValueError, match="HDU COUNTS has no celestial coordinates"):
        read(path)


@pytest.mark.parametrize("tail", [b"", bytes(1000)])
def test_gzip_files_of_several_members(originals, tmp_path, tail):
    raw, path = originals["base.fits"], tmp_path / "base.fits.gz"
    packed = b"".join(gzip.compress(raw[i : i + 5000]) for i in range(0, len(raw), 5000))
    path.write_bytes(packed + tail)
    assert is_same(read(path), "base.fits")
    path.write_bytes(packed + b"garbage")
    with pytest.raises(ValueError, match=r"base\.fits\.gz is cut off or damaged \(gzip"):
        read(path)


def test_compressed_images(unmarked, tmp_path):
    path = tmp_path / "base.fits"
    with fits.open(io.BytesIO(unmarked["base.fits"])) as hdulist:
        counts = hdulist["COUNTS"]
        hdulist["COUNTS"] = fits.CompImageHDU(
            counts.data.astype("i4"), counts.header, name="COUNTS"
        )
        hdulist.writeto(path)
    assert is_same(read(path), "base.fits")
    raw = path.read_bytes()
    position = raw.index(b"ZNAXIS1 =")
    new = card("ZNAXIS1", 10**12).ljust(CARD).encode()
    path.write_bytes(raw[:position] + new + raw[position + CARD :])
    with pytest.raises(ValueError, match="compressed images up to HDU COUNTS would become"):
        read(path)


# --- names that are there twice


@pytest.mark.parametrize(
    ("kind", "name"),
    [("base.fits", "COUNTS"), ("base.fits", "COUNTS_BANDS"), ("prof.fits", "LIKELIHOOD")],
)
def test_two_hdus_of_one_name(unmarked, tmp_path, kind, name):
    """The second has other numbers: neither is taken without a word."""
    path = tmp_path / kind
    with fits.open(io.BytesIO(unmarked[kind])) as hdulist:
        second = hdulist[name].copy()
        second.data = second.data[::-1].copy()
        hdulist.append(second)
        hdulist.writeto(path)
    with pytest.raises(ValueError, match=rf"{kind}: two HDUs are called {name};"):
        read(path)


def test_hdus_without_names(unmarked, tmp_path):
    path = tmp_path / "base.fits"
    with fits.open(io.BytesIO(unmarked["base.fits"])) as hdulist:
        fits.HDUList([*hdulist, fits.ImageHDU(), fits.ImageHDU()]).writeto(path)
    assert is_same(read(path), "base.fits")


@pytest.mark.parametrize(
    ("kind", "hdu", "name", "second"),
    [
        ("base.fits", "COUNTS_BANDS", "E_MIN", "E_MAX"),
        ("base.fits", "EDISP_BANDS", "ENERGY_TRUE", "ENERGY"),
        ("prof.fits", "FLUXPOINTS", "norm", "norm_err"),
        ("prof.fits", "LIKELIHOOD", "counts", "background"),
    ],
)
def test_two_columns_of_one_name(unmarked, tmp_path, kind, hdu, name, second):
    raw, path = unmarked[kind], tmp_path / kind
    with fits.open(io.BytesIO(raw)) as hdulist:
        found = hdulist[hdu]
        key = f"TTYPE{found.columns.names.index(second) + 1}"
        start = raw.index(key.encode(), found.fileinfo()["hdrLoc"])
    path.write_bytes(
        raw[:start] + f"{key:<8}= '{name:<8}'".ljust(CARD).encode() + raw[start + CARD :]
    )
    with pytest.raises(ValueError, match=rf"{kind}: two columns of HDU {hdu} are called '{name}'"):
        read(path)


@pytest.mark.parametrize("delimiter", [" ", ","])
def test_two_columns_of_one_name_in_ecsv(unmarked, tmp_path, delimiter):
    """astropy would call the second norm_1."""
    path = tmp_path / "prof.ecsv"
    table = Table.read(unmarked["prof.ecsv"].decode(), format="ascii.ecsv")
    table.write(path, format="ascii.ecsv", delimiter=delimiter)
    read(path)
    text = re.sub(r"\bstat_null\b", "norm", path.read_text())
    path.write_text(text)
    with pytest.raises(ValueError, match=r"prof\.ecsv: two columns are called 'norm'"):
        read(path)


# --- headers that take forever


def alias_bomb(lines):
    """Ten lines that stand for 10^9 values."""
    bomb = ["# bomb:", "# - &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for k in range(1, 9):
        bomb.append(f"# - &a{k} [{', '.join(10 * [f'*a{k - 1}'])}]")
    i = lines.index("# datatype:")
    return [*lines[:i], *bomb, lines[i], "# - {name: x_min, datatype: *a8}", *lines[i + 2 :]]


def deep(lines):
    i = lines.index("# datatype:")
    return [*lines[:i], "# deep: " + 20_000 * "[" + 20_000 * "]", *lines[i:]]


def great_power(lines):
    i = lines.index("# datatype:") + 1
    return [*lines[:i], "# - {name: x_min, unit: 10**99999999 deg, datatype: float64}", *lines[i:]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (alias_bomb, "YAML alias"),
        (deep, "nest"),
        (great_power, r"10\*\*99999999 deg' is no unit"),
    ],
)
def test_headers_that_take_forever(unmarked, tmp_path, change, message):
    path = tmp_path / "prof.ecsv"
    path.write_text("\n".join(change(unmarked["prof.ecsv"].decode().split("\n"))))
    with pytest.raises(ValueError, match=rf"prof\.ecsv: .*{message}"):
        read(path)


@pytest.mark.parametrize("unit", ["10**99999999 m2 s", "10^-99999999", "10+99999999 s"])
def test_units_that_take_forever(unmarked, tmp_path, unit):
    path = tmp_path / "base.fits"
    path.write_bytes(unmarked["base.fits"])
    fits.setval(path, "BUNIT", value=unit, extname="EXPOSURE")
    with pytest.raises(ValueError, match=r"base\.fits: BUNIT of HDU EXPOSURE: .* is no unit"):
        read(path)
    table = profile().to_table()
    table.meta["REFMODEL"] = table.meta["REFMODEL"].replace("TeV", unit, 1)
    table.write(tmp_path / "prof.ecsv")
    with pytest.raises(ValueError, match=r"prof\.ecsv: .* is no unit"):
        read(tmp_path / "prof.ecsv")


# --- contents of profiles


def deep_model(depth):
    law = '{"type": "PowerLawSpectralModel", "parameters": []}'
    text = law
    for _ in range(depth):
        text = (
            f'{{"type": "CompoundSpectralModel", "operator": "add", "model1": {text}, '
            f'"model2": {law}}}'
        )
    return text


def setting(name, function):
    def change(table):
        table[name] = function(table)

    return change


def meta(key, value):
    def change(table):
        table.meta[key] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting("x_min", lambda t: ["x"] * len(t)), "'x_min' holds str.*must hold numbers"),
        (setting("norm_sensitivity", lambda t: [["a", "b"]] * len(t)), "'norm_sensitivity' holds"),
        (setting("x_ref", lambda t: t["x_ref"][0]), "'x_ref' is .* in row 1.*between 'x_min' and"),
        (setting("x_min", lambda t: 7 * t["x_max"]), "'x_min' is .* in row 0.*less than 'x_max'"),
        (setting("x_min", lambda t: t["x_max"]), "'x_min' is"),
        (setting("x_ref", lambda t: t["x_ref"] * np.nan), "'x_ref' is nan in row 0.*finite"),
        (setting("coverage", lambda t: 3 + 0 * t["norm"]), r"'coverage' is 3\.0 in row 0"),
        (setting("coverage", lambda t: -0.1 + 0 * t["norm"]), r"'coverage' is -0\.1"),
        (setting("ts", lambda t: -1.0 + 0 * t["norm"]), r"'ts' is -1\.0 in row 0"),
        (meta("PROFMETA", "[" * 100000), "PROFMETA.*nested too deeply"),
        (meta("PROFMETA", "[1]"), "PROFMETA.* is a list, it must be a dict"),
        (meta("REFMODEL", deep_model(400)), "REFMODEL.*nested"),
        (meta("REFMODEL", deep_model(120)), "REFMODEL.*nested more than 100 deep"),
        (meta("NSIGMAUL", None), "NSIGMAUL in the meta is None, it must be a number"),
        (meta("N_SIGMA", -1), "N_SIGMA in the meta is -1"),
        (meta("NSIGMASE", "5"), "NSIGMASE in the meta is '5'"),
        (meta("SQRTTSUL", np.inf), "SQRTTSUL in the meta is inf"),
        (meta("AXISNAME", 7), "AXISNAME in the meta is 7"),
        (meta("DSNAMES", "[1]"), "DSNAMES"),
        (meta("REGIONS", "circle"), "REGIONS in the meta is 'circle'"),
        (meta("REFMODELS", {"a": 1}), "REFMODELS in the meta is a"),
        (meta("NBINS", "x" * 500), r"there are 4 bins, should be 'x+\.\.\.: cut"),
    ],
)
def test_contents_of_profiles(tmp_path, change, message):
    table = make_profile(meta={"estimator": "E"}).to_table("likelihood")
    change(table)
    path = tmp_path / "prof.ecsv"
    table.write(path)
    with pytest.raises(ValueError, match=rf"prof\.ecsv: .*{message}"):
        read(path)


@pytest.mark.parametrize("name", ["norm", "of_my_own"])
def test_complex_numbers(unmarked, tmp_path, name):
    path = tmp_path / "prof.fits"
    with fits.open(io.BytesIO(unmarked["prof.fits"])) as hdulist:
        table = Table.read(hdulist["FLUXPOINTS"])
        table[name] = 1j * table["norm"].data
        hdulist["FLUXPOINTS"] = fits.BinTableHDU(table, name="FLUXPOINTS")
        hdulist.writeto(path)
    with pytest.raises(ValueError, match=rf"prof\.fits: column '{name}' holds complex128"):
        read(path)


def test_contents_within_rounding_are_read(tmp_path):
    table = make_profile().to_table("likelihood")
    del table["sqrt_ts"]
    table["ts"] = np.full((4, 2), -1e-6)
    table["coverage"] = np.array([[1 + 1e-12, -1e-12], [np.nan, 0], [1, 0.5], [0, 0]])
    table.meta["REFMODEL"] = deep_model(20)
    del table["ref_flux"]
    path = tmp_path / "prof.ecsv"
    table.write(path)
    found = read(path)
    np.testing.assert_array_equal(found.coverage, table["coverage"])
    # 21 power laws of the same kind
    ratio = found.reference_model(1.0) / PowerLawSpectralModel()(1.0)
    np.testing.assert_allclose(ratio, 21, rtol=1e-6)


# --- other programs


def test_gammapy_reads_our_datasets(tmp_path):
    datasets = pytest.importorskip("gammapy.datasets")
    path = tmp_path / "base.fits"
    dataset().write(path)
    found = datasets.MapDataset.read(path)
    np.testing.assert_array_equal(found.counts.data, dataset().counts.data)
    np.testing.assert_allclose(found.edisp.edisp_map.data[:, :, 0, 0], dataset().edisp.data)
