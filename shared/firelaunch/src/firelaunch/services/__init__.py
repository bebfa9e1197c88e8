"""The services that routes, workflows and jobs are handed, and the one place that builds them."""
