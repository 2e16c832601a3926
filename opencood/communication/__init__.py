"""What agents tell each other: messages, the bytes they really cost, and the channel they go through."""

from opencood.communication.channel import Channel
from opencood.communication.codec import decode, encode
from opencood.communication.message import Message
from opencood.communication.meter import Meter
from opencood.communication.settings import ChannelSettings

__all__ = ["Channel", "ChannelSettings", "Message", "Meter", "decode", "encode"]
