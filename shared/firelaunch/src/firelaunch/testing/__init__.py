"""Working small implementations of what an app leans on, for tests: emulators, model servers, certificates, users.

Import them from their modules; the pytest plugin (:mod:`.plugin`) is loaded wherever firelaunch is installed.
"""
