"""What all bodies have in common: they are immutable, and only an answer may say more than its reader knows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Wire(BaseModel):
    """Base of the wire models: immutable, unknown members refused; each is built when it is first used, for most programs use few."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class WireAnswer(Wire):
    """What a server answers: a later release may say more, and whoever is of this one goes on without it."""

    model_config = ConfigDict(extra="ignore")
