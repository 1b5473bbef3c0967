"""The official client's helpers: several requests as one call, streams with accumulated events, parsed answers.

Modules named after a namespace hold what generated namespaces inherit, and import the rest when it is called.
"""
