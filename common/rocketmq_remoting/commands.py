"""Commands: the meaning of a frame's header, in both serializations, without I/O.

An inbound header is decoded in two steps: the envelope first, the extension fields (still raw) when a handler says which type
they have. Values in ``extFields`` are always written as strings, for the Go client reads nothing else; on reading, numbers,
booleans and nulls that Java tolerates are tolerated too.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from rocketmq_common import javajson, versions
from rocketmq_remoting.errors import FrameError, HeaderError
from rocketmq_remoting.frames import SERIALIZE_JSON, SERIALIZE_ROCKETMQ, Frame, frame_head

FLAG_RESPONSE: Final = 1
FLAG_ONEWAY: Final = 2

LANGUAGES: Final = (
    "JAVA", "CPP", "DOTNET", "PYTHON", "DELPHI", "ERLANG", "RUBY", "OTHER", "HTTP", "GO", "PHP", "OMS", "RUST", "NODE_JS",
)  # fmt: skip
OWN_LANGUAGE: Final = "PYTHON"
_OWN_LANGUAGE_CODE: Final = LANGUAGES.index(OWN_LANGUAGE)


class Header(msgspec.Struct, kw_only=True, gc=False, rename="camel"):
    """Base of all typed header contents. Optional fields that are ``None`` are not written."""


H = TypeVar("H", bound=Header)
Buffer = bytes | bytearray | memoryview
_EMPTY_EXT: Final = msgspec.Raw(b"{}")


class Command(msgspec.Struct, gc=False):
    """One command as received. ``flag`` tells requests from responses and marks one-way requests."""

    code: int = 0
    flag: int = 0
    opaque: int = 0
    version: int = 0
    language: str | None = "JAVA"
    remark: str | None = None
    ext: msgspec.Raw = msgspec.field(default=_EMPTY_EXT, name="extFields")
    # Set by the receiving connection; the odd wire names keep a peer from meaning them by accident.
    body: bytes = msgspec.field(default=b"", name="<body>")
    received: float = msgspec.field(default=0.0, name="<received>")
    # Bytes of the body, while the connection counts it as held for a request that is not answered yet.
    kept_size: int = msgspec.field(default=0, name="<kept>")
    # The whole header, where ``ext`` was decoded with the envelope at once (`header_plan`) and cannot be read again.
    raw: bytes = msgspec.field(default=b"", name="<raw>")

    @property
    def is_response(self) -> bool:
        """Whether this answers a request of ours."""
        return self.flag & FLAG_RESPONSE != 0

    @property
    def is_oneway(self) -> bool:
        """Whether nobody waits for an answer: none may be sent, not even an error."""
        return self.flag & FLAG_ONEWAY != 0

    def header(self, header_type: type[H]) -> H:
        """The extension fields as ``header_type``; raises HeaderError naming the field that is missing or wrong."""
        ext: Any = self.ext
        if type(ext) is header_type:
            return ext
        try:
            return header_decoder(header_type)(self.raw_ext())
        except DECODE_ERRORS:
            return self._header_leniently(header_type)

    def raw_ext(self) -> msgspec.Raw:
        """The extension fields as JSON, also where they were decoded with the envelope."""
        ext: Any = self.ext
        return ext if type(ext) is msgspec.Raw else decode_envelope(self.raw).ext

    def ext_fields(self) -> dict[str, str]:
        """All extension fields as text, in the order received; nulls are left out."""
        try:
            raw = javajson.loads(self.raw_ext())
        except javajson.JavaJsonError as error:
            raise HeaderError(f"extFields of request {self.code}: {error}") from error
        if raw is None:
            return {}
        if not isinstance(raw, dict):
            raise HeaderError(f"extFields of request {self.code} are no object")
        return {str(name): _as_text(value) for name, value in raw.items() if value is not None}

    def _header_leniently(self, header_type: type[H]) -> H:
        fields: dict[str, Any] = dict(self.ext_fields())
        for name in _boolean_fields(header_type):
            if name in fields:
                # Java's parseBoolean: whatever is not "true" is false.
                fields[name] = fields[name].lower() == "true"
        try:
            return msgspec.convert(fields, header_type, strict=False)
        except msgspec.ValidationError as error:
            raise HeaderError(f"request {self.code}: {error}") from error


class Response(msgspec.Struct, gc=False):
    """An answer to be sent.

    ``ext`` is a header, a map of texts, or ready JSON (an object whose values are strings: the hot paths write it themselves).
    ``body`` is one buffer or several that are sent one after another; memoryviews must stay valid until written.
    """

    code: int = 0
    ext: Header | Mapping[str, str] | bytes | None = None
    remark: str | None = None
    body: Buffer | list[Buffer] = b""


_DECODERS: dict[type[Header], msgspec.json.Decoder[Any]] = {}
_WHOLE_DECODERS: dict[type[Header], msgspec.json.Decoder[Any]] = {}
_BOOLEAN_FIELDS: dict[type[Header], list[str]] = {}
_ENVELOPE: Final = msgspec.json.Decoder(Command)
_encode_json: Final = msgspec.json.Encoder().encode
_BINARY: Final = struct.Struct(">hbhiii")


# What the two decoders below raise; `decode_command` and `Command.header` then try what Java also accepts.
DECODE_ERRORS: Final = (msgspec.DecodeError, UnicodeDecodeError)
# The envelope of a JSON header in its usual form.
decode_envelope: Final = _ENVELOPE.decode


def header_decoder(header_type: type[H]) -> Callable[[bytes | msgspec.Raw], H]:
    """Decodes extension fields in their usual form as ``header_type``."""
    decoder = _DECODERS.get(header_type)
    if decoder is None:
        decoder = _DECODERS[header_type] = msgspec.json.Decoder(header_type, strict=False)
    return decoder.decode


def whole_decoder(header_type: type[H]) -> Callable[[bytes], Command]:
    """Decodes a JSON header with its extension fields as ``header_type`` (in ``ext``) in one pass, a third cheaper than in two."""
    decoder = _WHOLE_DECODERS.get(header_type)
    if decoder is None:
        kind = msgspec.defstruct(
            f"{header_type.__name__}Command",
            [("ext", header_type, msgspec.field(name="extFields"))],
            bases=(Command,),
            kw_only=True,
            gc=False,
        )
        decoder = _WHOLE_DECODERS[header_type] = msgspec.json.Decoder(kind, strict=False)
    return decoder.decode


def decode_command(frame: Frame) -> Command:
    """Understand a frame's header; raises FrameError when it is no command in any serialization."""
    serialize_type, header, body = frame
    if serialize_type == SERIALIZE_JSON:
        try:
            command = _ENVELOPE.decode(header)
        except DECODE_ERRORS:
            command = _decode_envelope_leniently(header)
    elif serialize_type == SERIALIZE_ROCKETMQ:
        command = _decode_binary(header)
    else:
        raise FrameError(f"serialization type {serialize_type} is unknown (0 JSON, 1 ROCKETMQ)")
    command.body = body
    return command


