"""JSON schemas: from Python types, checked, and used to validate values."""
