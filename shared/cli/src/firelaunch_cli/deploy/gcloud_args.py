"""Arguments after ``--``: gcloud gets them unchanged, except maps, for which gcloud takes each flag once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from .gcloud import CommandFailed

__all__ = ["joined", "variables_in"]

_KINDS = ("env-vars", "secrets", "labels")
_SEPARATORS = ",;|#~@%"
_FLAGS = {
    **{f"--set-{kind}": f"--set-{kind}" for kind in _KINDS[:2]},
    **{f"--update-{kind}": f"--set-{kind}" for kind in _KINDS[:2]},
    "--labels": "--labels",
    "--update-labels": "--labels",
}
"""gcloud refuses --update-env-vars beside --set-env-vars, and likewise with secrets and labels, so that what a person
adds goes into the flag that is there."""


def joined(own: Sequence[str], more: Sequence[str]) -> tuple[str, ...]:
    """Both as one command line. What a person gives for a name comes before the deploy's own.

    Args:
        own: each flag with its value in one argument.

    Raises:
        CommandFailed: a map is not of gcloud's form.
    """
    rest, added = _taken(more)
    flags = list(own)
    for name, pairs in added.items():
        at = next((i for i, flag in enumerate(flags) if flag.startswith(f"{name}=")), None)
        there = _parsed(name, flags[at].partition("=")[2]) if at is not None else {}
        flag = f"{name}={_written({**there, **pairs})}"
        flags[len(flags) if at is None else at : len(flags) if at is None else at + 1] = [flag]
    return (*flags, *rest)


def variables_in(more: Sequence[str]) -> dict[str, str]:
    """Return the environment variables that the arguments give a service; a secret's value is where it is kept.

    Raises:
        CommandFailed: a map is not of gcloud's form.
    """
    added = _taken(more)[1]
    return {**added.get("--set-env-vars", {}), **added.get("--set-secrets", {})}


def _taken(more: Sequence[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """Return the arguments without the maps, and the maps by their flag."""
    rest: list[str] = []
    added: dict[str, dict[str, str]] = {}
    arguments: Iterator[str] = iter(more)
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if name in _FLAGS:
            pairs = _parsed(name, value if equals else next(arguments, ""))
            added.setdefault(_FLAGS[name], {}).update(pairs)
        else:
            rest.append(argument)
    return rest, added


def _parsed(flag: str, text: str) -> dict[str, str]:
    """A map in gcloud's form, with another sign than the comma between carets first (gcloud topic escaping)."""
    separator = ","
    if text.startswith("^") and "^" in text[2:]:
        separator, _, text = text[1:].partition("^")
    pairs = [item.partition("=") for item in text.split(separator) if item]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        raise CommandFailed(f"{flag} wants NAME=VALUE, several with commas between", "correct what comes after --")
    return {name: value for name, _, value in pairs}


def _written(pairs: Mapping[str, str]) -> str:
    values = "".join(pairs.values())
    separator = next((sign for sign in _SEPARATORS if sign not in values), None)
    if separator is None:
        raise CommandFailed("the values after -- hold every sign that could stand between them", "give fewer of them")
    text = separator.join(f"{name}={value}" for name, value in pairs.items())
    return text if separator == "," else f"^{separator}^{text}"
