"""The bench's film at another rate: everything that hangs on the frame rate goes with it.

Between two frames a cell moves as far as before, so every picture and every track is the same and only the time between
them changes. The time from a cell's last look to the junction stays, too.
"""

from __future__ import annotations

from hspc_live.core.errors import SettingsError
from hspc_live.settings.devices import LoopedCamera
from hspc_live.settings.schema import RunSettings


def looped(settings: RunSettings) -> LoopedCamera:
    """The looped camera of a bench's settings. Raises SettingsError if they name another one."""
    if not isinstance(settings.camera, LoopedCamera):
        raise SettingsError(
            f"camera.kind is {settings.camera.kind}; `bench pipeline` needs camera.kind: looped, as in "
            "benchmarks/pipeline_null"
        )
    return settings.camera


def unpaced(settings: RunSettings) -> RunSettings:
    """`settings` with the film played as fast as it is taken."""
    camera = looped(settings).model_copy(update={"paced": False})
    return settings.model_copy(update={"camera": camera})


def at_rate(settings: RunSettings, frames_per_s: float, seconds: float) -> RunSettings:
    """`settings` with the film played by the clock, `frames_per_s` for `seconds`. Raises SettingsError as `looped`."""
    camera = looped(settings)
    faster = frames_per_s / camera.twin.frames_per_s
    twin = camera.twin.model_copy(
        update={
            "frames_per_s": frames_per_s,
            "velocity_um_s": camera.twin.velocity_um_s * faster,
            "junction_um": camera.twin.junction_um * faster,
            "events_per_s": camera.twin.events_per_s * faster,
        }
    )
    played = camera.model_copy(update={"twin": twin, "frames": max(1, round(frames_per_s * seconds)), "paced": True})
    track, timing = settings.sort.track, settings.sort.timing
    sort = settings.sort.model_copy(
        update={
            "track": track.model_copy(
                update={
                    "velocity_um_s": track.velocity_um_s * faster,
                    "velocity_sd_um_s": track.velocity_sd_um_s * faster,
                }
            ),
            "timing": timing.model_copy(update={"junction_um": timing.junction_um * faster}),
        }
    )
    population = settings.population.model_copy(update={"events_per_s": settings.population.events_per_s * faster})
    return settings.model_copy(update={"camera": played, "sort": sort, "population": population})