def encode_request(
    code: int,
    opaque: int,
    ext: Header | Mapping[str, str] | bytes | None = None,
    body: Buffer = b"",
    *,
    oneway: bool = False,
    version: int = versions.CURRENT,
    language: str = OWN_LANGUAGE,
    remark: str | None = None,
) -> bytes:
    """The whole frame of a request, JSON header."""
    header = (
        f'{{"code":{code},"extFields":'.encode()
        + encode_ext(ext)
        + (
            f',"flag":{FLAG_ONEWAY if oneway else 0},"language":"{language}","opaque":{opaque},'
            f'"serializeTypeCurrentRPC":"JSON","version":{version}'
        ).encode()
    )
    header += b"}" if remark is None else b',"remark":' + _encode_json(remark) + b"}"
    return b"".join((frame_head(len(header), len(body), SERIALIZE_JSON), header, body))


_RESPONSE_TAIL: Final = b',"serializeTypeCurrentRPC":"JSON","version":%d}' % versions.CURRENT
# A successful answer without remark and body, to be filled with (extension fields, opaque).
PLAIN_ANSWER: Final = b'{"code":0,"extFields":%b,"flag":1,"language":"PYTHON","opaque":%d' + _RESPONSE_TAIL


def encode_response(opaque: int, response: Response) -> list[Buffer]:
    """The frame of an answer as buffers: head and header in the first, then the body's."""
    ext = response.ext
    if type(ext) is not bytes:
        ext = encode_ext(ext)
    if response.remark is None:
        header = b'{"code":%d,"extFields":%b,"flag":1,"language":"PYTHON","opaque":%d%b' % (
            response.code, ext, opaque, _RESPONSE_TAIL,
        )  # fmt: skip
    else:
        header = b'{"code":%d,"extFields":%b,"flag":1,"language":"PYTHON","opaque":%d,"remark":%b%b' % (
            response.code, ext, opaque, _encode_json(response.remark), _RESPONSE_TAIL,
        )  # fmt: skip
    body = response.body
    if type(body) is list:
        size = sum(map(len, body))
        return [frame_head(len(header), size, SERIALIZE_JSON) + header, *body]
    if body:
        return [frame_head(len(header), len(body), SERIALIZE_JSON) + header, body]  # type: ignore[list-item]
    return [frame_head(len(header), 0, SERIALIZE_JSON) + header]


