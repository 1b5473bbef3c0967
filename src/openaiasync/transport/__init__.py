"""Moving bytes: the border (`base`), connections of our own (`tcp`), adapters, and a fake for tests."""
