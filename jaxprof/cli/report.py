"""A report of a profile: one page of HTML that needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from string import Template
from typing import Any

from jaxprof.html import escaped, facts, table
from jaxprof.profile import FluxProfile
from jaxprof.profile.html import STATUS_MEANING, profile_facts, profile_table, status_counts

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title - flux profile</title>
<link rel="icon" href="data:,">
<style>
:root { color-scheme: light dark; --text: #1c2430; --soft: #5a6675; --line: #d9dee5;
  --page: #f5f6f8; --card: #ffffff; --mark: #fff4d6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e9ee; --soft: #a3adba; --line: #3a434f; --page: #14181d; --card: #1d232b;
    --mark: #3d3420; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem; background: var(--page);
  color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.7rem; overflow-wrap: anywhere; }
h2 { margin: 0 0 .75rem; font-size: 1.2rem; }
p.lead { margin: 0 0 1.25rem; color: var(--soft); }
section { margin: 0 0 1.25rem; padding: 1.1rem 1.25rem; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr));
  gap: 1.25rem; }
figure { margin: 0; }
figure:first-child { grid-column: 1 / -1; width: 100%; max-width: 50rem; justify-self: center; }
img { display: block; width: 100%; height: auto; background: #fff; border-radius: .25rem; }
figcaption { margin-top: .4rem; color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .8rem .3rem 0; vertical-align: top; border-bottom: 1px solid var(--line); }
table.values { white-space: nowrap; }
table.values th { font-weight: 600; }
table.values th { white-space: normal; vertical-align: bottom; }
table.facts th { font-weight: 600; white-space: nowrap; }
table.facts td { overflow-wrap: anywhere; }
table.facts { width: 100%; } table.facts th { width: 12rem; }
ul.warnings { margin: 0; padding: .6rem 1rem .6rem 2rem; background: var(--mark);
  border-radius: .25rem; }
pre { overflow-x: auto; font-size: .85rem; }
@media (max-width: 40rem) { body { padding: .75rem; } section { padding: .8rem; }
  table.facts th { width: auto; white-space: normal; } }
</style>
</head>
<body>
<h1>$title</h1>
<p class="lead">Flux profile by jaxprof $version, $date</p>
<section><h2>Summary</h2>$facts</section>
<section><h2>Figures</h2><div class="figures">$figures</div></section>
<section><h2>What the status of these bins means</h2>$status</section>
<section><h2>Warnings</h2>$warnings</section>
<section><h2>Table</h2><div class="scroll" tabindex="0">$table</div></section>
<section><h2>Provenance</h2>$provenance
<details><summary>The configuration as it was given</summary><pre>$config</pre></details>
</section>
</body>
</html>
""")


def report(
    profile: FluxProfile,
    figures: Mapping[str, tuple[str, bytes]],
    record: Mapping[str, Any],
    *,
    title: str,
    sed_type: str,
) -> str:
    """Make the report.

    Parameters
    ----------
    profile : FluxProfile
        The profile.
    figures : mapping of str to (str, bytes)
        Caption and PNG image by name.
    record : mapping
        What `jaxprof.cli.provenance.provenance` gives, with ``warnings``, ``seconds`` and
        ``config_as_given``.
    title : str
        Title of the page.
    sed_type : {"dnde", "e2dnde", "flux", "eflux", "surface_brightness"}
        What the table shows.

    Returns
    -------
    str
        HTML with all figures in it and no links.
    """
    return _PAGE.substitute(
        title=escaped(title),
        version=escaped(record["versions"]["jaxprof"]),
        date=escaped(record["started"].replace("T", ", ").replace("+00:00", " UTC")),
        facts=facts(profile_facts(profile)),
        figures="".join(_figure(name, *drawn) for name, drawn in figures.items()),
        status=facts(
            {f"{s.label} ({n})": STATUS_MEANING[s] for s, n in status_counts(profile).items()}
        ),
        warnings=_warnings(record["warnings"]),
        table=profile_table(profile, sed_type),
        provenance=_provenance(record),
        config=escaped(record["config_as_given"]),
    )


def _figure(name: str, caption: str, png: bytes) -> str:
    data = base64.b64encode(png).decode()
    text = escaped(caption)
    image = f'<img alt="{text}" src="data:image/png;base64,{data}">'
    return f'<figure id="{escaped(name)}">{image}<figcaption>{text}</figcaption></figure>'


def _warnings(texts: list[str]) -> str:
    if not texts:
        return "<p>None.</p>"
    return f'<ul class="warnings">{"".join(f"<li>{escaped(text)}</li>" for text in texts)}</ul>'


def _provenance(record: Mapping[str, Any]) -> str:
    rows = {
        "Command": " ".join(record["command"]),
        "Started": record["started"],
        "Time for reading and fits": f"{record['seconds']} s",
        "Device": record["device"],
        "Platform": record["platform"],
        "Versions": ", ".join(f"{name} {number}" for name, number in record["versions"].items()),
    }
    inputs = [(entry["path"], entry["bytes"], entry["sha256"]) for entry in record["inputs"]]
    shown = table(("input", "bytes", "SHA-256"), inputs, numeric=False)
    return f'{facts(rows)}<div class="scroll" tabindex="0">{shown}</div>'
