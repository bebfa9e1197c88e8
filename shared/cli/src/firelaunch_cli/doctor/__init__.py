"""Looks at a machine, an app and its project, and says what is wrong with the mend. Changes nothing."""
