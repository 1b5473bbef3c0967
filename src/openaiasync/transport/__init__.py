"""Transports: the interface (`base`), the library's own TCP transport (`tcp`), adapters, and a fake for tests."""
