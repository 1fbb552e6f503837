"""How Postgres fails, by the driver's classes: whoever repeats, gives up or answers 503 tells them apart by these."""

from __future__ import annotations

import asyncpg

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says of a connection that was ended while it lay idle
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
    OSError,
    TimeoutError,
)
"""The database is away, full, or no primary any more, or a connection was lost: what was under way may or may not have been committed."""


MISCONFIGURED = (asyncpg.ClientConfigurationError,)
"""The URL makes no sense; it never will."""


COLLIDED = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError, asyncpg.LockNotAvailableError)
"""Two transactions stood in each other's way; this one was rolled back."""
