"""Which engines are measured: those that settings know, each in its precisions, plain eager always."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from hspc_live.bench.engine_choice import Asked, choices, engine_overrides, kinds
from hspc_live.core.errors import SettingsError
from hspc_live.settings import schema
from hspc_live.settings.base import Section
from hspc_live.settings.schema import NullEngine, TorchEager

ASKED = Asked("twin-lsm", "cpu", 1, (1, 4))


def test_every_kind_of_the_settings_is_known():
    assert {"null", "torch"} <= kinds().keys() and kinds()["torch"] is TorchEager


def test_all_means_neither_the_one_that_does_nothing_nor_a_choice_among_the_rest():
    names = [choice.name for choice in choices(None, ASKED)]
    assert names[0] == "torch" and "null" not in names and "auto" not in names


def test_plain_eager_stands_beside_whatever_is_asked():
    eager, null = choices(["null"], ASKED)
    assert eager.name == "torch" and isinstance(null.settings, NullEngine)
    assert (eager.settings.threads, eager.settings.buckets, eager.settings.device) == (1, (1, 4), "cpu")


@pytest.mark.parametrize("name", ["onyx", "torch/int3", ""])
def test_an_unknown_engine_is_refused_with_those_that_are_known(name):
    with pytest.raises(SettingsError, match="known"):
        choices([name], ASKED)


def test_a_kind_that_settings_gain_is_measured_in_each_of_its_precisions(monkeypatch):
    class Quick(Section):
        kind: Literal["quick"]
        precision: Literal["auto", "fp32", "int8"] = "auto"
        threads: int = 2
        buckets: tuple[int, ...] = (1, 4, 16)

    union = Annotated[TorchEager | NullEngine | Quick, Field(discriminator="kind")]
    monkeypatch.setattr(schema, "Engine", union)
    found = {choice.name: choice.settings for choice in choices(None, ASKED)}
    assert found.keys() == {"torch", "quick/fp32", "quick/int8"}
    assert found["quick/int8"].precision == "int8" and found["quick/int8"].threads == 1
    assert found["quick/int8"].buckets == (1, 4, 16), "it keeps those that it was built for"
    (_, only) = choices(["quick/int8"], Asked("twin-lsm", "cpu", 1, (1, 5)))
    assert only.name == "quick/int8" and only.settings.buckets == (1, 5)
    assert engine_overrides("quick/int8") == ["engine.kind=quick", "engine.precision=int8"]
