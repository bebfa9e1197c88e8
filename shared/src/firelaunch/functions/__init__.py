"""What Cloud Functions run: HTTP and events in front of the same rooms that the services use."""
