"""Strategies for heads near the grammar: valid ones, and valid ones with a few bytes or lines changed."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import Phase, find, settings
from hypothesis import strategies as st

CRLF = b"\r\n"


def _one_of(*groups: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy for the members of all `groups`; whatever stands there twice comes twice as often."""
    return st.sampled_from([member for group in groups for member in group])


_METHODS = _one_of(
    b"GET GET GET GET HEAD POST PUT DELETE OPTIONS PATCH get Post M-SEARCH PROPFIND CONNECT TRACE !#$%".split(),
    [b"A" * 16, b"A" * 17],
)
_TARGETS = _one_of(
    [b"/", b"/", b"/a/b?c=d&e=%20", b"//", b"/..//*", b"/#f", b"/?a?b#c", b"/http://b/", b"*", b"a", b"b:80"],
    b"http://b http://b/ http://b:81/c?d HTTP://b?d http://[::1]/x http://u@b/ https://b/ http:// http://b#f".split(),
)
_VERSIONS = _one_of(
    [b"HTTP/1.1"] * 8, [b"HTTP/1.0"] * 3, b"HTTP/1.2 HTTP/2.0 HTTP/0.9 http/1.1 HTTP/1.10 HTTP/11 HTTP/1,1".split()
)
_STATUSES = _one_of([b"200"] * 6, b"100 101 103 201 204 206 301 304 404 500 599 600 099 20 2000 1xx".split())
_REASONS = _one_of([b"OK", b"OK", b"Not Found", b"", b"O\tK", b"d\xe9j\xe0", b"a  b", b"OK ", b" OK", b"~!", b"200"])
_NAMES = _one_of(
    b"A a X-Custom Accept User-Agent Cookie cookie Via Date Expect Trailer Server Set-Cookie Referer".split(),
    b"Host host HOST Connection Connection connection Keep-Alive Proxy-Connection TE Upgrade HTTP2-Settings".split(),
    b"Forwarded X-Real-IP X_Real_IP X-Request-Id x_request_id X-Forwarded-For X-Forwarded-Host X_Forwarded_For".split(),
    b"Content-Length content-length Transfer-Encoding transfer-encoding Content_Length !#$%&'*+.^_`|~09azAZ-".split(),
)
_VALUES = _one_of(
    [b"b", b"b c", b"1", b"", b"b,c", b'"a\\"b"', b"a:b", b":", b"~", b"\xe9", b"a\xffb", b"a\tb", b"a  b", b"x" * 300],
    b"text/html,*/*;q=0.8 close keep-alive Keep-Alive,Close a,host,via A h2c trailers 100-continue chunked".split(),
    [b"h", b"h:80", b"[::1]:80", b"h:99999", b"a/b", b"a, Content-Length, x-custom"],
)
_OPTIONS = _one_of(
    b"close Close keep-alive Keep-Alive Keep-Alive,Close a,host,via A x-custom,cookie x-forwarded-for upgrade".split(),
    [b"a, Content-Length , date", b"", b",", b"b\t,a", b"transfer-encoding", b"keep-alive, a", b"expect,te"],
)
_LENGTHS = _one_of(
    [b"0", b"5", b"5", b"007", b"5, 5", b"+5", b"9" * 18, b"9" * 19, b"5 5", b"", b"\xb2", b"5_0", b"0x5"]
)
_CODINGS = _one_of([b"chunked"] * 3, [b"Chunked", b"gzip", b"gzip, chunked", b"chunked, chunked", b"", b"x"])
_SEPARATORS = _one_of([b": "] * 8, [b":", b":  ", b":\t", b" : ", b": \t"])
_ENDS = _one_of([b""] * 9, [b" ", b"\t"])
_NASTY = _one_of(
    [b"\r", b"\n", b"\r\n", b"\r\n ", b"\r\r\n", b"\n\n", b"\x00", b"\t", b" ", b":", b",", b";"],
    [b"\x0b", b"\x0c", b"\x1c", b"\x1f", b"\x7f", b"\x80", b"\x85", b"\xa0", b"\xff", b"A", b"0", b"/", b"#"],
)
_FRAMING = _one_of([b"", b"", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"content-length:5"])


def _value_for(name: bytes) -> st.SearchStrategy[bytes]:
    key = name.lower()
    if key == b"content-length":
        return _LENGTHS
    if key == b"transfer-encoding":
        return _CODINGS
    if key == b"connection":
        return _OPTIONS
    return _VALUES


@st.composite
def field_lines(draw: st.DrawFn) -> bytes:
    name = draw(_NAMES)
    return name + draw(_SEPARATORS) + draw(_value_for(name)) + draw(_ENDS)


@st.composite
def plain_lines(draw: st.DrawFn) -> bytes:
    """Lines as everyday clients and servers send them."""
    name = draw(_NAMES.filter(lambda name: name.lower() not in (b"content-length", b"transfer-encoding", b"host")))
    value = draw(
        _value_for(name).filter(lambda value: value.isascii() and value.strip() == value != b"" and b"\t" not in value)
    )
    return name + b": " + value


