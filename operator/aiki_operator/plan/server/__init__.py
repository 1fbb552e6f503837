"""What is to be done for an AikiServer: credentials, databases, backups, the migration, then the server itself."""
