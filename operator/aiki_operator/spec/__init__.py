"""What users ask for in custom resources, as values with their defaults."""