def encode_binary(command: Command) -> bytes:
    """A frame in the ROCKETMQ serialization; raises FrameError for codes beyond 16 bits, which it cannot carry."""
    if not -32768 <= command.code <= 32767:
        raise FrameError(f"code {command.code} does not fit the ROCKETMQ serialization (16 bits)")
    parts: list[bytes] = []
    for name, value in command.ext_fields().items():
        encoded_name, encoded_value = name.encode(), value.encode()
        parts += (
            struct.pack(">h", len(encoded_name)),
            encoded_name,
            struct.pack(">i", len(encoded_value)),
            encoded_value,
        )
    ext = b"".join(parts)
    remark = (command.remark or "").encode()
    language = LANGUAGES.index(command.language) if command.language in LANGUAGES else LANGUAGES.index("OTHER")
    header = b"".join(
        (
            _BINARY.pack(command.code, language, command.version, command.opaque, command.flag, len(remark)),
            remark,
            struct.pack(">i", len(ext)),
            ext,
        )
    )
    return frame_head(len(header), len(command.body), SERIALIZE_ROCKETMQ) + header + command.body


def encode_ext(ext: Header | Mapping[str, str] | bytes | None) -> bytes:
    """Extension fields as a JSON object whose values are all strings."""
    if ext is None:
        return b"{}"
    if isinstance(ext, bytes):
        return ext
    if isinstance(ext, Header):
        return _encode_json(header_fields(ext))
    return _encode_json(ext)


def header_fields(header: Header) -> dict[str, str]:
    """Wire name → text of every field that is set."""
    pairs: Iterable[tuple[str, str]] = zip(header.__struct_encode_fields__, header.__struct_fields__, strict=True)
    return {wire: _as_text(value) for wire, name in pairs if (value := getattr(header, name)) is not None}


def _as_text(value: Any) -> str:
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    return _encode_json(value).decode()


def _boolean_fields(header_type: type[Header]) -> list[str]:
    found = _BOOLEAN_FIELDS.get(header_type)
    if found is None:
        info = msgspec.structs.fields(header_type)
        found = _BOOLEAN_FIELDS[header_type] = [f.encode_name for f in info if f.type in (bool, bool | None)]
    return found


def _decode_envelope_leniently(header: bytes) -> Command:
    try:
        raw = javajson.loads(header)
        if not isinstance(raw, dict):
            raise FrameError("the header is no JSON object")
        known = {
            name: raw[name]
            for name in ("code", "flag", "opaque", "version", "language", "remark")
            if raw.get(name) is not None
        }
        if not isinstance(known.get("language", ""), str):
            known["language"] = str(known["language"])
        command = msgspec.convert(known, Command, strict=False)
        command.ext = msgspec.Raw(_encode_json(raw.get("extFields") or {}))
        return command
    except (javajson.JavaJsonError, msgspec.MsgspecError, TypeError) as error:
        raise FrameError(f"the header is no command: {error}") from error


def _decode_binary(header: bytes) -> Command:
    try:
        code, language, version, opaque, flag, remark_size = _BINARY.unpack_from(header)
        position = _BINARY.size
        if remark_size < 0 or position + remark_size + 4 > len(header):
            raise FrameError(f"remark of {remark_size} bytes in a header of {len(header)}")
        remark = header[position : position + remark_size].decode() or None
        position += remark_size
        ext_size = int.from_bytes(header[position : position + 4], "big", signed=True)
        position += 4
        if ext_size < 0 or position + ext_size > len(header):
            raise FrameError(f"extension fields of {ext_size} bytes in a header of {len(header)}")
        fields = _decode_binary_fields(header[position : position + ext_size])
    except (struct.error, UnicodeDecodeError) as error:
        raise FrameError(f"binary header of {len(header)} bytes cannot be read: {error}") from error
    name = LANGUAGES[language] if 0 <= language < len(LANGUAGES) else None
    return Command(
        code, flag, opaque, version, name, remark, msgspec.Raw(_encode_json(fields)) if fields else _EMPTY_EXT
    )


def _decode_binary_fields(data: bytes) -> dict[str, str]:
    fields: dict[str, str] = {}
    position = 0
    while position < len(data):
        (name_size,) = struct.unpack_from(">h", data, position)
        name_end = position + 2 + name_size
        (value_size,) = struct.unpack_from(">i", data, name_end)
        end = name_end + 4 + value_size
        if name_size < 0 or value_size < 0 or end > len(data):
            raise FrameError(f"extension field at byte {position} does not fit {len(data)} bytes")
        if value_size:
            fields[data[position + 2 : name_end].decode()] = data[name_end + 4 : end].decode()
        position = end
    return fields
