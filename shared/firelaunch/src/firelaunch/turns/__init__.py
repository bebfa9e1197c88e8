"""Answer one message: admit it, run the workflow, settle what it cost. The routes are in :mod:`firelaunch.api`."""
