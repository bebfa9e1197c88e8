"""Every token x path x operation of the data model against the security rules; one table says what is allowed."""
