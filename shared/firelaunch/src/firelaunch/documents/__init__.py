"""Documents of users and of the app: the catalog, files on their way in, re-embedding and erasing."""
