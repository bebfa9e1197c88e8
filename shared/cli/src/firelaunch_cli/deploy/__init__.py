"""From an app's folder to Cloud Run: a build folder, a plan of gcloud and firebase commands, and what runs it."""
