"""The typed values that Python and JavaScript exchange. ``types`` and ``measurement_types`` declare them; the other
modules build them.

``assets/js`` has a JSDoc typedef of the same name for each type. Keys are the same in both languages.
"""
