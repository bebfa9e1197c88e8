"""Refuse answers that could not work later; cookiecutter then removes what it had begun."""

import json
import re
import sys

ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")

SLUG = re.compile(r"[a-z](?:[a-z0-9-]{0,47}[a-z0-9])?")
PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")
REGION = re.compile(r"[a-z]+(?:-[a-z]+)+[0-9]+")


def problems():
    slug, project, region = (ANSWERS[name] for name in ("app_slug", "project", "region"))
    if not SLUG.fullmatch(slug):
        yield f"app_slug {slug!r} is no name for a Cloud Run service: 1 to 49 lower-case letters, digits and hyphens, a letter first, no hyphen last."
    if project and not PROJECT.fullmatch(project):
        yield f"project {project!r} is no Google Cloud project id: 6 to 30 lower-case letters, digits and hyphens. Leave it empty if there is none yet."
    if not REGION.fullmatch(region):
        yield f"region {region!r} is no Google Cloud region; one is 'europe-west1'."
    for name, most in (("app_name", 100), ("description", 500)):
        text = ANSWERS[name]
        if len(text) > most:
            yield f"{name} has {len(text)} characters; at most {most} are allowed."
        if any(ord(character) < 32 or ord(character) == 127 for character in text):
            yield f"{name} holds a line break or another control character."
    if not ANSWERS["app_name"].strip():
        yield "app_name is empty."


found = list(problems())
for problem in found:
    print(f"Not made: {problem}", file=sys.stderr)
sys.exit(1 if found else 0)
