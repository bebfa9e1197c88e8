"""The bundle of services for routes, workflows and jobs, and the one place that builds it."""
