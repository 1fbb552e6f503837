"""Postgres and Valkey from wheels on this machine, for `aiki dev`, the tests and the benchmarks; no server in production imports it."""
