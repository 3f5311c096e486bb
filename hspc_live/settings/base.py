"""What every settings section has in common: frozen, no unknown keys, and no truth value taken for a number."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

_NUMBERS = (float, int, float | None, int | None)


class Section(BaseModel):
    """A part of a settings file. Unknown keys are errors, values cannot change after loading."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_truth_for_numbers(cls, data: Any) -> Any:
        """Turn `true` where a number is wanted into text, which is refused: YAML reads `yes` and `on` as truth values.

        Python would count them as 1. A field validator would be plainer, but pydantic allows none on a union's tag.
        """
        if not isinstance(data, dict):
            return data
        fields = cls.model_fields
        return {
            key: str(value).lower()
            if isinstance(value, bool) and key in fields and fields[key].annotation in _NUMBERS
            else value
            for key, value in data.items()
        }
