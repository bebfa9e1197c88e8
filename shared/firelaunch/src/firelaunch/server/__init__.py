"""The Flask app, and how gunicorn runs it. :mod:`firelaunch.api` has the routes."""
