"""The base Struct of answers, its serialisation, metadata of a call, header fields, secrets."""