@st.composite
def _lines(draw: st.DrawFn, first: bytes, *, host: bool) -> list[bytes]:
    """Return a start line and field lines: everyday ones, with a few that are not."""
    lines = draw(st.lists(plain_lines(), max_size=5))
    framing = draw(_FRAMING)
    if framing:
        lines.append(framing)
    lines += draw(st.lists(field_lines(), max_size=2))
    if host:
        lines.append(b"Host: h")
    return [first, *draw(st.permutations(lines))]


@st.composite
def _bent(draw: st.DrawFn, raw: bytes, lines: list[bytes]) -> bytes:
    """Return the head `raw`, made of `lines`, with up to two changes, and complete."""
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        at = draw(st.integers(0, len(raw) - 5))
        what = draw(st.integers(0, 3))
        if what == 0:
            raw = raw[:at] + draw(_NASTY) + raw[at:]
        elif what == 1:
            raw = raw[:at] + draw(_NASTY) + raw[at + 1 :]
        elif what == 2:
            raw = raw[:at] + raw[at + 1 :]
        else:
            raw = raw[: -len(CRLF)] + draw(st.sampled_from(lines)) + CRLF + CRLF
    raw = raw.lstrip(CRLF)
    # A head ends at its first empty line, and there is one.
    return raw[: (raw + CRLF + CRLF).find(CRLF + CRLF)] + CRLF + CRLF


@st.composite
def _heads(draw: st.DrawFn, first: bytes, *, host: bool) -> bytes:
    lines = draw(_lines(first, host=host))
    raw = CRLF.join([*lines, b"", b""])
    return draw(_bent(raw, lines)) if draw(st.booleans()) else raw


@st.composite
def request_heads(draw: st.DrawFn) -> bytes:
    """Return a complete request head, valid or nearly so."""
    first = b" ".join([draw(_METHODS), draw(_TARGETS), draw(_VERSIONS)])
    return draw(_heads(first, host=draw(st.integers(0, 7)) > 0))


@st.composite
def response_heads(draw: st.DrawFn) -> bytes:
    """Return a complete response head, valid or nearly so."""
    first = b" ".join([draw(_VERSIONS), draw(_STATUSES), draw(_REASONS)])
    return draw(_heads(first, host=False))


_GOOD_FRAMINGS = _one_of(
    [
        b"",
        b"",
        b"Content-Length: 5",
        b"content-length:\t05 ",
        b"Transfer-Encoding: chunked",
        b"transfer-encoding:CHUNKED",
    ]
)
_GOOD_METHODS_AND_TARGETS = _one_of(
    [b"GET /", b"POST /a/b?c=d&e=%20", b"get //", b"PUT /..//*", b"M-SEARCH /?a?b", b"OPTIONS *", b"DELETE /http://b/"],
    [b"GET http://b", b"POST http://b:81/c?d", b"PUT HTTP://b?d", b"OPTIONS http://[::1]", b"OPTIONS http://b/x"],
)


@st.composite
def _good_heads(draw: st.DrawFn, first: bytes, lines: list[bytes]) -> bytes:
    """Return a head that is accepted: `lines` among others, whatever their white space, and a framing."""
    for name in draw(st.lists(_NAMES, max_size=6)):
        key = name.lower()
        if key not in (b"host", b"content-length", b"transfer-encoding"):
            lines.append(name + draw(_one_of([b": ", b": ", b":", b": \t"])) + draw(_value_for(name)) + draw(_ENDS))
    if framing := draw(_GOOD_FRAMINGS if first.find(b"HTTP/1.0") < 0 else st.sampled_from([b"", b"Content-Length: 5"])):
        lines.append(framing)
    return CRLF.join([first, *draw(st.permutations(lines)), b"", b""])


@st.composite
def good_request_heads(draw: st.DrawFn) -> bytes:
    """Return a request head that is forwarded."""
    minor = draw(st.sampled_from([1, 1, 1, 0]))
    host = draw(_one_of([b"Host: h", b"HOST:h:80", b"host: [::1]:80 "], [b""] * (1 - minor)))
    first = b"%b HTTP/1.%d" % (draw(_GOOD_METHODS_AND_TARGETS), minor)
    return draw(_good_heads(first, [host] if host else []))


@st.composite
def good_response_heads(draw: st.DrawFn) -> bytes:
    """Return the head of a final response that is passed on."""
    status = draw(_one_of([b"200"] * 4, b"201 204 206 301 304 404 500 599".split()))
    first = b"HTTP/1.%d %b %b" % (draw(st.sampled_from([1, 1, 1, 0])), status, draw(_REASONS))
    return draw(_good_heads(first, []))


def can_make(strategy: st.SearchStrategy[bytes], kind: Callable[[bytes], bool]) -> bool:
    """Fail unless `strategy` makes something of this `kind`: a property that is never met is not tested."""
    return bool(find(strategy, kind, settings=settings(max_examples=3000, phases=[Phase.generate], database=None)))


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """Cut `data` into pieces, often small ones."""
    if draw(st.integers(0, 4)) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
