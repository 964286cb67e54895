"""TensorBoard, by tensorboardX: event files in `tensorboard/training` and `tensorboard/pictures`.

Events are written one after the other, without the thread that a `SummaryWriter` leaves them to: what goes wrong is raised where
it can be told, and a row that has been written is in the file.
"""

from __future__ import annotations

import io
import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto import event_pb2, summary_pb2
from tensorboardX.summary import text

from aecli.config.schema import to_yaml
from aecli.training.writers import Place, scalars

if TYPE_CHECKING:
    from PIL.Image import Image

Event: Any = event_pb2.__dict__["Event"]
SessionLog: Any = event_pb2.__dict__["SessionLog"]
Summary: Any = summary_pb2.__dict__["Summary"]
"""Classes that are made when their modules are imported: no checker of types knows them."""


class TensorBoard:
    def __init__(self, place: Place) -> None:
        folder = place.folder / place.part
        folder.mkdir(exist_ok=True)
        if place.part == "training":
            for old in folder.glob("events.out.tfevents.*"):
                old.unlink()
        # Whatever draws two pictures in a second has two files.
        self._file = EventsWriter(str(folder / "events"), f".{secrets.token_hex(4)}")
        if place.part == "training":
            # A TensorBoard that has read the old file forgets it: all from step 0 on is purged.
            self._write(Event(wall_time=time.time(), step=0, session_log=SessionLog(status=SessionLog.START)))

    def _write(self, event: Any) -> None:
        self._file.write_event(event)
        self._file.flush()

    def config(self, settings: Mapping[str, Any]) -> None:
        lines = to_yaml(settings).splitlines()
        shown = "".join(f"    {line}\n" for line in lines)  # code, in Markdown
        self._write(Event(wall_time=time.time(), step=0, summary=text("config", shown)))

    def row(self, row: Mapping[str, Any], at: float) -> None:
        found = [Summary.Value(tag=name, simple_value=value) for name, value in scalars(row).items()]
        self._write(Event(wall_time=at, step=row["step"], summary=Summary(value=found)))

    def picture(self, name: str, picture: Image, step: int) -> None:
        buffer = io.BytesIO()
        picture.save(buffer, "PNG")
        image = Summary.Image(
            height=picture.height,
            width=picture.width,
            colorspace=len(picture.getbands()),
            encoded_image_string=buffer.getvalue(),
        )
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=[Summary.Value(tag=name, image=image)])))

    def close(self) -> None:
        self._file.close()


def open_tracker(place: Place) -> TensorBoard:
    return TensorBoard(place)
