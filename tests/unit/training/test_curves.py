"""The events file that TensorBoard reads."""

import struct

from tensorboardX.proto.event_pb2 import Event, SessionLog

from opencood.training.curves import Curves


def events(folder):
    (file,) = folder.glob("events.out.tfevents.*")
    content, found, at = file.read_bytes(), [], 0
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)  # then a checksum, the event, a checksum
        found.append(Event.FromString(content[at + 12 : at + 12 + length]))
        at += length + 16
    return found


def test_points_and_a_purge(tmp_path):
    curves = Curves(tmp_path, purge_step=7)
    curves.add("Regression_loss_single", 0.25, 8)
    curves.close()
    version, purge, point = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (purge.step, purge.session_log.status) == (7, SessionLog.START)
    (value,) = point.summary.value
    assert (point.step, value.tag, value.simple_value) == (8, "Regression_loss_single", 0.25)
