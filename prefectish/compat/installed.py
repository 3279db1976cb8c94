"""Installs `prefect` where it is imported: a worker imports it before it unpickles a body."""

from prefectish.compat import install

install()
