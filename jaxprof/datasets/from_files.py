"""Datasets made of the files of other tools."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Self


class FromOtherFiles:
    """Class methods of `MapDataset` that read files which hold one part of a dataset each."""

    @classmethod
    def from_fermi(
        cls,
        counts: Any,
        exposure: Any = None,
        psf: Any = None,
        edisp: Any = None,
        background: Any = None,
        *,
        galactic: Any = None,
        isotropic: Any = None,
        source_maps: Any = None,
        spectra: Mapping[str, Any] | None = None,
        position: Any = None,
        width: Any = None,
        name: str | None = None,
    ) -> Self:
        """Dataset from files of the Fermi tools, or HEALPix maps of any instrument.

        Parameters
        ----------
        counts : str, path-like or WcsNDMap
            Counts cube (gtbin CCUBE or HEALPIX). The pixels of a HEALPix map are kept as they are,
            see `jaxprof.sky.healpix`; those that it has not are masked.
        exposure : str, path-like or WcsNDMap, optional
            Exposure cube (gtexpcube2), WCS or HEALPix, of any pixels. It is interpolated linearly
            to the pixels of the counts and, in the logarithm of the energy, to the centres of the
            true bins: those of `edisp` or else the bins of the counts.
        psf : str, path-like or PSFMap, optional
            Point spread function (gtpsf).
        edisp : str, path-like, EDispKernelMap or EDispMap, optional
            Energy dispersion (gtdrm), made for the energies of the counts.
        background : str, path-like or WcsNDMap, optional
            Predicted counts as the counts: the model cube of gtmodel or fermipy without the source.
        galactic : str, path-like or WcsNDMap, optional
            Cube of intensities (gll_iem_v07.fits), folded through exposure, PSF and energy
            dispersion.
        isotropic : str or path-like, optional
            Text of energies [MeV] and intensities [MeV-1 cm-2 s-1 sr-1] (``iso_P8R3_*_v1.txt``).
        source_maps : str or path-like, optional
            File of gtsrcmaps.
        spectra : dict, optional
            Which sources of it join the background: their spectral models by name, or a number as
            the norm of a diffuse source.
        position, width : SkyCoord and angle, optional
            Take only the part of the counts within half this width of a position.
        name : str, optional
            Name of the dataset.

        Returns
        -------
        dataset : MapDataset
            What comes of `galactic`, `isotropic` and `source_maps` is ``npred_sources``.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            "<file>: what is wrong", or if the parts do not fit together.

        Warns
        -----
        UserWarning
            If counts reach beyond the energies of a response.
        """
        from jaxprof.io.fermi import fermi_parts, read_fermi_dataset

        parts = fermi_parts(
            counts, exposure, psf, edisp, background, position=position, width=width
        )
        if name is not None:
            parts["name"] = name
        return read_fermi_dataset(
            cls,
            parts,
            galactic=galactic,
            isotropic=isotropic,
            source_maps=source_maps,
            spectra=spectra,
        )

    @classmethod
    def from_fermipy(
        cls, folder: str | os.PathLike[str], component: int = 0, **kwargs: Any
    ) -> Self:
        """Dataset of a component of an analysis of fermipy, from its folder.

        Parameters
        ----------
        folder : str or path-like
            With ccube_00.fits, bexpmap_00.fits and, if there are any, psf_00.fits and drm_00.fits.
        component : int
            Number of the component.
        **kwargs
            As for `from_fermi`: ``background`` (such as mcube_00.fits, without the source),
            ``galactic``, ``isotropic``, ``source_maps`` and ``spectra`` (srcmap_00.fits), ``name``.

        Raises
        ------
        FileNotFoundError
            If there is no such folder, or no counts and exposure of the component.
        ValueError
            As for `from_fermi`.
        """
        from jaxprof.io.fermi import fermipy_files

        return cls.from_fermi(**(fermipy_files(folder, component) | kwargs))

    @classmethod
    def from_ctools(
        cls,
        counts: str | os.PathLike[str],
        exposure: str | os.PathLike[str] | None = None,
        psf: str | os.PathLike[str] | None = None,
        edisp: str | os.PathLike[str] | None = None,
        background: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> Self:
        """Dataset from the cubes of a stacked analysis of ctools.

        Parameters
        ----------
        counts : str or path-like
            Counts cube (ctbin). Bins of weight zero are masked.
        exposure : str or path-like, optional
            Exposure cube (ctexpcube), on the bins between its energies and the pixels of the
            counts. The weights of the counts at the energies that photons are reconstructed at are
            in it, and in `edisp`, as far as they differ from one of these to the next.
        psf, edisp : str or path-like, optional
            Cubes of ctpsfcube and ctedispcube.
        background : str or path-like, optional
            Cube of ctbkgcube: its rates at the middle of each bin, as in ctools.
        name : str, optional
            Name of the dataset.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            "<file>: what is wrong", or if the parts do not fit together.

        Warns
        -----
        UserWarning
            If the energies of the cubes go no further than those of the counts, so that photons
            are missing in the outermost bins; if some observations do not count at all energies:
            the weights of ctools are parts of the livetime, and right where effective areas are
            alike.
        """
        from jaxprof.io.ctools import ctools_parts

        parts = ctools_parts(counts, exposure, psf, edisp, background)
        return cls(**(parts if name is None else parts | {"name": name}))
