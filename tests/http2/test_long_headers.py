"""Header lists as long as the patterns of a build make them."""

from __future__ import annotations

from h2.settings import SettingCodes
from scripted_peer import h2_client, request
from tricky_cases import tricky

from buildkit_session.http2.core import MAX_HEADER_LIST, Core
from buildkit_session.http2.events import StreamOpened


def size(field: tuple[bytes, bytes]) -> int:
    """Bytes that a field counts: RFC 9113, section 6.5.2."""
    name, value = field
    return len(name) + len(value) + 32


@tricky(8)
def test_what_is_announced_is_accepted() -> None:
    """A list of just the size that our SETTINGS allow, which is far above what decoders take by default."""
    core, client = Core(), h2_client()
    client.initiate_connection()
    core.receive_data(client.data_to_send())
    client.receive_data(b"".join(core.data_to_send(0)))
    announced = client.remote_settings[SettingCodes.MAX_HEADER_LIST_SIZE]
    assert announced == MAX_HEADER_LIST >= 1 << 20

    fields = request()
    pattern = (b"exclude-patterns", b"p" * 1000)
    left = announced - sum(map(size, fields))
    fields += [pattern] * (left // size(pattern))
    client.send_headers(1, fields)

    [opened] = core.receive_data(client.data_to_send())
    assert isinstance(opened, StreamOpened)
    assert opened.headers == fields
