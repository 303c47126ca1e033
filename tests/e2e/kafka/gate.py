#!/usr/bin/env python3
"""What a cluster of Kafka has before it that wants TLS and a password (KIP-43, KIP-152), before one that wants neither.

Listens at 127.0.0.2, at the port of each broker at 127.0.0.1, and passes on what it is told by whoever has shown the password;
where a broker says 127.0.0.1, as it does of where it is, the gate says 127.0.0.2. Tells {"ready": true} as a JSON line, then for each who comes in
by what mechanism. Ends with its input. SCRAM is checked by scramp.

    pip install -r requirements.txt
    gate.py CERT KEY USER PASSWORD PORT...
"""

import asyncio
import json
import ssl
import struct
import sys

from scramp import ScramException, ScramMechanism

HANDSHAKE, VERSIONS, AUTHENTICATE = 17, 18, 36
UNSUPPORTED_MECHANISM, WRONG = 33, 58
MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
FRAME_MAX = 4 << 20


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text)) + text.encode()


async def frame(reader):
    (length,) = struct.unpack(">i", await reader.readexactly(4))
    if not 0 <= length <= FRAME_MAX:
        raise ValueError(f"a frame of {length} octets")
    return await reader.readexactly(length)


def send(writer, content):
    writer.write(struct.pack(">i", len(content)) + content)


def body(request):
    """What stands behind the number of the request and the name of the client."""
    (length,) = struct.unpack_from(">h", request, 8)
    return request[10 + max(length, 0) :]


def with_sasl(answer, version):
    """The list of what a broker understands, and with it what the gate does."""
    ours = [struct.pack(">hhh", HANDSHAKE, 0, 1), struct.pack(">hhh", AUTHENTICATE, 0, 1)]
    if version < 3:
        (count,) = struct.unpack_from(">i", answer, 6)
        return answer[:6] + struct.pack(">i", count + 2) + b"".join(ours) + answer[10:]
    # One more than there are, as seven bits in an octet.
    count, at, shift = 0, 6, 0
    while True:
        count |= (answer[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if answer[at - 1] < 0x80:
            break
    count, number = count + 2, b""
    while count >= 0x80:
        number, count = number + bytes([count & 0x7F | 0x80]), count >> 7
    return answer[:6] + number + bytes([count]) + b"".join(one + b"\0" for one in ours) + answer[at:]


class Gate:
    def __init__(self, user, password):
        self.user, self.password = user, password
        self.known = {name: ScramMechanism(name).make_auth_info(password) for name in MECHANISMS[1:]}

    def login(self, mechanism):
        """Takes what a client says, gives what it is to be answered; ends when it has shown who it is."""
        first = yield
        if mechanism == "PLAIN":
            if first.split(b"\0") != [b"", self.user.encode(), self.password.encode()]:
                raise ScramException("the password is wrong")
            yield b""
            return
        server = ScramMechanism(mechanism).make_server(self.look_up(mechanism))
        server.set_client_first(first.decode())
        final = yield server.get_server_first().encode()
        server.set_client_final(final.decode())
        yield server.get_server_final().encode()

    def look_up(self, mechanism):
        def look_up(user):
            if user != self.user:
                raise ScramException("nobody has that name")
            return self.known[mechanism]

        return look_up

    async def versions(self, request, backend):
        reader, writer = backend
        send(writer, request)
        return with_sasl(await frame(reader), struct.unpack_from(">h", request, 2)[0])

    async def check(self, reader, writer, backend):
        """Whether the client shows the password."""
        mechanism, login = None, None
        while True:
            request = await frame(reader)
            key, _, number = struct.unpack_from(">hhi", request)
            number = struct.pack(">i", number)
            if key == VERSIONS:
                send(writer, await self.versions(request, backend))
            elif key == HANDSHAKE:
                wanted = body(request)[2:].decode()
                fault = 0 if wanted in MECHANISMS else UNSUPPORTED_MECHANISM
                list_of_all = struct.pack(">i", len(MECHANISMS)) + b"".join(map(string, MECHANISMS))
                send(writer, number + struct.pack(">h", fault) + list_of_all)
                if fault == 0:
                    mechanism, login = wanted, self.login(wanted)
                    next(login)
            elif key == AUTHENTICATE and login is not None:
                try:
                    said = login.send(body(request)[4:])
                except (ScramException, StopIteration):
                    send(writer, number + struct.pack(">h", WRONG) + string("Authentication failed") + struct.pack(">iq", 0, 0))
                    await writer.drain()
                    return None
                answer = number + struct.pack(">h", 0) + string(None) + struct.pack(">i", len(said)) + said
                version = struct.unpack_from(">h", request, 2)[0]
                send(writer, answer + (struct.pack(">q", 0) if version else b""))
                if mechanism == "PLAIN" or said.startswith(b"v="):
                    return mechanism
            else:
                return None
            await writer.drain()

    async def serve(self, reader, writer, port):
        backend = await asyncio.open_connection("127.0.0.1", port)
        try:
            mechanism = await self.check(reader, writer, backend)
            if mechanism is not None:
                print(json.dumps({"mechanism": mechanism}), flush=True)
                await asyncio.gather(self.there(reader, backend[1]), self.back(backend[0], writer))
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            pass
        finally:
            writer.close()
            backend[1].close()

    async def there(self, reader, writer):
        while True:
            send(writer, await frame(reader))
            await writer.drain()

    async def back(self, reader, writer):
        while True:
            send(writer, (await frame(reader)).replace(b"127.0.0.1", b"127.0.0.2"))
            await writer.drain()


async def main(cert, key, user, password, ports):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    gate = Gate(user, password)
    for port in map(int, ports):
        serve = lambda reader, writer, port=port: gate.serve(reader, writer, port)
        await asyncio.start_server(serve, "127.0.0.2", port, ssl=context)
    print(json.dumps({"ready": True}), flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    asyncio.run(main(*sys.argv[1:5], sys.argv[5:]))
