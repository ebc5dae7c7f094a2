"""The checks, by what they are about. Each takes a :class:`Variant`; its first line says what it promises."""
