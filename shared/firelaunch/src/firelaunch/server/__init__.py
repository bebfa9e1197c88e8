"""Build the Flask app and run it under gunicorn. :mod:`firelaunch.api` has the routes."""
