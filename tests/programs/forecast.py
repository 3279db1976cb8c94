"""A forecast with checked settings: a flow with typed parameters."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from prefectish import flow, task


class Place(BaseModel):
    name: str
    latitude: float = Field(ge=-90, le=90)


@task
def predict(place, day, unit):
    celsius = 25 - abs(place.latitude) / 10 + day
    return round(celsius if unit == "C" else celsius * 9 / 5 + 32, 1)


@flow(validate_parameters=True)
def forecast(place: Place, start: date, days: int = 3, unit: Literal["C", "F"] = "C", note: str | None = None):
    predicted = predict.map([place] * days, range(days), [unit] * days).result()
    return {"place": place.name, "from": start.isoformat(), "predicted": predicted, "note": note}
