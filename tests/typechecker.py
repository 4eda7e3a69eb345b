"""The run-time type checker of the tests: an int is welcome where a float is wanted, as in Python."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
