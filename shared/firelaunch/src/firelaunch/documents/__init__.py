"""Documents of users and of the app: the catalog, arriving files, re-embedding and erasing."""
