"""The version of the package; it is defined only here."""

__version__ = "0.2.0"
