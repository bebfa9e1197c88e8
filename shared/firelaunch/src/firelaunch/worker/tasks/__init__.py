"""The kinds of jobs that firelaunch brings along, with their handlers."""
