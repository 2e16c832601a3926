"""What agents tell each other: messages, the bytes they really cost, and the channel they go through."""

from opencood.communication.channel import Channel
from opencood.communication.codec import decode, encode
from opencood.communication.message import Message
from opencood.communication.meter import Meter

__all__ = ["Channel", "Message", "Meter", "decode", "encode"]
