"""Provide small working replacements of an app's services for tests: emulators, model servers, certificates, users.

Import them from their modules. pytest loads the plugin (:mod:`.plugin`) wherever firelaunch is installed.
"""
