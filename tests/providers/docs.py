"""Write the table of docs/providers.md from the quirks: ``python -m providers.docs``, which ``make docs`` runs."""

from __future__ import annotations

from support import ROOT

from .quirks import QUIRKS

__all__ = ["PAGE", "page"]

PAGE = ROOT / "docs" / "providers.md"
_BEGIN = "| what the server does | modelled on | what firelaunch does |\n| --- | --- | --- |\n"


def page() -> str:
    """Return the page with a table that has every quirk."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    rows = (f"| {quirk.name} | {', '.join(quirk.servers)} | {quirk.becomes} |\n" for quirk in QUIRKS)
    after = rest[rest.index("\n\n") + 1 :]
    return f"{before}{_BEGIN}{''.join(rows)}{after}"


if __name__ == "__main__":
    PAGE.write_text(page())
