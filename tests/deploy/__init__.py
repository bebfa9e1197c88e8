"""The way from an app's folder to the cloud."""
